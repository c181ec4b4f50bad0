"""The printed reports of an evaluation and of a comparison."""

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.cli.terminal.wording import printable
from training.evaluation.compare import Comparison
from training.evaluation.evaluate import Evaluation
from training.report.report_folder import REPORT
from training.report.tables import (
    CALIBRATION_NOTE,
    CONTEST_NOTE,
    COST_NOTE,
    UNKNOWN_NOTE,
    TextTable,
    averages_table,
    class_table,
    comparison_table,
    confused_lines,
    contest_table,
    interval_note,
    unknown_table,
)

CONFUSIONS_SHOWN = 6
"""Number of confusions that a report names, the most frequent first."""


def print_evaluation(console: Console, evaluation: Evaluation, title: str) -> None:
    """Prints scores by class and over all classes, by video and by window."""
    # Only one score has its interval, so that a row fits 80 columns.
    print_table(console, class_table(evaluation.videos, "videos", with_intervals=("f1",)), title)
    print_table(console, averages_table(evaluation))
    _print_note(console, f"{interval_note(evaluation.videos)} {CALIBRATION_NOTE}")
    if confused := confused_lines(evaluation.videos, CONFUSIONS_SHOWN):
        _print_note(console, f"Most confused videos: {'; '.join(confused)}.")
    if unknown := evaluation.unknown:
        print_table(console, unknown_table(unknown))
        _print_note(console, f"{UNKNOWN_NOTE} Classes that the model does not know: {', '.join(unknown.classes)}.")
    accuracies = f"{evaluation.videos.accuracy:.3f} of videos, {evaluation.windows.accuracy:.3f} of windows"
    console.print(f"Accuracy: {accuracies}.", highlight=False)
    if evaluation.unreadable:
        console.print(f"{evaluation.unreadable} clips could not be read and are not counted.", highlight=False)


def print_comparison(console: Console, comparison: Comparison, title: str) -> None:
    """Prints the scores and costs of all models, the test of each pair, and what each model confuses."""
    print_table(console, comparison_table(comparison), title)
    print_table(console, contest_table(comparison))
    scores = comparison.contenders[0].evaluation.videos
    _print_note(console, f"{interval_note(scores)} {COST_NOTE}")
    _print_note(console, CONTEST_NOTE)
    for contender in comparison.contenders:
        confused = "; ".join(confused_lines(contender.evaluation.videos, CONFUSIONS_SHOWN)) or "none"
        _print_note(console, f"Most confused by {contender.name}: {confused}.")


def print_report_folder(console: Console, folder: Path) -> None:
    """Prints the path of the report."""
    console.print(Text(f"Report: {printable(str(folder / REPORT))}"), soft_wrap=True, highlight=False)


def print_table(console: Console, content: TextTable, title: str | None = None) -> None:
    """Prints a table of names and numbers. Names of classes and files are never read as markup."""
    table = Table(title=None if title is None else Text(printable(title)), title_justify="left")
    first, *others = content.columns
    table.add_column(Text(printable(first)), overflow="fold")
    for column in others:
        table.add_column(Text(printable(column)), justify="right", overflow="fold")
    for row in content.rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    console.print(table)


def _print_note(console: Console, text: str) -> None:
    console.print(Text(printable(text)), highlight=False)
