"""``vtag similar``: stretches of video that are there more than once."""

import click

from jobs.cli.command.answer_options import AnswerForm, answer_options
from jobs.cli.command.options import examples, finite, seconds_option, verbose_option
from jobs.cli.terminal.answers import Column

SHOWN = (
    Column("video", "video"),
    Column("start_s", "start", "s"),
    Column("end_s", "end", "s"),
    Column("other", "other"),
    Column("other_start_s", "start", "s"),
    Column("other_end_s", "end", "s"),
    Column("similarity", "similarity"),
)


FITTED_SIMILARITY, RANDOM_SIMILARITY = 0.85, 0.93
"""Lowest similarity of two segments by default: for embeddings that were fitted to their model, and for the others.

The benchmark ``copies`` measures them.
"""


@click.command(
    short_help="Find stretches that two videos share.",
    epilog=examples(
        "vtag similar tags.parquet",
        "vtag similar tags.parquet --min-similarity 0.96 --min-duration 10 --csv",
        "vtag similar s3://bucket/tags --within --out copies.parquet",
    ),
)
@click.argument("tags")
@click.option(
    "--min-similarity",
    metavar="X",
    type=click.FloatRange(0.5, 1),
    callback=finite,
    show_default=f"{FITTED_SIMILARITY}, or {RANDOM_SIMILARITY} for embeddings that are not fitted to their model",
    help="Lowest cosine of the embeddings of two segments.",
)
@seconds_option("--min-duration", "Leave out shorter stretches.")
@click.option("--within", is_flag=True, help="Also find stretches that repeat within one video.")
@answer_options
@verbose_option
def similar(
    tags: str,
    min_similarity: float | None,
    min_duration: float,
    within: bool,
    form: AnswerForm,
    verbose: bool,
) -> None:
    """Find stretches that two videos share: copies that were cut, encoded again, or uploaded again.

    TAGS is a result of `vtag run` with embeddings: a file, a folder, or an address. Segments with a similarity of X or
    more are merged along the time of both videos. A higher X finds fewer copies and fewer scenes that only look alike.
    """
    from jobs.browse.vectors.similar import SIMILAR_SCHEMA, find_similar

    with form.answering(tags) as answer:
        if min_similarity is None:
            embeddings = answer.finished.result.identity.embeddings or {}
            min_similarity = RANDOM_SIMILARITY if embeddings.get("space") is None else FITTED_SIMILARITY
        found = find_similar(answer.finished, min_similarity, min_duration, within=within)
        if found.dropped:
            click.echo(
                f"vtag: note: {tags} has so many pairs of similar segments that only the most similar of them count, "
                f"those from {found.min_similarity:.4f} on",
                err=True,
            )
        facts = {"min_similarity": found.min_similarity}
        answer.give([found.stretches], SIMILAR_SCHEMA, noun="pair", facts=facts, columns=SHOWN)
