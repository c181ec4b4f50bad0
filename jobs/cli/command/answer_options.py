"""The options of commands that answer questions about a result, and the form of their answers."""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from jobs.cli.command.options import finite, json_option
from jobs.cli.terminal.answers import Column, print_csv, print_json, print_table

if TYPE_CHECKING:
    import pyarrow as pa

    from jobs.browse.segments import FinishedResult
    from jobs.storage.location import Location

Command = TypeVar("Command", bound=Callable[..., Any])


def csv_option(command: Command) -> Command:
    """``--csv``, passed to the command as ``as_csv``."""
    return click.option("--csv", "as_csv", is_flag=True, help="Print CSV with a header.")(command)


def answer_options(command: Command) -> Command:
    """``--json``, ``--csv`` and ``--out``, passed to the command together as ``form``, an AnswerForm."""

    @functools.wraps(command)
    def with_form(*args: Any, as_json: bool, as_csv: bool, out: str | None, **options: Any) -> Any:
        check_forms(("--json", as_json), ("--csv", as_csv), ("--out", out))
        return command(*args, form=AnswerForm(as_json, as_csv, out), **options)

    with_out = click.option(
        "--out",
        metavar="FILE.parquet",
        help="Write all rows to a Parquet file, also at an address; an earlier answer there is replaced.",
    )(with_form)
    return cast(Command, json_option("Print one JSON object.")(csv_option(with_out)))


def max_ood_option(command: Command) -> Command:
    """``--max-ood``: the highest OOD score of a segment that counts."""
    return click.option(
        "--max-ood",
        metavar="X",
        type=click.FloatRange(0, 1),
        callback=finite,
        help="Leave out segments with a higher ood_score: they look unlike what the model was trained on.",
    )(command)


def check_forms(*forms: tuple[str, object]) -> None:
    """Raises UsageError when more than one of ``forms``, names and values of options, is given."""
    given = [name for name, value in forms if value]
    if len(given) > 1:
        raise click.UsageError(f"{' and '.join(given)} cannot be used together.")


@dataclass(frozen=True)
class AnswerForm:
    """The form of an answer, as the user typed it. None of the three: a table for people."""

    as_json: bool
    as_csv: bool
    out: str | None

    @contextlib.contextmanager
    def answering(self, tags: str) -> "Iterator[Answer]":
        """Opens the result ``tags``. Raises OutputError when there is none, or no answer can be written to ``--out``.

        An unexpected error inside the block is described as one of reading ``tags``.
        """
        from jobs.browse.answer_file import answer_location
        from jobs.browse.segments import open_result
        from tagger.errors import doing

        with doing("reading", tags):
            finished = open_result(tags)
            yield Answer(finished, self, None if self.out is None else answer_location(self.out, finished))


@dataclass(frozen=True)
class Answer:
    """An answer about the result ``finished``, in a form. ``out`` is the place of its file, if it has one."""

    finished: "FinishedResult"
    form: AnswerForm
    out: "Location | None"

    def give(
        self,
        tables: Iterable["pa.Table"],
        schema: "pa.Schema",
        *,
        noun: str,
        facts: Mapping[str, Any] | None = None,
        columns: Sequence[Column] = (),
        show: Callable[[Iterable["pa.Table"]], None] | None = None,
    ) -> None:
        """Gives the rows of ``tables``, which are of ``schema``. ``noun`` names a row.

        For people, ``show`` prints them, or else a table with ``columns``. ``facts`` are in the JSON object, after the
        result and its model.
        """
        from jobs.browse.answer_file import write_answer
        from jobs.cli.terminal.wording import count

        if self.out is not None:
            click.echo(f"{self.out}: {count(write_answer(self.out, tables, schema), noun)}")
        elif self.form.as_json:
            about = {"result": self.finished.path, "model": self.finished.result.identity.model}
            print_json({**about, **(facts or {})}, f"{noun}s", tables)
        elif self.form.as_csv:
            print_csv(schema.names, tables)
        elif show is not None:
            show(tables)
        else:
            print_table(columns, tables, noun)
