"""``vtag compact``: merges part files."""

import click

from jobs.cli.command.options import verbose_option


@click.command(short_help="Merge the part files of a result.")
@click.argument("path")
@click.option("--out", metavar="PATH", help="Write the merged result here, FILE.parquet for one file; PATH stays.")
@verbose_option
def compact(path: str, out: str | None, verbose: bool) -> None:
    """Merge the part files of the folder at PATH into as few as there can be, sorted.

    Each `vtag run` adds part files to a result that is a folder. Readers of the manifest never see anything but the
    complete result.
    """
    from jobs.cli.terminal.wording import count
    from jobs.result.compact import compact

    done = compact(path, out)
    click.echo(f"{out or path}: {count(done.videos, 'video')}, {count(done.segments, 'segment')}")
