"""``vtag relabel``: labels the segments of a result anew, from their embeddings."""

import json
import shlex
from typing import TYPE_CHECKING

import click

from jobs.cli.command.endings import keep
from jobs.cli.command.options import COUNT, examples, json_option, verbose_option

if TYPE_CHECKING:
    from jobs.browse.vectors.relabel import Relabelled

LABELS_SHOWN = 10
"""Number of labels in the table."""


@click.command(
    short_help="Label a result anew with another model.",
    epilog=examples(
        "vtag relabel tags.parquet --model mine.safetensors --out new.parquet",
        "vtag relabel tags.parquet --model mine.safetensors --overwrite",
        "vtag relabel s3://bucket/tags --model mine.safetensors --overwrite --json",
    ),
)
@click.argument("tags")
@click.option("--model", metavar="NAME|FILE", required=True, help="Model that gives the new labels.")
@click.option(
    "--out",
    metavar="PATH",
    help="Write the new result here and leave TAGS unchanged: FILE.parquet if TAGS is one, else a folder.",
)
@click.option("--overwrite", is_flag=True, help="Replace the labels of TAGS.")
@click.option(
    "--top-k",
    metavar="N",
    type=COUNT,
    show_default="as in TAGS",
    help="Labels to keep for each segment, the most confident first.",
)
@json_option("Print one JSON object.")
@verbose_option
def relabel(
    tags: str, model: str, out: str | None, overwrite: bool, top_k: int | None, as_json: bool, verbose: bool
) -> None:
    """Label all segments of a result anew with another model, from their embeddings: no video is opened.

    TAGS is a result of `vtag run` with embeddings: a file, a folder, or an address. The model must be made from the one
    that made the embeddings. Only the table of tags is written anew. Afterwards, `vtag run` with the new model goes on
    with the result.
    """
    if overwrite == (out is not None):
        raise click.UsageError("give either --out PATH for a new result or --overwrite to replace the labels of TAGS.")

    from jobs.browse.vectors.relabel import find_answering_model, relabel
    from tagger.errors import doing

    keep(f"the result at {tags} is complete, and the same command labels it again")
    with doing("labelling", tags):
        source = find_answering_model(model)
        done = relabel(tags, source, out, top_k=top_k)
    if done is None:
        if as_json:
            click.echo(json.dumps({"out": tags, "model": source.name, "model_hash": source.hash, "changed": 0}))
        else:
            click.echo(f"{tags}: already has the labels of {source.name} ({source.hash[:12]}); nothing to do")
    elif as_json:
        click.echo(json.dumps(_json(done), ensure_ascii=False))
    else:
        _show(done, model)


def _json(done: "Relabelled") -> dict[str, object]:
    from jobs.browse.vectors.relabel import frequent

    counts = {"videos": done.videos, "segments": done.segments, "changed": done.changed}
    labels = [{"label": label, "before": done.before[label], "after": done.after[label]} for label in frequent(done)]
    return {"out": done.out, "model": done.model, "model_hash": done.model_hash, **counts, "labels": labels}


def _show(done: "Relabelled", model: str) -> None:
    """Prints the labels before and after, the counts, and the next commands."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from jobs.browse.vectors.relabel import frequent
    from jobs.cli.terminal.wording import count, printable

    table = Table(box=None, pad_edge=False)
    table.add_column("label", overflow="fold")
    for heading in ("before", "after"):
        table.add_column(heading, justify="right")
    for label in frequent(done, LABELS_SHOWN):
        table.add_row(Text(printable(label)), f"{done.before[label]:,}", f"{done.after[label]:,}")
    Console().print(table)
    click.echo(
        f"{done.out}: {count(done.videos, 'video')}, {count(done.segments, 'segment')}, {done.changed:,} with another "
        f"label, from {done.model} ({done.model_hash[:12]})"
    )
    for heading, words in (
        ("Its events:", ["events", done.out]),
        ("New videos:", ["run", "VIDEOS", "--model", model, "--out", done.out]),
    ):
        click.echo(f"{heading:<12}{printable(shlex.join(['vtag', *words]))}")
