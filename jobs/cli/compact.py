"""``vtag compact``: merges the part files of a result."""

import click

from jobs.cli.command.endings import keep
from jobs.cli.command.options import examples, verbose_option


@click.command(
    short_help="Merge the part files of a result.",
    epilog=examples("vtag compact tags", "vtag compact tags --out tags.parquet"),
)
@click.argument("path")
@click.option(
    "--out",
    metavar="PATH",
    show_default="merge in place",
    help="Write the merged result here and leave PATH unchanged: FILE.parquet for one file, else a folder.",
)
@verbose_option
def compact(path: str, out: str | None, verbose: bool) -> None:
    """Merge the part files of the result in the folder PATH into as few files as possible, sorted.

    Each `vtag run` adds part files to a result folder. Its manifest.json names a complete result at any time, also
    while part files are merged. Programs that have read the manifest before must then read it again.
    """
    from jobs.cli.terminal.wording import count
    from jobs.result.rewrite.compact import compact
    from tagger.errors import doing

    keep(f"the result at {path} is complete, and the same command merges its part files again")
    with doing("merging the part files of", path):
        done = compact(path, out)
    click.echo(f"{out or path}: {count(done.videos, 'video')}, {count(done.segments, 'segment')}")
