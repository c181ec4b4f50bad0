"""``vtag report``: a result as one page."""

from pathlib import Path

import click

from jobs.cli.command.options import address_option, examples, verbose_option
from jobs.cli.command.report_with_progress import THUMBNAILS


@click.command(
    short_help="Make a page of a result: timelines, filters, marks.",
    epilog=examples(
        "vtag report tags.parquet --out report.html",
        "vtag report tags.parquet --out report.html --base-url https://nas/videos",
        "vtag report tags.parquet --out report.html --marks marks.csv",
        "vtag report s3://bucket/tags --out report.html --thumbnails 0",
    ),
)
@click.argument("tags")
@click.option("--out", metavar="FILE.html", required=True, help="The page; an earlier report there is replaced.")
@click.option(
    "--base-url",
    metavar="[FOLDER=]URL",
    help="Play videos from this address of FOLDER. Without FOLDER, it is that of the folder in which all videos are. "
    "By default, videos are played from their places on the disk.",
)
@click.option(
    "--marks",
    metavar="FILE.csv",
    type=click.Path(path_type=Path),
    help="Marks that the page begins with: a CSV file that the page saved, or another that `vtag teach` takes.",
)
@click.option(
    "--thumbnails",
    metavar="N",
    type=click.IntRange(0, 5000),
    default=THUMBNAILS,
    show_default=True,
    help="Largest number of pictures of strong moments, at most four of a video; 0: none, and no video is opened.",
)
@address_option("that makes the thumbnails")
@click.option("-q", "--quiet", is_flag=True, help="Print neither progress nor the facts of the page.")
@verbose_option
def report(
    tags: str,
    out: str,
    base_url: str | None,
    marks: Path | None,
    thumbnails: int,
    address: str | None,
    quiet: bool,
    verbose: bool,
) -> None:
    """Make one page of a result that any browser opens: the timeline of each video, filters, and marks.

    TAGS is a result of `vtag run`: a file, a folder, or an address. The page holds all it needs and makes no request,
    except for the videos that you play. It saves marks.csv for `vtag teach` and `vtag train`.
    """
    from jobs.browse.report.place import report_location
    from jobs.browse.segments import open_result
    from jobs.cli.command.report_with_progress import write_report
    from tagger.errors import doing

    with doing("reading", tags):
        finished = open_result(tags)
        location = report_location(out)
        finished.check_outside(location, "--out")
    write_report(
        finished,
        location,
        shown=out,
        thumbnails=thumbnails,
        base_url=base_url,
        marks_file=marks,
        address=address,
        quiet=quiet,
        verbose=verbose,
    )
