"""``vtag export``: segments or events in the formats of other tools."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from jobs.cli.command.endings import SOME_VIDEOS_FAILED
from jobs.cli.command.options import examples, frame_rate_option, refuse_unused, verbose_option
from jobs.cli.command.rule_options import MERGING, RuleOptions, rule_options
from jobs.storage.address import is_address

if TYPE_CHECKING:
    from jobs.browse.exporting.exported import ExportedVideo
    from jobs.browse.exporting.files import Unwritten
    from jobs.browse.exporting.formats import FilePerVideo
    from jobs.browse.segments import FinishedResult

IN_ONE_FILE = ("csv", "jsonl", "otio", "activitynet", "labelstudio", "labelstudio-config", "fiftyone")
A_FILE_PER_VIDEO = ("webvtt", "srt", "chapters", "lossless-cut", "edl", "elan", "xmp", "nfo")
"""The names of ``jobs.browse.exporting.formats``, whose modules are heavy to import."""


@click.command(
    short_help="Write segments or events in the formats of other tools.",
    epilog=examples(
        "vtag export tags.parquet --format csv > segments.csv",
        "vtag export tags.parquet --format srt --events --no-background --beside",
        "vtag export tags.parquet --format chapters --events --out chapters",
        "vtag export tags.parquet --format chapters --write-into --out copies",
        "vtag export s3://bucket/tags --format otio --events --out cut.otio",
    ),
)
@click.argument("tags")
@click.option(
    "--format",
    "name",
    metavar="FORMAT",
    type=click.Choice([*IN_ONE_FILE, *A_FILE_PER_VIDEO]),
    help=f"One file: {', '.join(IN_ONE_FILE)}. A file for each video: {', '.join(A_FILE_PER_VIDEO)}.",
)
@click.option(
    "--out",
    metavar="PATH",
    help="The file, also at an address; or the folder for the files of videos, with the subfolders of the archive. "
    "Default for one file: print it.",
)
@click.option("--beside", is_flag=True, help="Write the file of each video beside the video.")
@click.option("--overwrite", is_flag=True, help="Replace files that are there already. By default they stay.")
@click.option(
    "--write-into",
    is_flag=True,
    help="With --format chapters: write copies of the videos that have the chapters. Nothing is encoded again.",
)
@click.option("--events", is_flag=True, help="Write events, as `vtag events` merges them, instead of segments.")
@rule_options("segments or events")
@frame_rate_option("With --format labelstudio and labelstudio-config")
@verbose_option
@click.pass_context
def export(
    ctx: click.Context,
    tags: str,
    name: str | None,
    out: str | None,
    beside: bool,
    overwrite: bool,
    write_into: bool,
    events: bool,
    rules: RuleOptions,
    frame_rate: float,
    verbose: bool,
) -> None:
    """Write the segments or events of a result in a format of players, editors, labelling tools or media servers.

    TAGS is a result of `vtag run`: a file, a folder, or an address. Times are those of players: they count from the
    start of the file. The formats otio and elan need `pip install 'vtag[export]'`.
    """
    if name is None:
        # Click would list the formats in a line each.
        raise click.UsageError(f"give a format: --format {', '.join([*IN_ONE_FILE, *A_FILE_PER_VIDEO])}.")
    _check(ctx, name, out, beside=beside, write_into=write_into, events=events)

    from jobs.browse.exporting.exported import exported_videos
    from jobs.browse.exporting.formats import FORMATS, About, OneFile
    from jobs.browse.segments import open_result
    from jobs.storage.location import locate
    from tagger.errors import doing

    with doing("reading", tags):
        finished = open_result(tags)
        if out is not None:
            finished.check_outside(locate(out), "--out")
        videos = _Counted(exported_videos(finished, rules.rules(finished), events=events))
        noun = "event" if events else "segment"
        chosen = FORMATS[name]
        if isinstance(chosen, OneFile):
            about = About(tags, finished.result.identity.model, frame_rate)
            _write_one(chosen.parts(videos, about), out, videos, noun, overwrite=overwrite)
            failed = 0
        else:
            failed = _write_each(finished, chosen, videos, out, noun, overwrite=overwrite, write_into=write_into)
    if not videos.spans and not failed:
        click.echo(f"vtag: note: {tags} has no {noun} that these options choose", err=True)
    if videos.unplaced:
        from jobs.cli.terminal.wording import count

        why = "an older vtag tagged them, and did not record when their video starts"
        times = "their times count from the first frame"
        click.echo(f"vtag: note: {count(videos.unplaced, 'video')}: {times}; {why}", err=True)
    if failed:
        ctx.exit(SOME_VIDEOS_FAILED)


def _check(ctx: click.Context, name: str, out: str | None, *, beside: bool, write_into: bool, events: bool) -> None:
    """Raises UsageError for options that do not fit together."""
    is_one = name in IN_ONE_FILE
    refuse_unused(ctx, not events, MERGING, "it is for events; add --events")
    why = "only labelstudio and labelstudio-config count frames by it"
    refuse_unused(ctx, not name.startswith("labelstudio"), ["frame_rate"], why)
    if write_into and name != "chapters":
        raise click.UsageError("--write-into needs --format chapters.")
    if is_one and beside:
        raise click.UsageError(f"--beside is for a file per video; {name} is one file: give --out FILE.")
    if write_into and beside:
        raise click.UsageError("--write-into and --beside cannot be used together: a copy cannot replace its video.")
    if not is_one and (out is None) == (not beside):
        where = "--out FOLDER" if write_into else "either --out FOLDER or --beside"
        raise click.UsageError(f"{name} has a file for each video: give {where}.")
    if not is_one and out is not None and is_address(out):
        raise click.UsageError("--out is an address; files of videos are written to a folder of this machine.")


class _Counted:
    """Yields videos once, and counts their spans, and those of which the start is not recorded."""

    def __init__(self, videos: "Iterable[ExportedVideo]"):
        self._videos = videos
        self.videos = self.spans = self.unplaced = 0

    def __iter__(self) -> "Iterator[ExportedVideo]":
        for video in self._videos:
            self.videos += 1
            self.spans += len(video.spans)
            self.unplaced += video.recorded.stream_start_s is None
            yield video


def _write_one(parts: Iterable[str], out: str | None, videos: _Counted, noun: str, *, overwrite: bool) -> None:
    from jobs.browse.exporting.files import write_one
    from jobs.cli.terminal.wording import count, printable
    from jobs.storage.location import locate

    if out is None:
        for part in parts:
            click.echo(part, nl=False)
        return
    write_one(locate(out), parts, overwrite=overwrite)
    click.echo(f"{printable(out)}: {count(videos.videos, 'video')}, {count(videos.spans, noun)}")


def _write_each(
    finished: "FinishedResult",
    chosen: "FilePerVideo",
    videos: _Counted,
    out: str | None,
    noun: str,
    *,
    overwrite: bool,
    write_into: bool,
) -> int:
    """Writes the files of videos. Returns the number of videos whose file could not be written."""
    from jobs.browse.exporting.files import Written, make_folder, place_beside, place_in, write_each, write_text
    from jobs.browse.exporting.places import mirror_of
    from jobs.browse.exporting.remux import copy_with_chapters
    from jobs.browse.recorded import video_names
    from jobs.cli.terminal.wording import count, printable

    mirror = mirror_of(video_names(finished))
    if out is None:
        place = place_beside(mirror, chosen.ending, keeps_name=chosen.keeps_name)
    else:
        make_folder(Path(out))
        ending = None if write_into else chosen.ending
        place = place_in(Path(out), mirror, ending, keeps_name=chosen.keeps_name)
    write = copy_with_chapters if write_into else write_text(chosen.text)
    written = failed = spans = 0
    found: Written | Unwritten
    for found in write_each(videos, write, place, overwrite=overwrite):
        if isinstance(found, Written):
            written += 1
            spans += found.spans
        else:
            failed += 1
            click.echo(f"vtag: {printable(found.video)}: {printable(found.reason)}", err=True)
    where = "beside the videos" if out is None else printable(out)
    click.echo(f"{where}: {count(written, 'file')}, {count(spans, noun)}")
    return failed
