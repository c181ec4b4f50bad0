"""``vtag run``: tags videos."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import click

from jobs.archive.video import VideoRanges
from jobs.cli.command.endings import SOME_VIDEOS_FAILED, keep
from jobs.cli.command.options import (
    COUNT,
    Duration,
    address_option,
    device_option,
    examples,
    finite,
    json_option,
    model_options,
    precision_option,
    refuse_unused,
    verbose_option,
)
from jobs.cli.terminal.wording import count, printable
from jobs.tagging.run_config import MaxFailures, MaxPrune, RunConfig

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


@click.command(
    short_help="Tag videos: a row per segment, in Parquet.",
    epilog=examples(
        "vtag run /videos --out tags.parquet",
        "vtag run /videos --out tags.parquet --dry-run",
        "vtag run /videos --out tags.parquet --model my.safetensors --overlap 0.5",
        "vtag run /videos --out scan.parquet --every 10s",
        "vtag run /videos --out closer.parquet --only events.csv --overlap 0.5",
        "vtag run @list.txt --out tags --max-failures 5% --json",
        "vtag run s3://bucket/videos --out s3://bucket/tags.parquet",
    ),
)
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@click.option(
    "--out",
    metavar="PATH",
    required=True,
    help="Where to write the result: FILE.parquet for one file, any other name for a folder of part files; also "
    "s3://BUCKET/... An existing result is extended.",
)
@model_options
@click.option(
    "--hop",
    "hop_s",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    callback=finite,
    show_default="no overlap",
    help="Seconds from the start of one window to the start of the next.",
)
@click.option(
    "--every",
    "every_s",
    metavar="TIME",
    type=Duration(),
    help="The same as --hop, with a unit: 10s, 500ms or 2min. More than a window looks at the videos sparsely.",
)
@click.option(
    "--overlap",
    metavar="FRACTION",
    type=click.FloatRange(min=0, max=1, max_open=True),
    callback=finite,
    show_default="no overlap",
    help="Share of a window that overlaps the next one, instead of --hop: with 0.5 each window begins halfway through "
    "the previous one.",
)
@click.option(
    "--only",
    "only_file",
    metavar="FILE",
    help="Tag only these ranges of videos: a CSV file, such as `vtag events --csv` prints, or a Parquet file, with the "
    "columns video, start_s and end_s. Windows that show nothing of them, and other videos, are left out.",
)
@click.option(
    "--fast-decode",
    is_flag=True,
    help="Decode only reference frames, and use the nearest of them for each sample time: faster but less exact, for "
    "H.264, HEVC and MPEG in MP4, MOV, MKV and FLV.",
)
@click.option(
    "--top-k",
    metavar="N",
    type=COUNT,
    default=DEFAULT.top_k,
    show_default=True,
    help="Labels to keep for each segment, the most confident first.",
)
@click.option(
    "--embeddings",
    is_flag=True,
    help="Also write a vector for each segment, by which similar segments are found: NAME.embeddings.parquet. A result "
    "that has them keeps getting them without this option.",
)
@click.option(
    "--batch-size",
    metavar="N",
    type=COUNT,
    show_default="automatic",
    help="Windows that the model classifies in one step.",
)
@device_option
@click.option(
    "--decode-device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default=DEFAULT.decode_device,
    show_default=True,
    help="Device that decodes; auto: the GPUs of the models if a short trial finds them faster than the CPU cores, "
    "else the CPU.",
)
@click.option(
    "--reader",
    type=click.Choice(["auto", "pyav", "decord"]),
    default=DEFAULT.reader,
    show_default=True,
    help="Library that decodes on the CPU; auto: the one that needs less CPU time. Videos that decord would read wrong "
    "are read with pyav.",
)
@precision_option("Number format of the model; auto: bf16 if the hardware supports it, else fp32.")
@click.option(
    "--actors",
    metavar="N",
    type=COUNT,
    show_default="automatic",
    help="Copies of the model that work in parallel.",
)
@address_option("to run on")
@click.option(
    "--ext",
    "extensions",
    metavar="EXT",
    multiple=True,
    help="Also find videos with this file extension, such as .dat; may be repeated. Common extensions (.mp4, .mkv, "
    ".avi, ...) are always found.",
)
@click.option(
    "--exclude",
    metavar="GLOB",
    multiple=True,
    help="Leave out files and folders with this name, such as proxies or '*_old.mp4', or with this whole "
    "path when GLOB has a slash; may be repeated.",
)
@click.option(
    "--include",
    metavar="GLOB",
    multiple=True,
    help="Keep hidden, system or excluded files and folders that match GLOB; may be repeated.",
)
@click.option(
    "-0",
    "--null",
    is_flag=True,
    help="The names in the lists of INPUT are separated by NUL bytes, as by `find -print0`. Usually this is detected.",
)
@click.option(
    "--max-failures",
    metavar="N|P%",
    callback=lambda ctx, param, text: parse_max_failures(text),
    show_default="never",
    help="Stop when more videos than this fail or are read only in part: a number (100) or a percentage of the "
    f"videos done so far (5%, checked from the {MaxFailures.MIN_VIDEOS}th video on).",
)
@click.option(
    "--retry-failed", is_flag=True, help="Also retry videos that an earlier run failed to read, or read only in part."
)
@click.option(
    "--prune",
    is_flag=True,
    help="Remove videos from the result that are certainly gone: their folder in INPUT was listed and lacks them.",
)
@click.option(
    "--max-prune",
    metavar="N|P%",
    callback=lambda ctx, param, text: parse_max_prune(text),
    show_default="10%",
    help="Stop before --prune removes more videos than this: a number (100) or a percentage of the videos in the "
    "result (5%).",
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier result instead of extending it.")
@click.option(
    "--dry-run", is_flag=True, help="Tag nothing; print how many videos, hours of video and windows there are to tag."
)
@click.option("--report", is_flag=True, help="At the end, also make the page of `vtag report`: NAME.report.html.")
@json_option("Print progress and summary as JSON lines on standard output.")
@click.option("-q", "--quiet", is_flag=True, help="Print neither progress nor summary.")
@verbose_option
@click.pass_context
def run(
    ctx: click.Context,
    inputs: tuple[str, ...],
    out: str,
    model: str,
    weights: Path | None,
    frames: int | None,
    hop_s: float | None,
    every_s: float | None,
    overlap: float | None,
    only_file: str | None,
    fast_decode: bool,
    top_k: int,
    embeddings: bool,
    batch_size: int | None,
    device: Literal["auto", "cpu", "cuda"],
    decode_device: Literal["auto", "cpu", "cuda"],
    reader: Literal["auto", "pyav", "decord"],
    precision: Literal["auto", "fp32", "bf16", "fp16"],
    actors: int | None,
    address: str | None,
    extensions: tuple[str, ...],
    exclude: tuple[str, ...],
    include: tuple[str, ...],
    null: bool,
    max_failures: MaxFailures,
    retry_failed: bool,
    prune: bool,
    max_prune: MaxPrune,
    overwrite: bool,
    dry_run: bool,
    report: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Tag videos: one row per segment, with a label and its confidence, in Parquet.

    INPUT is a video, a folder (searched to the bottom), a quoted glob ("/videos/**/*.mp4"), an address
    (s3://bucket/videos), @list.txt with one path per line, or - for such a list on standard input.

    Run the same command again to tag new and changed videos only, or to continue an interrupted job.
    """
    refuse_unused(ctx, dry_run, ["report"], "with --dry-run, no page is made")
    given = {"--hop": hop_s, "--every": every_s, "--overlap": overlap}
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise click.UsageError(f"{' and '.join(names)} set the same thing; give one of them.")
    if overlap is not None:
        hop_s = _hop_of(overlap, model, weights, frames)
    elif every_s is not None:
        hop_s = every_s
    config = RunConfig(
        inputs=inputs,
        out=out,
        model=model,
        weights=weights,
        frames=frames,
        hop_s=hop_s,
        fast_decode=fast_decode,
        only=None if only_file is None else _read_ranges(only_file),
        top_k=top_k,
        embeddings=embeddings,
        batch_size=batch_size,
        device=device,
        decode_device=decode_device,
        reader=reader,
        precision=precision,
        actors=actors,
        address=address,
        extensions=extensions,
        exclude=exclude,
        include=include,
        null=null,
        max_failures=max_failures,
        retry_failed=retry_failed,
        prune=prune,
        max_prune=max_prune,
        overwrite=overwrite,
        verbose=verbose,
    )
    if dry_run:
        _dry_run(ctx, config, as_json, quiet)
    else:
        _run(ctx, config, report, as_json, quiet)


def _run(ctx: click.Context, config: RunConfig, wants_report: bool, as_json: bool, quiet: bool) -> None:
    from jobs.cli.command.tag_with_progress import tag

    page = None
    if wants_report:
        from jobs.browse.report.place import report_location
        from jobs.cli.command.report_with_progress import report_beside

        shown = report_beside(str(config.out))
        page = report_location(shown, "--report")
    summary = tag(config, as_json=as_json, quiet=quiet)
    bad = len(summary.failures)
    if as_json:
        from jobs.cli.terminal.run_report import summary_json

        click.echo(json.dumps({"event": "summary", **summary_json(summary)}))
    elif not quiet:
        from rich.console import Console

        from jobs.cli.terminal.run_report import print_summary

        print_summary(summary, Console())
    else:
        if bad:
            click.echo(f"vtag: {count(bad, 'video')} failed or partial: {summary.videos_out}", err=True)
        for folder in summary.unlisted:
            click.echo(f"vtag: the folder {printable(folder.path)} cannot be listed: {folder.reason}", err=True)
    if page is not None:
        from jobs.browse.segments import open_result
        from jobs.cli.command.report_with_progress import write_report

        silent = quiet or as_json
        finished = open_result(str(config.out))
        write_report(finished, page, shown=shown, address=config.address, quiet=silent, verbose=config.verbose)
        if as_json:
            click.echo(json.dumps({"event": "report", "path": shown}))
    if bad or summary.unlisted:
        ctx.exit(SOME_VIDEOS_FAILED)


def _dry_run(ctx: click.Context, config: RunConfig, as_json: bool, quiet: bool) -> None:
    from jobs.cli.command.tag_with_progress import dry_run_with_progress

    found = dry_run_with_progress(config, quiet=quiet or as_json)
    if as_json:
        click.echo(json.dumps({"event": "dry-run", **asdict(found)}))
    else:
        from rich.console import Console

        from jobs.cli.terminal.run_report import print_dry_run

        print_dry_run(found, Console())
    if found.unlisted:
        ctx.exit(SOME_VIDEOS_FAILED)


def _read_ranges(file: str) -> VideoRanges:
    from jobs.browse.marks import read_ranges
    from tagger.errors import doing

    keep("nothing was changed")
    with doing("reading", file):
        return read_ranges(file)


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
