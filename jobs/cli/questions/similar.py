"""``vtag similar``: stretches of video that are there more than once."""

import click

from jobs.cli.command.answer_options import AnswerForm, answer_options, check_forms
from jobs.cli.command.options import examples, finite, verbose_option
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


MIN_SIMILARITY = 0.93
"""Lowest similarity of two segments by default. The benchmark ``copies`` measures it."""


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
    default=MIN_SIMILARITY,
    show_default=True,
    help="Lowest cosine of the embeddings of two segments.",
)
@click.option(
    "--min-duration",
    metavar="SECONDS",
    type=click.FloatRange(0),
    callback=finite,
    default=0,
    help="Leave out shorter stretches.",
)
@click.option("--within", is_flag=True, help="Also find stretches that repeat within one video.")
@answer_options
@verbose_option
def similar(
    tags: str,
    min_similarity: float,
    min_duration: float,
    within: bool,
    as_json: bool,
    as_csv: bool,
    out: str | None,
    verbose: bool,
) -> None:
    """Find stretches that two videos share: copies that were cut, encoded again, or uploaded again.

    TAGS is a result of `vtag run` with embeddings: a file, a folder, or an address. Segments with a similarity of X or
    more are merged along the time of both videos. A higher X finds fewer copies and fewer scenes that only look alike.
    """
    check_forms(("--json", as_json), ("--csv", as_csv), ("--out", out))

    from jobs.browse.segments import open_result
    from jobs.browse.vectors.similar import SIMILAR_SCHEMA, find_similar
    from tagger.errors import doing

    with doing("reading", tags):
        finished = open_result(tags)
        form = AnswerForm.from_options(as_json, as_csv, out, finished)
        found = find_similar(finished, min_similarity, min_duration, within=within)
        if found.dropped:
            click.echo(
                f"vtag: note: {tags} has so many pairs of similar segments that only the most similar of them count, "
                f"those from {found.min_similarity:.4f} on",
                err=True,
            )
        facts = {"result": tags, "model": finished.result.identity.model, "min_similarity": found.min_similarity}
        form.give([found.stretches], SIMILAR_SCHEMA, noun="pair", facts=facts, columns=SHOWN)
