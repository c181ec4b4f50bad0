"""The printed reports of trials, models trained only for their scores: a split at random, and folds."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.cli.terminal.data_set_report import LEAK
from jobs.cli.terminal.wording import count
from training.evaluation.evaluate import Evaluation
from training.fitting.trial import FoldResult, spread
from training.fitting.watch import Reading


class FoldProgress:
    """Prints a line for each finished fold, and one line for each clip that could not be read."""

    def __init__(self, console: Console, folds: int):
        self._console, self._folds = console, folds
        self._done = 0
        self._printed: set[str] = set()

    def on_fold(self, result: FoldResult) -> None:
        """Prints the scores of a finished fold."""
        for problem in result.unreadable:
            self._print_skipped(problem)
        self._done += 1
        scores = result.evaluation
        self._console.print(
            f"Fold {self._done}/{self._folds}, without {result.name}: {scores.videos.accuracy:.3f} of videos, "
            f"{scores.windows.accuracy:.3f} of windows right; best epoch {result.best_epoch}",
            highlight=False,
            markup=False,
        )

    def on_reading(self, reading: Reading) -> None:
        """Prints that a clip could not be read. Each clip is read once, for all folds."""
        if reading.unreadable:
            self._print_skipped(reading.unreadable)

    def _print_skipped(self, problem: str) -> None:
        if problem not in self._printed:
            self._printed.add(problem)
            self._console.print(f"Skipped: {problem}", highlight=False, markup=False, soft_wrap=True)


def print_leak(console: Console, leaking: Evaluation, by_group: Evaluation) -> None:
    """Prints the scores of a split at random next to those of a split by group."""
    console.print(f"\n{LEAK}", highlight=False, style="yellow")
    table = Table()
    table.add_column("split")
    for heading in ("videos", "accuracy, videos", "accuracy, windows"):
        table.add_column(heading, justify="right")
    for name, scores in (("at random (leaks)", leaking), ("by group", by_group)):
        table.add_row(
            name, str(scores.videos.examples), f"{scores.videos.accuracy:.3f}", f"{scores.windows.accuracy:.3f}"
        )
    console.print(table)


def print_folds(console: Console, results: Sequence[FoldResult]) -> None:
    """Prints the scores of each fold, their mean and their standard deviation."""
    table = Table(title="Leave one group out", title_justify="left")
    table.add_column("left out", overflow="fold")
    for heading in ("videos", "accuracy, videos", "accuracy, windows"):
        table.add_column(heading, justify="right", no_wrap=True)
    by_video = [result.evaluation.videos.accuracy for result in results]
    by_window = [result.evaluation.windows.accuracy for result in results]
    for result, video, window in zip(results, by_video, by_window, strict=True):
        table.add_row(Text(result.name), str(result.evaluation.videos.examples), f"{video:.3f}", f"{window:.3f}")
    videos, windows = spread(by_video), spread(by_window)
    table.add_section()
    total = str(sum(result.evaluation.videos.examples for result in results))
    table.add_row("mean", total, f"{videos.mean:.3f}", f"{windows.mean:.3f}")
    table.add_row("standard deviation", "", f"{videos.deviation:.3f}", f"{windows.deviation:.3f}")
    console.print(table)
    console.print(
        f"Accuracy: {videos.mean:.3f} ± {videos.deviation:.3f} of videos, {windows.mean:.3f} ± {windows.deviation:.3f} "
        f"of windows, over {count(len(results), 'fold')}.",
        highlight=False,
    )
