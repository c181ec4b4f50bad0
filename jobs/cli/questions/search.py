"""``vtag search``: the best moments of a label."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from jobs.cli.command.answer_options import AnswerForm, answer_options, check_forms
from jobs.cli.command.options import COUNT, examples, verbose_option

if TYPE_CHECKING:
    import pyarrow as pa


@click.command(
    short_help="Find the best moments of a label.",
    epilog=examples(
        "vtag search tags.parquet biking",
        'vtag search tags.parquet "high jump" --all --top 50 --max-ood 0.9',
        "vtag search s3://bucket/tags Biking --csv",
    ),
)
@click.argument("tags")
@click.argument("label")
@click.option("--top", metavar="N", type=COUNT, default=10, show_default=True, help="Number of moments.")
@click.option(
    "--all",
    "several",
    is_flag=True,
    help="Find every segment of a video that is not beside a better one, instead of only the best of each video.",
)
@click.option(
    "--max-ood",
    metavar="X",
    type=click.FloatRange(0, 1),
    help="Leave out segments with a higher ood_score, that look unlike what the model was trained on.",
)
@answer_options
@verbose_option
def search(
    tags: str,
    label: str,
    top: int,
    several: bool,
    max_ood: float | None,
    as_json: bool,
    as_csv: bool,
    out: str | None,
    verbose: bool,
) -> None:
    """Find the moments that show LABEL with the highest confidence, best first, each with a command that plays it.

    TAGS is a result of `vtag run`: a file, a folder, or an address. LABEL may be written in any case, and its beginning
    is enough if no other label begins in this way.
    """
    check_forms(("--json", as_json), ("--csv", as_csv), ("--out", out))

    from jobs.browse.player import find_player, with_play_lines
    from jobs.browse.search import search_label
    from jobs.browse.segments import open_result
    from tagger.errors import doing

    with doing("reading", tags):
        finished = open_result(tags)
        form = AnswerForm.from_options(as_json, as_csv, out, finished)
        found, moments = search_label(finished, label, top, one_per_video=not several, max_ood=max_ood)
        moments = with_play_lines(moments, find_player())
        facts = {"result": tags, "model": finished.result.identity.model, "label": found}
        form.give([moments], moments.schema, noun="moment", facts=facts, show=_print)


def _print(tables: "Iterable[pa.Table]") -> None:
    """Prints two lines for each moment: what it is, and the command that plays it, ready to copy."""
    from rich.console import Console
    from rich.text import Text

    from jobs.cli.terminal.wording import count, printable

    console = Console()
    rows = [row for table in tables for row in table.to_pylist()]
    for row in rows:
        times = f"{row['start_s']:.1f} s to {row['end_s']:.1f} s"
        line = Text.assemble(
            (f"{row['confidence']:.2f}", "bold"), f"  {row['label']}  {times}  {printable(row['video'])}"
        )
        console.print(line, soft_wrap=True)
        if row["play"] is not None:
            console.print(Text(f"      {row['play']}", "dim"), soft_wrap=True)
    console.print(count(len(rows), "moment"), highlight=False)
