"""The options of commands that answer questions about a result, and the form of their answers."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

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
    """``--json``, ``--csv`` and ``--out``: the forms of an answer, instead of a table."""
    command = click.option(
        "--out",
        metavar="FILE.parquet",
        help="Write all rows to a Parquet file, also at an address; an earlier answer there is replaced.",
    )(command)
    return json_option("Print one JSON object.")(csv_option(command))


def max_ood_option(command: Command) -> Command:
    """``--max-ood``: the highest OOD score of a segment that counts."""
    return click.option(
        "--max-ood",
        metavar="X",
        type=click.FloatRange(0, 1),
        callback=finite,
        help="Leave out segments with a higher ood_score, that look unlike what the model was trained on.",
    )(command)


def check_forms(*forms: tuple[str, object]) -> None:
    """Raises UsageError when more than one of ``forms``, names and values of options, is given."""
    given = [name for name, value in forms if value]
    if len(given) > 1:
        raise click.UsageError(f"{' and '.join(given)} cannot be used together.")


@dataclass(frozen=True)
class AnswerForm:
    """The form in which an answer is given, made from the options of ``answer_options``."""

    as_json: bool
    as_csv: bool
    out: "Location | None"

    @classmethod
    def from_options(cls, as_json: bool, as_csv: bool, out: str | None, finished: "FinishedResult") -> "AnswerForm":
        """Checks ``--out``. Raises OutputError when no answer about ``finished`` can be written there."""
        from jobs.browse.answer_file import answer_location

        return cls(as_json, as_csv, None if out is None else answer_location(out, finished))

    def give(
        self,
        tables: Iterable["pa.Table"],
        schema: "pa.Schema",
        *,
        noun: str,
        facts: Mapping[str, Any],
        columns: Sequence[Column] = (),
        show: Callable[[Iterable["pa.Table"]], None] | None = None,
    ) -> None:
        """Gives the rows of ``tables``, which are of ``schema``. ``noun`` names a row.

        For people, ``show`` prints them, or else a table with ``columns``. ``facts`` begin the JSON object.
        """
        from jobs.browse.answer_file import write_answer
        from jobs.cli.terminal.wording import count

        if self.out is not None:
            click.echo(f"{self.out}: {count(write_answer(self.out, tables, schema), noun)}")
        elif self.as_json:
            print_json(facts, f"{noun}s", tables)
        elif self.as_csv:
            print_csv(schema.names, tables)
        elif show is not None:
            show(tables)
        else:
            print_table(columns, tables, noun)
