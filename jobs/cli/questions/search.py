"""``vtag search``: the best moments of a label, or those that look like an example."""

from typing import Any

import click

from jobs.cli.command.answer_options import AnswerForm, answer_options, max_ood_option
from jobs.cli.command.options import COUNT, examples, verbose_option
from jobs.cli.terminal.moment_lines import print_moments


@click.command(
    short_help="Find the best moments of a label, or those like an example.",
    epilog=examples(
        "vtag search tags.parquet biking",
        'vtag search tags.parquet "high jump" --all --top 50 --max-ood 0.9',
        "vtag search s3://bucket/tags Biking --csv",
        "vtag search tags.parquet --like clip.mp4@12.5",
        "vtag search tags.parquet --like a.mp4@3 --like b.jpg --not-like c.mp4@40",
        "vtag search tags.parquet --like a.mp4@3 --mark Rowing --csv > marks.csv",
    ),
)
@click.argument("tags")
@click.argument("label", required=False)
@click.option(
    "--like",
    metavar="EXAMPLE",
    multiple=True,
    help="Instead of LABEL: find what looks like a video (clip.mp4), a moment of it (clip.mp4@SECONDS), or a picture; "
    "can be repeated.",
)
@click.option(
    "--not-like",
    metavar="EXAMPLE",
    multiple=True,
    help="With --like: what the moments should not look like; can be repeated.",
)
@click.option(
    "--model",
    metavar="NAME|FILE",
    help="With --like: the model that made the result, if the result names a file.",
)
@click.option(
    "--mark",
    metavar="LABEL",
    help="With --like: the label of all moments in the answer, a list for `vtag teach`. Correct it where it is wrong.",
)
@click.option("--top", metavar="N", type=COUNT, default=10, show_default=True, help="Number of moments.")
@click.option(
    "--all",
    "several",
    is_flag=True,
    help="Find every segment of a video that is not beside a better one, instead of only the best of each video.",
)
@max_ood_option
@answer_options
@verbose_option
def search(
    tags: str,
    label: str | None,
    like: tuple[str, ...],
    not_like: tuple[str, ...],
    model: str | None,
    mark: str | None,
    top: int,
    several: bool,
    max_ood: float | None,
    form: AnswerForm,
    verbose: bool,
) -> None:
    """Find the moments that show LABEL with the highest confidence, or that look most like an example.

    TAGS is a result of `vtag run`: a file, a folder, or an address. LABEL may be written in any case, and its beginning
    is enough if no other label begins in this way. With --like, TAGS needs embeddings (`vtag run --embeddings`). The
    best moment comes first, and each comes with a command that plays it.

    With --like and --csv, the column label is for you to fill in, or has the LABEL of --mark; guess is the label in
    TAGS. Look at the moments, and write `not LABEL` where one does not show it: then `vtag teach` takes the file.
    """
    if (label is None) == (not like):
        raise click.UsageError(
            "give either a LABEL or --like EXAMPLE." if label is None else "LABEL and --like cannot be used together."
        )
    for name, value in (("--not-like", not_like), ("--model", model), ("--mark", mark)):
        if value and not like:
            raise click.UsageError(f"{name} needs --like.")

    from jobs.browse.player import find_player, with_play_lines
    from jobs.browse.search import search_label

    with form.answering(tags) as answer:
        facts: dict[str, Any]
        finished = answer.finished
        if label is not None:
            named, moments = search_label(finished, label, top, one_per_video=not several, max_ood=max_ood)
            facts = {"label": named}
        else:
            from jobs.browse.marks import to_be_marked
            from jobs.browse.vectors.examples import read_examples
            from jobs.browse.vectors.like import search_like

            facts = {"like": list(like), "not_like": list(not_like)}
            found = read_examples(finished, [*like, *not_like], model)
            wanted, unwanted = found[: len(like)], found[len(like) :]
            moments = search_like(finished, wanted, unwanted, top, one_per_video=not several, max_ood=max_ood)
            moments = to_be_marked(moments, mark or "")
        moments = with_play_lines(finished, moments, find_player())
        answer.give([moments], moments.schema, noun="moment", facts=facts, show=print_moments)
