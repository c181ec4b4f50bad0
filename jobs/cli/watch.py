"""``vtag watch``: tags the videos of a folder as they arrive."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import click

from jobs.cli.command.endings import InterruptedEnding, keep
from jobs.cli.command.options import Duration, examples, json_option, model_options, verbose_option
from jobs.cli.command.tagging_options import hop_options, prune_options, tagging_options
from jobs.storage.address import is_address
from jobs.tagging.run_config import RunConfig


@click.command(
    short_help="Tag the videos of a folder as they arrive.",
    epilog=examples(
        "vtag watch /videos --out tags",
        "vtag watch /videos --out tags --model my.safetensors --settle 30s",
        "vtag watch s3://bucket/videos --out s3://bucket/tags --json",
    ),
)
@click.argument("source", metavar="SOURCE")
@click.option(
    "--out",
    metavar="PATH",
    required=True,
    help="Where to write the result: FILE.parquet for one file, any other name for a folder of part files; also "
    "s3://BUCKET/... An existing result is extended.",
)
@click.option(
    "--settle",
    "settle_s",
    metavar="TIME",
    type=Duration(),
    default="5s",
    show_default=True,
    help="A video is complete when it has not changed for this time, and no program has it open for writing.",
)
@model_options
@hop_options
@tagging_options
@prune_options
@json_option("Print progress, summaries and notes as JSON lines on standard output.")
@click.option("-q", "--quiet", is_flag=True, help="Print only notes and failures.")
@verbose_option
def watch(source: str, out: str, settle_s: float, as_json: bool, quiet: bool, **options: Any) -> None:
    """Tag the videos of a folder as they arrive: those that are there, then each new or changed one.

    SOURCE is a folder (watched to the bottom) or an address (s3://bucket/videos). Videos that arrive together are one
    job, which is that of `vtag run`.

    The command runs until Ctrl-C or SIGTERM. Given again, it continues: nothing is lost or tagged twice.
    """
    if not is_address(source) and os.path.lexists(source) and not Path(source).is_dir():
        raise click.UsageError(f"{source!r} is not a folder; vtag run tags single files.")
    _watch_folder(RunConfig(inputs=(source,), out=out, **options), settle_s, as_json, quiet)


def _watch_folder(config: RunConfig, settle_s: float, as_json: bool, quiet: bool) -> None:
    from jobs.cli.terminal.watch_lines import job_view, printer
    from jobs.errors import Interrupted
    from jobs.result.output import find_output
    from jobs.watching.folder import watch_folder

    (folder,), out = config.inputs, str(config.out)
    words = f"the result at {out} is safe: finished videos are kept, and the same command continues"
    keep(words, find_output(out).run_folder)
    view = partial(job_view, as_json=as_json, quiet=quiet)
    try:
        watch_folder(
            config,
            settle_s=settle_s,
            on_event=printer(folder, out, as_json=as_json, quiet=quiet),
            show_progress=view,
        )
    except Interrupted as interrupted:
        raise InterruptedEnding(str(interrupted)) from None
