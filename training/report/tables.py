"""Evaluations and comparisons as tables of text, for the terminal and for reports."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from training.evaluation.bootstrap import RESAMPLES, Interval
from training.evaluation.calibration import BINS
from training.evaluation.compare import EXACT_BELOW, Comparison
from training.evaluation.evaluate import Evaluation
from training.evaluation.metrics import Scores, most_confused
from training.evaluation.unknown import THRESHOLD, UnknownScores
from training.fitting.trial import FoldResult, spread

AVERAGES = {
    "accuracy": "accuracy",
    "top5": "accuracy, top 5",
    "precision": "precision, macro",
    "recall": "recall, macro",
    "f1": "F1, macro",
    "weighted_precision": "precision, weighted",
    "weighted_recall": "recall, weighted",
    "weighted_f1": "F1, weighted",
}
"""The averages of ``Scores`` in the order of the table, with their titles."""

CLASS_SCORES = ("precision", "recall", "f1")

COMPARED = ("accuracy", "precision", "recall", "f1")

CALIBRATION_NOTE = (
    f"Calibration error: the average distance between confidence and accuracy, in {BINS} bins. The tagger divides "
    "logits by the temperature of the model file; at temperature 1 they are as the network gives them."
)
COST_NOTE = (
    "A multiplication with its addition counts as two FLOP. Windows/s: the model alone, without decoding, on this "
    "machine, the median of a few timings."
)
UNKNOWN_NOTE = (
    "AUROC: how often footage of a class that the model does not know has a higher energy than footage of one that it "
    "knows; 0.5 is chance. A video has the mean energy of its windows."
)
CONTEST_NOTE = (
    "p: McNemar's test on the videos on which only one of the two is right, exact when they are fewer than "
    f"{EXACT_BELOW}, else with the correction for continuity. The test treats videos as independent, but those of one "
    "group are not. The interval of the difference is over groups and does not have this problem."
)


@dataclass(frozen=True)
class TextTable:
    """A table of text. The first column has names, the others have numbers."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def averages_table(evaluation: Evaluation) -> TextTable:
    """Makes the table of accuracy, averages and calibration, by video and by window."""
    both = (evaluation.videos, evaluation.windows)
    calibrations = (evaluation.videos_calibration, evaluation.windows_calibration)
    rows = [
        (title, *(_with_interval(getattr(scores, name), scores.intervals, name) for scores in both))
        for name, title in AVERAGES.items()
        if getattr(evaluation.videos, name) is not None
    ]
    before, after = "calibration error, temperature 1", f"calibration error, temperature {evaluation.temperature:.2f}"
    rows += [
        (before, *(f"{calibration.before.error:.3f}" for calibration in calibrations)),
        (after, *(f"{calibration.after.error:.3f}" for calibration in calibrations)),
    ]
    columns = ("", *(f"{scores.examples:,} {what}" for scores, what in zip(both, ("videos", "windows"), strict=True)))
    return TextTable(columns, tuple(rows))


def class_table(scores: Scores, what: str, *, with_intervals: Collection[str]) -> TextTable:
    """Makes the table of precision, recall and F1 of each class that has examples.

    ``what`` is the kind of the examples, for the head of their column. ``with_intervals`` names the scores that are
    shown with their intervals: ``precision``, ``recall``, ``f1``.
    """
    rows = tuple(
        (
            row.label,
            *(
                _with_interval(getattr(row, name), row.intervals if name in with_intervals else {}, name)
                for name in CLASS_SCORES
            ),
            f"{row.support:,}",
            f"{row.groups:,}",
        )
        for row in scores.classes
        if row.support
    )
    return TextTable(("class", "precision", "recall", "F1", what, "groups"), rows)


def unknown_table(unknown: UnknownScores) -> TextTable:
    """Makes the table of the scores for classes that the model does not know, by video and by window."""
    levels = (unknown.videos, unknown.windows)
    rows = [
        ("known", *(f"{level.known:,}" for level in levels)),
        ("of other classes", *(f"{level.unknown:,}" for level in levels)),
        ("AUROC, by energy", *(f"{level.auroc:.3f}" for level in levels)),
    ]
    if unknown.caught is not None and unknown.lost is not None:
        rows += [
            (f"others with ood_score > {THRESHOLD}", "", f"{unknown.caught:.3f}"),
            (f"known with ood_score > {THRESHOLD}", "", f"{unknown.lost:.3f}"),
        ]
    return TextTable(("footage of other classes", "videos", "windows"), tuple(rows))


def interval_note(scores: Scores) -> str:
    """Returns a note that explains the intervals and says when they are unreliable."""
    note = (
        f"In brackets: 95 % intervals, by {RESAMPLES:,} draws of the groups of each class with replacement. "
        "Macro averages count every class that has clips once, weighted ones as often as it has clips."
    )
    if any(low == high for row in scores.classes for low, high in row.intervals.values()):
        note += " A score that is the same in every draw has an interval without width, which says little."
    alone = sum(row.groups == 1 for row in scores.classes)
    if alone:
        classes = "1 class has" if alone == 1 else f"{alone} classes have"
        note += f" {classes} one group only, which adds nothing to the intervals: they are too narrow."
    return note


def confused_lines(scores: Scores, limit: int) -> list[str]:
    """Returns lines on the most frequent confusions of classes, such as ``PushUps taken for Swing (3)``."""
    return [f"{truth} taken for {taken} ({count})" for truth, taken, count in most_confused(scores, limit)]


def comparison_table(comparison: Comparison) -> TextTable:
    """Makes the table with a column for each model: its scores by video, and its costs."""
    all_scores = [contender.evaluation.videos for contender in comparison.contenders]
    costs = [contender.cost for contender in comparison.contenders]
    rows = [
        (AVERAGES[name], *(_with_interval(getattr(scores, name), scores.intervals, name) for scores in all_scores))
        for name in COMPARED
    ]
    rows += [
        ("parameters", *(f"{cost.parameters / 1e6:.2f} M" for cost in costs)),
        ("GFLOP per window", *(f"{cost.gflop_per_window:.1f}" for cost in costs)),
        ("model file", *(f"{cost.file_bytes / 1e6:.1f} MB" for cost in costs)),
        ("windows/s here", *(f"{cost.windows_per_s:.3g} ({cost.precision}, {cost.device})" for cost in costs)),
    ]
    return TextTable(("", *(contender.name for contender in comparison.contenders)), tuple(rows))


def contest_table(comparison: Comparison) -> TextTable:
    """Makes the table of pairs of models: the difference of their accuracies, and its significance."""
    rows = tuple(
        (
            f"{contest.first} against {contest.second}",
            f"{contest.difference:+.3f} ({contest.interval[0]:+.2f} to {contest.interval[1]:+.2f})",
            f"{contest.only_first:,}",
            f"{contest.only_second:,}",
            f"{contest.p:.3f}" if contest.p >= 0.001 else "< 0.001",
            "significant at 5 %" if contest.p < 0.05 else "could be chance",
        )
        for contest in comparison.contests
    )
    columns = ("pair", "difference in accuracy", "only 1st right", "only 2nd right", "p", "so the difference")
    return TextTable(columns, rows)


def fold_averages_table(results: Sequence[FoldResult], everything: Evaluation) -> TextTable:
    """Makes the table of accuracy and averages: mean and standard deviation over folds, and over all held-out clips.

    ``everything`` is the evaluation of all held-out clips.
    """
    rows = []
    for name, title in AVERAGES.items():
        if getattr(everything.videos, name) is None:
            continue
        of_folds = spread([getattr(result.evaluation.videos, name) for result in results])
        of_all = (
            _with_interval(getattr(scores, name), scores.intervals, name)
            for scores in (everything.videos, everything.windows)
        )
        rows.append((title, f"{of_folds.mean:.3f} ± {of_folds.deviation:.3f}", *of_all))
    columns = (
        "",
        f"videos, mean of {len(results)} folds ± standard deviation",
        f"all {everything.videos.examples:,} videos",
        f"all {everything.windows.examples:,} windows",
    )
    return TextTable(columns, tuple(rows))


def folds_table(results: Sequence[FoldResult]) -> TextTable:
    """Makes the table with a row for each fold: its groups, accuracy, F1 and best epoch."""
    rows = tuple(
        (
            result.name,
            f"{result.evaluation.videos.examples:,}",
            f"{result.evaluation.videos.accuracy:.3f}",
            f"{result.evaluation.windows.accuracy:.3f}",
            f"{result.evaluation.videos.f1:.3f}",
            f"{result.best_epoch}",
        )
        for result in results
    )
    return TextTable(("left out", "videos", "accuracy, videos", "accuracy, windows", "F1, macro", "best epoch"), rows)


def compared_classes_table(comparison: Comparison) -> TextTable:
    """Makes the table of the F1 of each class that has examples, by video, for each model."""
    by_label = [{row.label: row for row in each.evaluation.videos.classes} for each in comparison.contenders]
    rows = tuple(
        (label, *(f"{classes[label].f1:.3f}" for classes in by_label), f"{row.support:,}")
        for label, row in by_label[0].items()
        if row.support
    )
    return TextTable(("F1 of class", *(contender.name for contender in comparison.contenders), "videos"), rows)


def _with_interval(value: float, intervals: Mapping[str, Interval], name: str) -> str:
    if name not in intervals:
        return f"{value:.3f}"
    low, high = intervals[name]
    return f"{value:.3f} ({low:.2f}–{high:.2f})"
