"""``vtag watch``: tags a live picture while it is shown, or the videos of a folder as they arrive."""

import contextlib
from functools import partial
from pathlib import Path
from typing import Any

import click

from jobs.cli.command.endings import InterruptedEnding, keep
from jobs.cli.command.options import examples, json_option, model_options, refuse_unused, verbose_option
from jobs.cli.command.tagging_options import hop_options, prune_options, tagging_options
from jobs.cli.command.watch_options import OF_FOLDER, OF_PICTURE, picture_options, settle_option
from jobs.storage.address import is_address, split
from jobs.tagging.run_config import RunConfig
from tagger.errors import doing


@click.command(
    short_help="Tag a camera, a stream, or what arrives in a folder.",
    epilog=examples(
        "vtag watch 0 --page",
        "vtag watch rtsp://camera.local/1 --model x3d-m-kinetics400 --out seen",
        "vtag watch rtsp://camera.local/1 --on biking --exec 'notify-send bike'",
        "vtag watch clip.mp4 --pace",
        "vtag watch /videos --out tags --settle 30s",
    ),
)
@click.argument("source")
@click.option(
    "--out",
    metavar="PATH",
    help="Where to write the result, which is extended if it is there. A folder as SOURCE needs it: FILE.parquet for "
    "one file, any other name for a folder of part files; also s3://BUCKET/... The segments of a picture are kept in a "
    "folder.",
)
@model_options
@hop_options("half a window; of a folder, no overlap")
@picture_options
@settle_option
@tagging_options
@prune_options
@json_option("Print JSON lines on standard output: segments, changes of the label, jobs, and what happens to SOURCE.")
@click.option(
    "-q",
    "--quiet",
    is_flag=True,
    help="Print only changes of the label, and failures; of a folder, notes and failures. With --json, of a folder: "
    "the summary of each job, and notes.",
)
@verbose_option
@click.pass_context
def watch(ctx: click.Context, source: str, out: str | None, as_json: bool, quiet: bool, **options: Any) -> None:
    """Tag a live picture: windows slide over it, and a line tells each change of the label. Or tag the videos of a
    folder: those that are there, then each new or changed one.

    A picture is a camera (/dev/video0, or its number), an address (rtsp://, rtmp://, http:// or https:// with HLS,
    MJPEG or a video, udp:// or tcp:// with MPEG-TS), - for standard input, or a file. A camera or stream that is lost
    is opened again. Its windows overlap by half, if not --hop, --every or --overlap says otherwise. Ray is not used.

    A folder (watched to the bottom) or the address of one (s3://bucket/videos) needs --out. Videos that arrive together
    are one job, which is that of `vtag run`.

    The command runs until Ctrl-C, SIGTERM or SIGHUP. Given again, it continues with the same --out: nothing is lost.
    """
    own_options = {name: options.pop(name) for name in OF_PICTURE}
    if not _is_folder(source):
        refuse_unused(ctx, True, OF_FOLDER, "SOURCE is no folder")
        refuse_unused(ctx, out is None, ["roll_s"], "there is no --out")
        own_options |= {name: value for name, value in options.items() if name not in (*OF_FOLDER, "verbose")}
        _watch_picture(ctx, source, out, as_json, quiet, **own_options)
        return
    refuse_unused(ctx, True, OF_PICTURE, "SOURCE is a folder")
    if out is None:
        from tagger.live.source import PROTOCOLS, without_secrets

        streams = f"the address of a folder, not of a stream ({', '.join(PROTOCOLS)})"
        kind = streams if is_address(source) else "a folder"
        raise click.UsageError(f"{without_secrets(source)!r} is {kind}; also give --out, where the result is written.")
    settle_s = options.pop("settle_s")
    _watch_folder(RunConfig(inputs=(source,), out=out, **options), settle_s, as_json, quiet)


def _is_folder(source: str) -> bool:
    """Checks whether a source is a folder, or an address that is no picture."""
    from tagger.live.source import PROTOCOLS

    return split(source)[0] not in PROTOCOLS if is_address(source) else bool(source) and Path(source).is_dir()


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


def _watch_picture(
    ctx: click.Context,
    source: str,
    out: str | None,
    as_json: bool,
    quiet: bool,
    *,
    labels: tuple[str, ...],
    command: str | None,
    wants_page: bool,
    port: int,
    **options: Any,
) -> None:
    """Watches a picture. ``options`` are further fields of ``WatchConfig``."""
    if bool(labels) != (command is not None):
        raise click.UsageError("--on and --exec belong together; give both.")
    refuse_unused(ctx, command is None, ["in_shell"], "there is no --exec")
    refuse_unused(ctx, not wants_page, ["port"], "there is no --page")
    from jobs.cli.terminal.watch_view import json_summary, print_summary, watch_view
    from jobs.errors import Interrupted
    from jobs.watching.live_page import LivePage, serving
    from jobs.watching.watch_job import WatchConfig, WatchSummary, prepare, run_watch
    from tagger.live.source import without_secrets

    keep("" if out is None else f"the finished parts in {out} are safe, and the same command continues")
    with doing("watching", without_secrets(source)):
        loaded = prepare(WatchConfig(source=source, out=out, labels=labels, command=command, **options))
        summary = WatchSummary(loaded.source.name)
        try:
            with contextlib.ExitStack() as stack:
                page = LivePage(loaded.source.name) if wants_page else None
                if page is not None:
                    url = stack.enter_context(serving(page, port))
                    click.echo(f"vtag: the picture is at {url}", err=True)
                # Without these, the lines are all that the command does.
                is_lasting = bool(out or page or command)
                view = stack.enter_context(watch_view(as_json=as_json, quiet=quiet, is_lasting=is_lasting))
                views = [view] if page is None else [view, page]
                run_watch(loaded, views, summary, None if page is None else page.on_picture)
        except Interrupted as interrupted:
            raise InterruptedEnding(str(interrupted)) from None
        finally:
            if as_json and not quiet:
                json_summary(summary)
    if not (as_json or quiet):
        print_summary(summary, out)
