"""``vtag import``: marks from other tools, as a CSV file for ``vtag teach``."""

from pathlib import Path

import click

from jobs.cli.command.options import examples, frame_rate_option, verbose_option


@click.command(
    "import",
    short_help="Read marks that were made with other tools.",
    epilog=examples(
        "vtag import export.json --tags tags.parquet > marks.csv",
        "vtag import a.eaf b.eaf --tier actions --tags tags --out marks.csv",
        "vtag import activitynet.json --tags tags.parquet --out marks.csv",
    ),
)
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--tags",
    metavar="TAGS",
    help="The result that the marks are for. Videos get their names in it, and times count from the first frame.",
)
@click.option("--out", metavar="FILE.csv", help="The file for the marks, also at an address. Default: print them.")
@click.option("--overwrite", is_flag=True, help="Replace the file if it is there already.")
@frame_rate_option("For files of Label Studio")
@click.option(
    "--tier", "tiers", metavar="NAME", multiple=True, help="For ELAN: only annotations of this tier; can be repeated."
)
@verbose_option
def import_(
    files: tuple[Path, ...],
    tags: str | None,
    out: str | None,
    overwrite: bool,
    frame_rate: float,
    tiers: tuple[str, ...],
    verbose: bool,
) -> None:
    """Read labels that were made with another tool, and write them as marks: CSV for `vtag teach`.

    FILE is an export of Label Studio with timeline labels of videos (CSV, JSON or JSON_MIN), an annotation document of
    ELAN (.eaf), annotations as JSON of ActivityNet, or a CSV file with the columns video, start_s, end_s and label. Its
    content tells which. Without --tags, videos keep the names of FILE, and times are those of players,
    except in CSV files of moments, where they count from the first frame.
    """
    from jobs.browse.exporting.files import write_one
    from jobs.browse.importing.import_marks import import_marks, is_document, marks_text, read_found
    from jobs.browse.segments import open_result
    from jobs.cli.terminal.wording import count, printable
    from jobs.storage.location import locate
    from tagger.errors import doing

    if tiers and not any(map(is_document, files)):
        raise click.UsageError("--tier would change nothing: no FILE is an annotation document of ELAN.")
    found = []
    for path in files:
        with doing("reading", path):
            found += read_found(path, frame_rate, tiers)
    with doing("reading", tags or "the marks"):
        marks, left_out = import_marks(found, None if tags is None else open_result(tags))
    if out is None:
        click.echo(marks_text(marks), nl=False)
    else:
        write_one(locate(out), [marks_text(marks)], overwrite=overwrite)
        videos = len({mark.video for mark in marks})
        click.echo(f"{printable(out)}: {count(len(marks), 'mark')}, {count(videos, 'video')}")
    for has_video, why in (
        (False, "the result has no segments of the video"),
        (True, "the time is outside of the video"),
    ):
        of_kind = [each.words for each in left_out if each.has_video == has_video]
        if of_kind:
            number = count(len(of_kind), "mark")
            click.echo(f"vtag: note: {number} left out, because {why}; the first: {printable(of_kind[0])}", err=True)
    if not marks:
        click.echo(f"vtag: note: no marks in {printable(', '.join(map(str, files)))}", err=True)
