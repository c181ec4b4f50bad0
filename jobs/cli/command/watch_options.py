"""The options of ``vtag watch`` that only a picture has, or only a folder."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from jobs.cli.command.options import Duration, add_options, smooth_option

Command = TypeVar("Command", bound=Callable[..., Any])

OF_PICTURE = ("smooth", "min_confidence", "pace", "roll_s", "labels", "command", "in_shell", "wants_page", "port")
"""The options that only a picture has, by the names that the command gets."""

OF_FOLDER = (
    *("settle_s", "fast_decode", "embeddings", "batch_size", "decode_device", "reader", "actors", "address"),
    *("extensions", "exclude", "include", "prune", "max_prune"),
)
"""The options that only a folder has, by the names that the command gets."""


def settle_option(command: Command) -> Command:
    """``--settle``, passed to the command as ``settle_s``."""
    return click.option(
        "--settle",
        "settle_s",
        metavar="TIME",
        type=Duration(),
        default="5s",
        show_default=True,
        help="Folder: a video is complete when it has not changed for this time, and no program has it open for "
        "writing.",
    )(command)


def picture_options(command: Command) -> Command:
    """The options of a picture: fields of ``WatchConfig`` with the same names, ``wants_page`` and ``port``."""
    return add_options(
        command,
        smooth_option,
        click.option(
            "--min-confidence",
            metavar="X|FILE.csv",
            multiple=True,
            help="Picture: show no label below this confidence. A CSV file with the columns label and min_confidence "
            "gives limits for some labels; can be repeated, for a number and a file.",
        ),
        click.option(
            "--pace",
            is_flag=True,
            help="Show a file, or a recording from standard input or a web server, at its own pace. Without it, a "
            "file is read as fast as the model is.",
        ),
        click.option(
            "--roll",
            "roll_s",
            metavar="TIME",
            type=Duration(),
            default="10min",
            show_default=True,
            help="Picture: time after which the rows of --out are written as a part.",
        ),
        click.option(
            "--on",
            "labels",
            metavar="LABEL",
            multiple=True,
            help="Picture: run the command of --exec each time this label begins; can be repeated.",
        ),
        click.option(
            "--exec",
            "command",
            metavar="CMD",
            help="Command for --on, without a shell. It finds VTAG_LABEL, VTAG_CONFIDENCE, VTAG_TIME, VTAG_START_S and "
            "VTAG_SOURCE in its environment.",
        ),
        click.option("--shell", "in_shell", is_flag=True, help="Give the command of --exec to a shell."),
        click.option(
            "--page", "wants_page", is_flag=True, help="Serve a page with the picture and its labels on this machine."
        ),
        click.option(
            "--port",
            metavar="N",
            type=click.IntRange(0, 65535),
            default=0,
            show_default="a free one",
            help="Port of --page.",
        ),
    )
