"""What training and evaluation show in the terminal."""

from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from jobs.wording import printable
from training.compare import Comparison
from training.epochs import Epoch
from training.evaluate import Evaluation
from training.report_folder import REPORT
from training.tables import (
    CALIBRATION_NOTE,
    CONTEST_NOTE,
    COST_NOTE,
    TextTable,
    averages_table,
    class_table,
    comparison_table,
    confused_lines,
    contest_table,
    interval_note,
)
from training.watch import Reading

PAIRS = 6
"""Confusions that are named."""

STAGES = {"train": "Training clips", "val": "Validation clips", "test": "Scoring clips"}


class TrainingProgress:
    """Shows bars for reading clips and one line for each epoch; plain lines when the console is not a terminal."""

    def __init__(self, console: Console):
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal or console.quiet,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def on_reading(self, reading: Reading) -> None:
        """A clip has been read."""
        if reading.part not in self._tasks:
            self._tasks[reading.part] = self._bars.add_task(STAGES[reading.part], total=reading.total)
        self._bars.update(self._tasks[reading.part], completed=reading.done)
        if reading.unreadable:
            self._console.print(f"Skipped: {reading.unreadable}", highlight=False, markup=False, soft_wrap=True)
        if reading.done == reading.total and self._bars.disable:
            self._console.print(f"{STAGES[reading.part]}: {reading.done} read", highlight=False)

    def on_epoch(self, epoch: Epoch) -> None:
        """An epoch has ended."""
        self._console.print(
            f"Epoch {epoch.number:>{len(str(epoch.of))}}/{epoch.of}  "
            f"loss {epoch.train_loss:.3f}, accuracy {epoch.train_accuracy:.3f}; validation: "
            f"loss {epoch.val_loss:.3f}, windows {epoch.val_accuracy:.3f}, videos {epoch.val_video_accuracy:.3f}",
            highlight=False,
        )


def print_evaluation(console: Console, evaluation: Evaluation, title: str) -> None:
    """Prints scores by class and over all classes, by video and by window."""
    # One interval in a row, so that it fits 80 columns.
    print_table(console, class_table(evaluation.videos, "videos", with_intervals=("f1",)), title)
    print_table(console, averages_table(evaluation))
    _print_note(console, f"{interval_note(evaluation.videos)} {CALIBRATION_NOTE}")
    if confused := confused_lines(evaluation.videos, PAIRS):
        _print_note(console, f"Most confused videos: {'; '.join(confused)}.")
    accuracies = f"{evaluation.videos.accuracy:.3f} of videos, {evaluation.windows.accuracy:.3f} of windows"
    console.print(f"Accuracy: {accuracies}.", highlight=False)
    if evaluation.unreadable:
        console.print(f"{evaluation.unreadable} clips could not be read and are not counted.", highlight=False)


def print_comparison(console: Console, comparison: Comparison, title: str) -> None:
    """Prints scores and costs of all models, each pair of them, and what each model confuses."""
    print_table(console, comparison_table(comparison), title)
    print_table(console, contest_table(comparison))
    scores = comparison.contenders[0].evaluation.videos
    _print_note(console, f"{interval_note(scores)} {COST_NOTE}")
    _print_note(console, CONTEST_NOTE)
    for contender in comparison.contenders:
        confused = "; ".join(confused_lines(contender.evaluation.videos, PAIRS)) or "none"
        _print_note(console, f"Most confused by {contender.name}: {confused}.")


def print_report_folder(console: Console, folder: Path) -> None:
    """Prints where the report is."""
    console.print(Text(f"Report: {printable(str(folder / REPORT))}"), soft_wrap=True, highlight=False)


def print_table(console: Console, content: TextTable, title: str | None = None) -> None:
    """Prints a table of names and numbers. Classes and files may be called anything: no markup is read in it."""
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
