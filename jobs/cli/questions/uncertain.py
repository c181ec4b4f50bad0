"""``vtag uncertain``: the moments whose marks would teach most."""

import click

from jobs.cli.command.answer_options import AnswerForm, answer_options, max_ood_option
from jobs.cli.command.options import COUNT, examples, verbose_option
from jobs.cli.terminal.answers import Column

SHOWN = (
    Column("video", "video"),
    Column("start_s", "start", "s"),
    Column("end_s", "end", "s"),
    Column("guess", "guess"),
    Column("confidence", "confidence"),
    Column("second_guess", "second guess"),
    Column("margin", "margin"),
)


@click.command(
    short_help="Find the moments to label next.",
    epilog=examples(
        "vtag uncertain tags.parquet",
        "vtag uncertain tags.parquet --top 50 --csv > marks.csv",
        "vtag uncertain tags.parquet --max-ood 0.9 --out next.parquet",
    ),
)
@click.argument("tags")
@click.option("--top", metavar="N", type=COUNT, default=20, show_default=True, help="Number of moments.")
@max_ood_option
@answer_options
@verbose_option
def uncertain(tags: str, top: int, max_ood: float | None, form: AnswerForm, verbose: bool) -> None:
    """Find the moments whose labels would teach a model most: those where it hesitates between two labels.

    TAGS is a result of `vtag run`: a file, a folder, or an address. Of each event only the least certain segment
    counts. If TAGS has embeddings, the moments are also as different from each other as possible. With --csv, the
    column label is empty, for you to fill in.
    """
    from jobs.browse.uncertain import UNCERTAIN_SCHEMA, uncertain_moments

    with form.answering(tags) as answer:
        found = uncertain_moments(answer.finished, top, max_ood=max_ood)
        answer.give([found], UNCERTAIN_SCHEMA, noun="moment", columns=SHOWN)
