"""``vtag cut``: moments as video files, in folders that ``vtag train`` reads."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from jobs.cli.command.answer_options import check_forms, csv_option
from jobs.cli.command.endings import SOME_VIDEOS_FAILED
from jobs.cli.command.options import COUNT, examples, finite, json_option, refuse_unused, seconds_option, verbose_option
from jobs.cli.terminal.answers import Column, print_csv, print_table
from jobs.storage.address import is_address

SHOWN = (
    Column("path", "clip"),
    Column("confidence", "confidence"),
    Column("source_start_s", "start", "s"),
    Column("source_end_s", "end", "s"),
    Column("begins_s", "begins", "s"),
)


@click.command(
    short_help="Cut moments out of their videos.",
    epilog=examples(
        "vtag cut tags.parquet --label biking --out clips",
        "vtag cut tags.parquet --label biking --label diving --top 50 --out clips",
        "vtag cut tags.parquet --label biking --exact --pad 1 --out clips",
        "vtag cut tags.parquet --moments marks.csv --out clips",
    ),
)
@click.argument("tags")
@click.option("--label", "wanted", metavar="LABEL", multiple=True, help="Label of the moments; can be repeated.")
@click.option(
    "--moments",
    "listed",
    metavar="FILE.csv",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Instead of --label: all moments of a CSV file with the columns video, start_s, end_s and label, such as "
    "`vtag uncertain --csv` prints.",
)
@click.option(
    "--out",
    metavar="FOLDER",
    type=click.Path(file_okay=False),
    required=True,
    help="Folder for the clips; clips of earlier commands stay.",
)
@click.option(
    "--top",
    metavar="N",
    type=COUNT,
    default=20,
    show_default=True,
    help="With --label: moments of each label, best first.",
)
@click.option(
    "--min-confidence",
    metavar="X",
    type=click.FloatRange(0, 1),
    callback=finite,
    default=0,
    help="With --label: leave out segments with a lower confidence.",
)
@seconds_option("--pad", "Begin each clip so much earlier, and end it so much later.")
@click.option(
    "--exact",
    is_flag=True,
    help="Encode the frames again, so that a clip begins at its moment. By default packets are copied, beginning at "
    "the key frame before it.",
)
@json_option("Print one JSON object.")
@csv_option
@verbose_option
@click.pass_context
def cut(
    ctx: click.Context,
    tags: str,
    wanted: tuple[str, ...],
    listed: Path | None,
    out: str,
    top: int,
    min_confidence: float,
    pad: float,
    exact: bool,
    as_json: bool,
    as_csv: bool,
    verbose: bool,
) -> None:
    """Cut the moments of a label, or those of a list, out of their videos, into a folder that `vtag train` takes.

    TAGS is a result of `vtag run`: a file, a folder, or an address. A moment is an event: neighbouring segments of the
    label. Those with the highest confidence come first. Each clip is a file FOLDER/LABEL/VIDEO/CLIP, and manifest.csv
    names the video that it comes from, so that `vtag train` never divides a video between training and test.
    """
    check_forms(("--json", as_json), ("--csv", as_csv))
    if bool(wanted) == (listed is not None):
        raise click.UsageError("give either --label LABEL or --moments FILE.csv.")
    refuse_unused(ctx, listed is not None, ["top", "min_confidence"], "with --moments, all moments of the file are cut")
    if is_address(out):
        raise click.UsageError("--out is an address; clips are written to a folder of this machine.")

    import pyarrow as pa

    from jobs.browse.cutting.best_events import best_events
    from jobs.browse.cutting.clips import cut_clips
    from jobs.browse.cutting.manifest import COLUMNS, Clip
    from jobs.browse.labels import find_label
    from jobs.browse.marks import check_videos, read_moments
    from jobs.browse.recorded import read_recorded
    from jobs.browse.segments import open_result, read_labels
    from jobs.cli.terminal.wording import printable
    from jobs.storage.location import locate
    from tagger.errors import doing

    with doing("reading", tags):
        finished = open_result(tags)
        finished.check_outside(locate(out), "--out")
        if listed is None:
            known = read_labels(finished)
            labels = list(dict.fromkeys(find_label(name, known, tags) for name in wanted))
            moments = best_events(finished, labels, min_confidence, top)
        else:
            moments = read_moments(listed)
            labels = list(dict.fromkeys(moment.label for moment in moments))
        recorded = read_recorded(finished, (moment.video for moment in moments))
        check_videos(moments, recorded, tags)
    clips, uncut = [], []
    for found in cut_clips(moments, Path(out), pad_s=pad, exact=exact, recorded=recorded):
        if isinstance(found, Clip):
            clips.append(found)
        else:
            uncut.append(found)
            click.echo(f"vtag: {printable(found.video)}: {printable(found.reason)}", err=True)
    if as_json:
        facts = {"result": tags, "out": out, "labels": labels}
        lists = {"clips": [asdict(clip) for clip in clips], "failures": [asdict(failed) for failed in uncut]}
        click.echo(json.dumps({**facts, **lists}, ensure_ascii=False))
    else:
        table = pa.Table.from_pylist([asdict(clip) for clip in clips]) if clips else pa.table({})
        if as_csv:
            print_csv(COLUMNS, [table])
        elif clips:
            print_table(SHOWN, [table], "clip")
    if not moments and listed is not None:
        click.echo(f"vtag: note: {listed} has no moments", err=True)
    elif not moments:
        wanted_words = f"{printable(' or '.join(labels))} with a confidence of {min_confidence:g} or more"
        click.echo(f"vtag: note: {tags} has no segment of {wanted_words}", err=True)
    if uncut:
        ctx.exit(SOME_VIDEOS_FAILED)
