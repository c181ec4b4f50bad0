"""``vtag teach``: new labels for a model, from marks and the embeddings of a result."""

import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from jobs.cli.command.options import examples, frame_rate_option, json_option, verbose_option
from jobs.storage.address import is_address

if TYPE_CHECKING:
    from jobs.browse.teaching.teach_model import Taught, TaughtLabel

GOOD_VIDEOS = 5
"""Videos in which marks show a label from which on its accuracy is more than a guess."""

MOST_WARNINGS = 3
"""Labels of the model with few marks that get a line each."""


@click.command(
    short_help="Teach a model new labels from a few marks.",
    epilog=examples(
        "vtag teach tags.parquet marks.csv --out mine.safetensors",
        "vtag teach tags.parquet old.csv new.csv --out mine.safetensors",
        "vtag teach tags marks.csv --model mine.safetensors --out b.safetensors",
    ),
)
@click.argument("tags")
@click.argument("marks", metavar="MARKS.csv...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out",
    metavar="FILE.safetensors",
    required=True,
    help="The model file; an earlier one there is replaced.",
)
@click.option(
    "--model",
    metavar="NAME|FILE",
    show_default="the built-in model, if it made TAGS",
    help="The model that made TAGS, which is taught.",
)
@frame_rate_option("For exports of Label Studio")
@json_option("Print one JSON object.")
@verbose_option
def teach(
    tags: str,
    marks: tuple[Path, ...],
    out: str,
    model: str | None,
    frame_rate: float,
    as_json: bool,
    verbose: bool,
) -> None:
    """Teach the model of a result new labels, or correct it, from a few marked moments. No video is opened.

    TAGS is a result of `vtag run` with embeddings: a file, a folder, or an address. MARKS.csv has the columns video,
    start_s, end_s and label, such as a list of `vtag uncertain --csv` whose labels you have filled in. The label can be
    one that the model knows, a new one, or `not LABEL`. Rows without a label are left out. MARKS.csv can also be a CSV
    export of Label Studio with timeline labels of videos.

    The model file knows the old and the new labels. It is for `vtag relabel`, `vtag run --model`, and another `vtag
    teach`.
    """
    if is_address(out):
        raise click.UsageError("--out is an address; a model is written to a file of this machine.")

    from jobs.browse.segments import open_result
    from jobs.browse.teaching.teach_model import teach_model
    from tagger.errors import doing

    with doing("teaching", out):
        taught = teach_model(open_result(tags), marks, Path(out), model, frame_rate)
    if as_json:
        facts = {"result": tags, "model": out, "labels": taught.labels, "temperature": taught.temperature}
        click.echo(json.dumps({**facts, "taught": [asdict(each) for each in taught.taught]}))
    else:
        _print(tags, taught)


def _print(tags: str, taught: "Taught") -> None:
    """Prints a row for each label, a line for each with too few marks, and the next commands."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from jobs.cli.terminal.wording import count, percent, printable

    def shown(share: float | None) -> str:
        return "?" if share is None else percent(share)

    table = Table(box=None, pad_edge=False)
    table.add_column("label", overflow="fold")
    for heading in ("marks", "segments", "videos", "recall", "precision", "share of archive"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in taught.taught:
        marks = f"{each.marks:,}" + (f", not {each.denials:,}" if each.denials else "")
        cells = [f"{printable(each.label)}{' (new)' if each.is_new else ''}", marks]
        cells += [f"{each.segments:,}", f"{each.videos:,}"]
        table.add_row(*map(Text, [*cells, shown(each.recall), shown(each.precision), shown(each.share)]))
    console = Console()
    console.print(table)
    few = [each for each in taught.taught if (each.shown_videos if each.marks else each.videos) < GOOD_VIDEOS]
    known = [each for each in few if not each.is_new]
    # A list of vtag uncertain marks many known labels once or twice: one line for all of them.
    for each in few if len(known) <= MOST_WARNINGS else [each for each in few if each.is_new]:
        console.print(Text(_warning(each)), soft_wrap=True)
    if len(known) > MOST_WARNINGS:
        told = f"{len(known)} labels of the model have marks in fewer than {GOOD_VIDEOS} videos"
        console.print(Text(f"{told}: their accuracy is unknown or a guess"), soft_wrap=True)
    new = sum(each.is_new for each in taught.taught)
    console.print(
        Text(f"{printable(str(taught.out))}: {count(len(taught.labels), 'label')}, {count(new, 'new one')}"),
        soft_wrap=True,
    )
    # A result that is a folder stays one.
    relabelled = "relabelled.parquet" if tags.endswith(".parquet") else "relabelled"
    for heading, words in (
        ("The archive again:", ["relabel", tags, "--model", str(taught.out), "--out", relabelled]),
        ("New videos:", ["run", "VIDEOS", "--model", str(taught.out), "--embeddings", "--out", "new.parquet"]),
    ):
        console.print(Text(f"{heading:<19}{printable(shlex.join(['vtag', *words]))}"), soft_wrap=True)


def _warning(each: "TaughtLabel") -> str:
    from jobs.cli.terminal.wording import count, printable

    known = "its accuracy is unknown" if each.recall is None else "this accuracy is a guess"
    label = printable(each.label)
    found = (
        f"the marks show {label} in {count(each.shown_videos, 'video')}"
        if each.marks
        else f"{label} has marks in {count(each.videos, 'video')}"
    )
    return f"{found}: {known}; mark 5 to 10 more moments in other videos, see vtag search --like and vtag uncertain"
