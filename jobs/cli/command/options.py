"""Options that several commands share, and the form of their examples."""

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from jobs.cli.command.endings import VERBOSE
from jobs.tagging.run_config import RunConfig

Command = TypeVar("Command", bound=Callable[..., Any])


def examples(*lines: str) -> str:
    """The epilog of a command: example command lines, ready to copy."""
    # "\b" keeps click from joining the lines.
    return "\n  ".join(["\b\nExamples:", *lines])


def add_options(command: Command, *options: Callable[[Any], Any]) -> Command:
    """Adds options to a command, in the order in which its help lists them."""
    for option in reversed(options):
        command = option(command)
    return command


COUNT = click.IntRange(1, 1_000_000)
"""The range of an option that counts windows, epochs or processes."""


def finite(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    """A callback that refuses infinity and NaN, which are numbers to click."""
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value} is not a finite number.")
    return value


UNITS_S = {"": 1.0, "ms": 0.001, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
"""Length in seconds of the units of a Duration."""

DURATION = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([a-z]*)", re.ASCII)


class Duration(click.ParamType):
    """A time of more than 0 seconds, such as ``10s``, ``500ms``, ``2min`` or ``1h``, or a number of seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Returns the time in seconds."""
        found = DURATION.fullmatch(str(value).strip().lower())
        unit_s = UNITS_S.get(found[2], math.nan) if found else math.nan
        seconds = float(found[1]) * unit_s if found else math.nan
        if not 0 < seconds < math.inf:
            self.fail(f"{value!r} is no time above 0, such as 10s, 500ms, 2min or 1h.", param, ctx)
        return seconds


def seconds_option(name: str, help: str) -> Callable[[Command], Command]:
    """An option for a time of 0 seconds or more; default: 0."""
    kind = click.FloatRange(0)
    return click.option(name, metavar="SECONDS", type=kind, callback=finite, default=0, help=help)


def _odd(ctx: click.Context, param: click.Parameter, value: int) -> int:
    if value % 2 == 0:
        raise click.BadParameter(f"{value} is even; give an odd number, for as many windows before as after.")
    return value


def smooth_option(command: Command) -> Command:
    """``--smooth``."""
    return click.option(
        "--smooth",
        metavar="N",
        type=COUNT,
        default=1,
        show_default=True,
        callback=_odd,
        help="Average the probabilities of each label over N neighbouring windows, an odd number.",
    )(command)


def refuse_unused(ctx: click.Context, is_unused: bool, options: Sequence[str], why: str) -> None:
    """Raises UsageError when ``is_unused`` and the command line has one of ``options``; ``why`` is the reason.

    ``options`` are the names that the command gets.
    """
    for parameter in ctx.command.params:
        is_given = ctx.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        if is_unused and is_given and parameter.name in options:
            raise click.UsageError(f"{max(parameter.opts, key=len)} would change nothing: {why}.")


def _remember_verbose(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
    ctx.meta[VERBOSE] = value
    return value


def verbose_option(command: Command) -> Command:
    """``--verbose``. It is kept in ``ctx.meta``, where ``one_line_errors`` reads it."""
    return click.option(
        "--verbose", is_flag=True, callback=_remember_verbose, help="Show Ray's log, and the traceback of an error."
    )(command)


def json_option(help: str) -> Callable[[Command], Command]:
    """``--json``, passed to the command as ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help=help)


def model_options(command: Command) -> Command:
    """``--model``, ``--weights`` and ``--frames``: the model that tags."""
    command = click.option(
        "--frames",
        metavar="N",
        type=COUNT,
        show_default="as the model was trained",
        help="Frames that the model sees of each window; only i3d-kinetics400 leaves a choice: 8, or 16 at twice the "
        "cost.",
    )(command)
    command = click.option(
        "--weights",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Read the weights of i3d-kinetics400 or x3d-m-kinetics400 from this file instead of downloading them.",
    )(command)
    return click.option(
        "--model",
        metavar="NAME|FILE",
        default=RunConfig.model,
        show_default=True,
        help="Model to use: a name that `vtag models` lists, or a model file.",
    )(command)


def address_option(use: str) -> Callable[[Command], Command]:
    """``--address``, the Ray cluster. ``use`` says what it is used for: ``to run on``."""
    return click.option(
        "--address",
        metavar="ADDRESS",
        envvar="RAY_ADDRESS",
        show_envvar=True,
        show_default="this machine",
        help=f"Ray cluster {use}; local: this machine, even if RAY_ADDRESS is set.",
    )


def precision_option(help: str) -> Callable[[Command], Command]:
    """``--precision``."""
    choice = click.Choice(["auto", "fp32", "bf16", "fp16"])
    return click.option("--precision", type=choice, default="auto", show_default=True, help=help)


def device_option(command: Command) -> Command:
    """``--device``."""
    return click.option(
        "--device",
        type=click.Choice(["auto", "cpu", "cuda"]),
        default="auto",
        show_default=True,
        help="Device that runs the model; auto: the GPU if there is one, else the CPU.",
    )(command)


def cache_size_option(help_text: str) -> Callable[[Command], Command]:
    """``--cache-size``, in gigabytes of 10^9 bytes."""
    return click.option(
        "--cache-size",
        type=click.FloatRange(0, 1e9),
        callback=finite,
        default=20,
        show_default=True,
        metavar="GB",
        help=help_text,
    )


def cache_options(command: Command) -> Command:
    """``--cache`` and ``--cache-size`` of commands that score models."""
    command = cache_size_option(
        "Maximum size of the folder of --cache, in gigabytes (10^9 bytes); nothing is kept beyond it."
    )(command)
    return click.option(
        "--cache",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="FOLDER",
        help="Read decoded clips and features from this folder, such as that of `vtag train --cache`, and keep "
        "features in it.",
    )(command)


def frame_rate_option(when: str) -> Callable[[Command], Command]:
    """``--frame-rate``, by which Label Studio counts. ``when`` says for what it is used."""
    return click.option(
        "--frame-rate",
        metavar="FPS",
        type=click.FloatRange(0, 1000, min_open=True),
        callback=finite,
        default=24,
        show_default=True,
        help=f"{when}: the frames per second by which Label Studio counts, the frameRate of its tag Video.",
    )
