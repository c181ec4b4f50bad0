"""What training and evaluation show in the terminal."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from training.data_set import DataSet
from training.evaluate import Evaluation
from training.loop import Epoch
from training.recipe import Stage
from training.splits import Split

GROUPED_BY = {
    "name": "have their group from the file name (v_…_gNN_cNN)",
    "folder": "have their group from the folder inside the class folder",
    "file": "have no group: each is its own, so clips of one scene may be on both sides of the split",
}
STAGES = {"train": "Training clips", "val": "Validation clips", "test": "Scoring clips"}


def print_data_set(console: Console, data: DataSet, split: Split) -> None:
    """Prints how many clips there are, how they are grouped and how they are split."""
    console.print(f"{len(data.clips)} clips of {len(data.labels)} classes.", highlight=False)
    for source, clips in data.grouped_by.items():
        who = "All" if clips == len(data.clips) else f"{clips} clips"
        console.print(f"{who} {GROUPED_BY[source]}.", highlight=False)
    console.print(
        f"Split by group: {len(split.train)} training, {len(split.val)} validation, {len(split.test)} test clips.",
        highlight=False,
    )


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

    def on_stage(self, stage: Stage) -> None:
        """A clip has been read."""
        if stage.part not in self._tasks:
            self._tasks[stage.part] = self._bars.add_task(STAGES[stage.part], total=stage.total)
        self._bars.update(self._tasks[stage.part], completed=stage.done)
        if stage.unreadable:
            self._console.print(f"Skipped: {stage.unreadable}", highlight=False, markup=False, soft_wrap=True)
        if stage.done == stage.total and self._bars.disable:
            self._console.print(f"{STAGES[stage.part]}: {stage.done} read", highlight=False)

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
    table = Table(title=title, title_justify="left")
    table.add_column("class")
    for heading in ("precision", "recall", "F1", "videos"):
        table.add_column(heading, justify="right")
    for row in evaluation.videos.classes:
        table.add_row(row.label, *(f"{value:.3f}" for value in (row.precision, row.recall, row.f1)), str(row.support))
    table.add_section()
    for name, scores in (("macro average, videos", evaluation.videos), ("macro average, windows", evaluation.windows)):
        averages = (f"{value:.3f}" for value in (scores.precision, scores.recall, scores.f1))
        table.add_row(name, *averages, str(scores.examples))
    console.print(table)
    console.print(
        f"Accuracy: {evaluation.videos.accuracy:.3f} of videos, {evaluation.windows.accuracy:.3f} of windows.",
        highlight=False,
    )
    if evaluation.unreadable:
        console.print(f"{evaluation.unreadable} clips could not be read and are not counted.", highlight=False)
