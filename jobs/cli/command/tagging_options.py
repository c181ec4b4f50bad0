"""The options of ``vtag run`` that ``vtag watch`` has as well: how videos are found, sampled and tagged."""

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from jobs.cli.command.options import (
    COUNT,
    Duration,
    add_options,
    address_option,
    device_option,
    finite,
    precision_option,
)
from jobs.tagging.run_config import MaxFailures, MaxPrune, RunConfig

Command = TypeVar("Command", bound=Callable[..., Any])

MAX_DIGITS = 18
"""Maximum number of digits of a number of videos."""

DEFAULT = RunConfig(inputs=(), out="")


def parse_max_failures(text: str | None) -> MaxFailures:
    """Reads ``"100"`` (videos) or ``"5%"`` (a share) as MaxFailures; None is no limit."""
    return MaxFailures() if text is None else MaxFailures(*_number_or_share(text))


def parse_max_prune(text: str | None) -> MaxPrune:
    """Reads ``"100"`` (videos) or ``"5%"`` (a share) as MaxPrune; None is the default."""
    return MaxPrune() if text is None else MaxPrune(*_number_or_share(text))


def _number_or_share(text: str) -> tuple[int | None, float | None]:
    number = text.strip()
    if number.isdecimal() and len(number) <= MAX_DIGITS:
        return int(number), None
    try:
        percent = float(number.removesuffix("%")) if number.endswith("%") else math.nan
    except ValueError:
        percent = math.nan
    if not 0 <= percent <= 100:
        raise click.BadParameter(f"{text!r} is neither a number of videos, such as 100, nor a percentage, such as 5%.")
    return None, percent / 100


def hop_options(default: str = "no overlap") -> Callable[[Command], Command]:
    """``--hop``, ``--every`` and ``--overlap``, passed to the command together as ``hop_s``, or None.

    ``default`` is what the help says about None.
    """
    return functools.partial(_add_hop_options, default=default)


def _add_hop_options(command: Command, default: str) -> Command:
    @functools.wraps(command)
    def with_hop(*args: Any, hop_s: float | None, every_s: float | None, overlap: float | None, **options: Any) -> Any:
        given = {"--hop": hop_s, "--every": every_s, "--overlap": overlap}
        names = [name for name, value in given.items() if value is not None]
        if len(names) > 1:
            raise click.UsageError(f"{' and '.join(names)} set the same thing; give one of them.")
        if overlap is not None:
            hop_s = _hop_of(overlap, options["model"], options["weights"], options["frames"])
        elif every_s is not None:
            hop_s = every_s
        return command(*args, hop_s=hop_s, **options)

    decorated: Any = add_options(
        with_hop,
        click.option(
            "--hop",
            "hop_s",
            metavar="SECONDS",
            type=click.FloatRange(min=0, min_open=True),
            callback=finite,
            show_default=default,
            help="Seconds from the start of one window to the start of the next.",
        ),
        click.option(
            "--every",
            "every_s",
            metavar="TIME",
            type=Duration(),
            help="The same as --hop, with a unit: 10s, 500ms or 2min. More than a window looks at the videos sparsely.",
        ),
        click.option(
            "--overlap",
            metavar="FRACTION",
            type=click.FloatRange(min=0, max=1, max_open=True),
            callback=finite,
            show_default=default,
            help="Share of a window that overlaps the next one, instead of --hop: with 0.5 each window begins "
            "halfway through the previous one.",
        ),
    )
    return cast(Command, decorated)


def tagging_options(command: Command) -> Command:
    """The options by which videos are found and tagged: fields of ``RunConfig`` with the same names."""
    return add_options(
        command,
        click.option(
            "--fast-decode",
            is_flag=True,
            help="Decode only reference frames, and use the nearest of them for each sample time: faster but less "
            "exact, for H.264, HEVC and MPEG in MP4, MOV, MKV and FLV.",
        ),
        click.option(
            "--top-k",
            metavar="N",
            type=COUNT,
            default=DEFAULT.top_k,
            show_default=True,
            help="Labels to keep for each segment, the most confident first.",
        ),
        click.option(
            "--embeddings",
            is_flag=True,
            help="Also write a vector for each segment, by which similar segments are found: "
            "NAME.embeddings.parquet. A result that has them keeps getting them without this option.",
        ),
        click.option(
            "--batch-size",
            metavar="N",
            type=COUNT,
            show_default="automatic",
            help="Windows that the model classifies in one step.",
        ),
        device_option,
        click.option(
            "--decode-device",
            type=click.Choice(["auto", "cpu", "cuda"]),
            default=DEFAULT.decode_device,
            show_default=True,
            help="Device that decodes; auto: the GPUs of the models if a short trial finds them faster than the CPU "
            "cores, else the CPU.",
        ),
        click.option(
            "--reader",
            type=click.Choice(["auto", "pyav", "decord"]),
            default=DEFAULT.reader,
            show_default=True,
            help="Library that decodes on the CPU; auto: the one that needs less CPU time. Videos that decord would "
            "read wrong are read with pyav.",
        ),
        precision_option("Number format of the model; auto: bf16 if the hardware supports it, else fp32."),
        click.option(
            "--actors",
            metavar="N",
            type=COUNT,
            show_default="automatic",
            help="Copies of the model that work in parallel.",
        ),
        address_option("to run on"),
        click.option(
            "--ext",
            "extensions",
            metavar="EXT",
            multiple=True,
            help="Also find videos with this file extension, such as .dat; may be repeated. Common extensions (.mp4, "
            ".mkv, .avi, ...) are always found.",
        ),
        click.option(
            "--exclude",
            metavar="GLOB",
            multiple=True,
            help="Leave out files and folders with this name, such as proxies or '*_old.mp4', or with this whole "
            "path when GLOB has a slash; may be repeated.",
        ),
        click.option(
            "--include",
            metavar="GLOB",
            multiple=True,
            help="Keep hidden, system or excluded files and folders that match GLOB; may be repeated.",
        ),
    )


def prune_options(command: Command) -> Command:
    """``--prune`` and ``--max-prune``."""
    return add_options(
        command,
        click.option(
            "--prune",
            is_flag=True,
            help="Remove videos from the result that are certainly gone: their folder was listed and lacks them.",
        ),
        click.option(
            "--max-prune",
            metavar="N|P%",
            callback=lambda ctx, param, text: parse_max_prune(text),
            show_default="10%",
            help="Stop before --prune removes more videos than this: a number (100) or a percentage of the videos in "
            "the result (5%).",
        ),
    )


def _hop_of(overlap: float, model: str, weights: Path | None, frames: int | None) -> float:
    from tagger import find_model

    sampling = find_model(model, weights, frames=frames).info.sampling
    hop_s = sampling.window_s * (1 - overlap)
    if hop_s < sampling.step_s:
        most = 1 - sampling.step_s / sampling.window_s
        raise click.BadParameter(
            f"{overlap:g} is more than windows of {sampling} can overlap; {most:g} at most.", param_hint="--overlap"
        )
    return hop_s
