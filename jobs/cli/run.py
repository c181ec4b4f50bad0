"""``vtag run``: tags videos."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import click

from jobs.archive.video import VideoRanges
from jobs.cli.command.endings import SOME_VIDEOS_FAILED, keep
from jobs.cli.command.options import (
    examples,
    json_option,
    model_options,
    refuse_unused,
    verbose_option,
)
from jobs.cli.command.tagging_options import hop_options, parse_max_failures, prune_options, tagging_options
from jobs.cli.terminal.wording import count, printable
from jobs.tagging.run_config import MaxFailures, MaxPrune, RunConfig


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
@hop_options()
@click.option(
    "--only",
    "only_file",
    metavar="FILE",
    help="Tag only these ranges of videos: a CSV file, such as `vtag events --csv` prints, or a Parquet file, with the "
    "columns video, start_s and end_s. Windows that show nothing of them, and other videos, are left out.",
)
@tagging_options
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
@prune_options
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
