"""``vtag clusters``: an archive by what is in it."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from jobs.cli.command.answer_options import AnswerForm, answer_options
from jobs.cli.command.options import examples, verbose_option
from jobs.cli.terminal.moment_lines import print_moment

if TYPE_CHECKING:
    import pyarrow as pa


@click.command(
    short_help="Group what looks alike, with typical moments.",
    epilog=examples(
        "vtag clusters tags.parquet",
        "vtag clusters tags.parquet --count 50 --moments 5 --csv",
        "vtag clusters s3://bucket/tags --out clusters.parquet",
    ),
)
@click.argument("tags")
@click.option(
    "--count", metavar="N", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Number of clusters."
)
@click.option(
    "--moments",
    metavar="N",
    type=click.IntRange(1, 1000),
    default=3,
    show_default=True,
    help="Typical moments of each cluster, of different videos.",
)
@answer_options
@verbose_option
def clusters(tags: str, count: int, moments: int, form: AnswerForm, verbose: bool) -> None:
    """Group the segments that look alike into clusters, and show the most typical moments of each.

    TAGS is a result of `vtag run` with embeddings: a file, a folder, or an address. The largest cluster comes first,
    with its most frequent labels. Use a typical moment with `vtag search --like` to find more of its kind.
    """
    from jobs.browse.player import find_player, with_play_lines
    from jobs.browse.vectors.clusters import find_clusters

    with form.answering(tags) as answer:
        found = find_clusters(answer.finished, count, moments)
        found = with_play_lines(answer.finished, found, find_player())
        answer.give([found], found.schema, noun="moment", show=_print)


def _print(tables: "Iterable[pa.Table]") -> None:
    """Prints a line for each cluster, and below it the two lines of each of its moments."""
    from rich.console import Console
    from rich.text import Text

    from jobs.cli.terminal.wording import count, printable

    console = Console()
    cluster = 0
    for table in tables:
        for row in table.to_pylist():
            if row["cluster"] != cluster:
                cluster = row["cluster"]
                size = f"{count(row['segments'], 'segment')} ({row['share']:.1%})".replace("%", " %")
                console.print(
                    Text.assemble((f"cluster {cluster}", "bold"), f"  {size}  {printable(row['labels'])}"),
                    soft_wrap=True,
                )
            print_moment(row)
    console.print(count(cluster, "cluster"), highlight=False)
