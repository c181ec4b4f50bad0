"""``vtag probe``: shows what vtag sees in a video, without tagging it."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from jobs.cli.command.endings import SOME_VIDEOS_FAILED
from jobs.cli.command.options import examples, json_option, verbose_option
from jobs.storage.address import is_address
from jobs.tagging.run_config import RunConfig

if TYPE_CHECKING:
    from rich.console import Console

    from tagger.inspection import Inspection
    from tagger.video.facts import VideoFacts


@click.command(
    short_help="Show what vtag sees in a video.",
    epilog=examples(
        "vtag probe clip.mp4",
        "vtag probe clip.mp4 --decode",
        "vtag probe /videos --json | jq 'select(.error_kind)'",
    ),
)
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@click.option(
    "--model",
    metavar="NAME|FILE",
    default=RunConfig.model,
    show_default=True,
    help="Model whose windows are counted: a name that `vtag models` lists, or a model file.",
)
@click.option("--decode", is_flag=True, help="Decode every video to its end, instead of reading only its headers.")
@json_option("Print one line for each video: a JSON object.")
@verbose_option
@click.pass_context
def probe(ctx: click.Context, inputs: tuple[str, ...], model: str, decode: bool, as_json: bool, verbose: bool) -> None:
    """Show what vtag sees in a video, without tagging it.

    Prints the container, codec, size, frame rate, length, number of windows and problems, and which reader decodes the
    video and why. The exit status is 3 when a video cannot be read or is only partly readable.

    INPUT is what `vtag run` takes: a video, a folder, a quoted glob, an address (s3://bucket/videos), @list.txt, or -
    for a list on standard input. A video in a bucket is copied to the local disk for the time of the probe.
    """
    from rich.console import Console

    from jobs.archive.listing import find_videos
    from jobs.archive.probe import inspect
    from jobs.archive.video import video_name
    from tagger import find_model
    from tagger.errors import doing
    from tagger.models.registry import KNOWN_MODELS

    known = KNOWN_MODELS.get(model)
    # find_model would download the weights, which are not needed here.
    info = known.info() if known is not None and known.is_downloaded else find_model(model).info
    console = Console()
    bad = False
    for number, video in enumerate(find_videos(inputs)):
        with doing("reading", video.path):
            inspection = inspect(video.path, info.sampling, info.preprocessing, decode=decode)
        bad = bad or inspection.error_kind is not None
        if as_json:
            # A file name that is not UTF-8 is written as in the tables of a result.
            click.echo(json.dumps({**asdict(inspection), "path": video_name(video.path)}, ensure_ascii=False))
        else:
            if number:
                console.print()
            _print(inspection, console)
    if bad:
        ctx.exit(SOME_VIDEOS_FAILED)


def _relative_path(path: str) -> str:
    """Returns a path below the current folder relative to it, and any other as it is."""
    try:
        here = Path.cwd()
    except FileNotFoundError:  # The current folder was removed.
        return path
    return os.path.relpath(path) if Path(path).is_relative_to(here) else path


def _print(inspection: "Inspection", console: "Console") -> None:
    from rich.table import Table
    from rich.text import Text

    from jobs.cli.terminal.wording import printable

    path = inspection.path
    shown = path if is_address(path) else _relative_path(path)
    console.print(Text(printable(shown), "bold"), soft_wrap=True)
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    if inspection.facts is not None:
        for name, value in _facts(inspection.facts, inspection.rate_varies).items():
            table.add_row(f"  {name}", value)
    if inspection.choice is not None:
        reason = inspection.choice.reason
        table.add_row("  reader", Text(inspection.choice.decoder + (f": {reason}" if reason else "")))
    if inspection.windows is not None:
        table.add_row("  windows", f"{inspection.windows:,}")
    for problem in inspection.problems:
        kind = f"{inspection.error_kind}: " if inspection.error_kind else ""
        text = problem.removeprefix(f"{inspection.path}: ").removeprefix(f"{inspection.path} ")
        table.add_row("  problem", Text(printable(kind + text), "red" if inspection.error_kind else "yellow"))
    console.print(table, highlight=False)


def _facts(facts: "VideoFacts", rate_varies: bool | None) -> dict[str, str]:
    """Returns the facts of a video as text, by the name of the row."""
    from jobs.cli.terminal.wording import amount

    size = f"{facts.width}×{facts.height}"
    if facts.rotation:
        size += f", turned by {facts.rotation}° to stand upright"
    if facts.pixel_aspect != 1:
        width, height = facts.display_size
        size += f", shown as {width:.0f}×{height:.0f} (pixel aspect {facts.pixel_aspect:.3g})"
    rate = "unknown" if facts.fps is None else f"{facts.fps:.5g} frames/s"
    if rate_varies is not None:
        rate += " on average, variable" if rate_varies else ", constant"
    streams = f", the first of {facts.video_streams} video streams" if facts.video_streams > 1 else ""
    return {
        "container": facts.container,
        "codec": facts.codec + streams,
        "size": size,
        "rate": rate,
        "duration": "not declared" if facts.duration_s is None else amount(facts.duration_s),
        "start": f"{facts.stream_start_s:g} s",
    }
