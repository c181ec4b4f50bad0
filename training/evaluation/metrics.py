"""The scores of a model: scikit-learn's metrics with confidence intervals, for windows or for whole videos."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from training.evaluation.bootstrap import Interval, interval, resampled_sums

TOP = 5


@dataclass(frozen=True)
class ClassScores:
    """Scores of one class; ``support`` is the number of its true examples, ``groups`` the number of their groups.

    ``intervals`` has an interval for precision, recall and F1; it is empty with fewer than two groups.
    """

    label: str
    precision: float
    recall: float
    f1: float
    support: int
    groups: int
    intervals: Mapping[str, Interval]


@dataclass(frozen=True)
class Scores:
    """Accuracy, averages over the classes, the scores of each class, and the confusion matrix.

    ``top5`` counts an example as right when its class is among the five most probable; None with five classes or fewer.
    ``precision``, ``recall`` and ``f1`` are macro averages, over the classes that have examples. The ``weighted``
    averages weight each class by its number of examples. ``intervals`` has the interval of each score by its name.
    ``confusion[i][j]`` counts the examples of class ``i`` that were predicted as class ``j``.
    """

    examples: int
    accuracy: float
    top5: float | None
    precision: float
    recall: float
    f1: float
    weighted_precision: float
    weighted_recall: float
    weighted_f1: float
    intervals: Mapping[str, Interval]
    classes: tuple[ClassScores, ...]
    confusion: tuple[tuple[int, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """Returns a JSON-ready form, with the intervals as rows of ``score``, ``low`` and ``high``."""
        classes = [{**asdict(row), "intervals": _interval_rows(row.intervals)} for row in self.classes]
        return {**asdict(self), "intervals": _interval_rows(self.intervals), "classes": classes}


def score(truth: np.ndarray, probabilities: np.ndarray, labels: Sequence[str], groups: np.ndarray) -> Scores:
    """Scores ``probabilities`` ``[n, classes]`` against the ``truth``, ``[n]`` class indices.

    ``groups`` ``[n]`` is the group of each example within its class; the intervals are calculated over groups. Classes
    that are never predicted have precision 0.
    """
    # Imported here because it takes a second, and most processes of a training do not need it.
    from sklearn.metrics import (
        accuracy_score,
        confusion_matrix,
        precision_recall_fscore_support,
        top_k_accuracy_score,
    )

    every = np.arange(len(labels))
    predicted = probabilities.argmax(1)
    precision, recall, f1, support = precision_recall_fscore_support(truth, predicted, labels=every, zero_division=0)
    confusion = confusion_matrix(truth, predicted, labels=every)
    has_top5 = len(labels) > TOP
    top5 = top_k_accuracy_score(truth, probabilities, k=TOP, labels=every) if has_top5 else None
    present = np.flatnonzero(support)
    overall, of_class = _intervals(truth, probabilities, groups)
    if not has_top5:
        del overall["top5"]
    classes = tuple(
        ClassScores(
            label=label,
            precision=float(precision[i]),
            recall=float(recall[i]),
            f1=float(f1[i]),
            support=int(support[i]),
            groups=len(np.unique(groups[truth == i])),
            intervals=of_class.get(i, {}),
        )
        for i, label in enumerate(labels)
    )
    averages = {
        name: float(np.average(values[present], weights=weights))
        for prefix, weights in (("", None), ("weighted_", support[present]))
        for name, values in ((f"{prefix}precision", precision), (f"{prefix}recall", recall), (f"{prefix}f1", f1))
    }
    return Scores(
        examples=len(truth),
        accuracy=float(accuracy_score(truth, predicted)),
        top5=None if top5 is None else float(top5),
        **averages,
        intervals=overall,
        classes=classes,
        confusion=tuple(tuple(int(n) for n in row) for row in confusion),
    )


def most_confused(scores: Scores, limit: int) -> list[tuple[str, str, int]]:
    """Returns the most frequent confusions (true class, predicted class, count), at most ``limit`` of them."""
    confusion = np.array(scores.confusion)
    np.fill_diagonal(confusion, 0)
    labels = [row.label for row in scores.classes]
    pairs = [(labels[i], labels[j], int(confusion[i, j])) for i, j in np.argwhere(confusion)]
    return sorted(pairs, key=lambda pair: -pair[2])[:limit]


def average_by_video(probabilities: np.ndarray, videos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Averages ``[n, classes]`` window probabilities over each video; ``videos`` ``[n]`` is the video of each window.

    Returns the distinct videos, sorted, and the averages ``[videos, classes]``.
    """
    distinct, position = np.unique(videos, return_inverse=True)
    sums = np.zeros((len(distinct), probabilities.shape[1]))
    np.add.at(sums, position, probabilities)
    return distinct, sums / np.bincount(position)[:, None]


def _interval_rows(intervals: Mapping[str, Interval]) -> list[dict[str, str | float]]:
    return [{"score": name, "low": low, "high": high} for name, (low, high) in intervals.items()]


def _intervals(
    truth: np.ndarray, probabilities: np.ndarray, groups: np.ndarray
) -> tuple[dict[str, Interval], dict[int, dict[str, Interval]]]:
    """Returns the intervals of the averages by name, and those of the scores of each class with at least two groups."""
    count = probabilities.shape[1]
    truth_probability = np.take_along_axis(probabilities, truth[:, None], axis=1)
    # For each example: a 1 in the column of the predicted class, and one in the last column if the true class is in
    # the top 5.
    values = np.zeros((len(truth), count + 1))
    values[np.arange(len(truth)), probabilities.argmax(1)] = 1
    values[:, count] = (probabilities > truth_probability).sum(1) < TOP
    present = np.unique(truth)
    draws: dict[str, list[np.ndarray]] = {}
    for sums in resampled_sums(values, truth, groups):
        for name, drawn in _from_confusion(sums[:, :, :count], present).items():
            draws.setdefault(name, []).append(drawn)
        draws.setdefault("top5", []).append(sums[:, :, count].sum(1) / sums[:, :, :count].sum((1, 2)))
    drawn_of = {name: np.concatenate(parts) for name, parts in draws.items()}
    overall = {name: interval(drawn) for name, drawn in drawn_of.items() if drawn.ndim == 1}
    of_class = {
        int(label): {name.removeprefix("class_"): interval(drawn_of[name][:, i]) for name in _OF_CLASS}
        for i, label in enumerate(present)
        if len(np.unique(groups[truth == label])) > 1
    }
    return overall, of_class


_OF_CLASS = ("class_precision", "class_recall", "class_f1")


def _from_confusion(confusion: np.ndarray, present: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the scores of many confusion matrices ``[draws, present classes, classes]``.

    An average is ``[draws]``, a score of each class ``[draws, present classes]``.
    """
    right = confusion[:, np.arange(len(present)), present]
    support = confusion.sum(2)
    predicted = confusion.sum(1)[:, present]
    of_class = {
        "precision": right / np.maximum(predicted, 1),
        "recall": right / support,
        "f1": 2 * right / (support + predicted),
    }
    share = support / support.sum(1, keepdims=True)
    return {
        "accuracy": right.sum(1) / support.sum(1),
        **{name: values.mean(1) for name, values in of_class.items()},
        **{f"weighted_{name}": (values * share).sum(1) for name, values in of_class.items()},
        **{f"class_{name}": values for name, values in of_class.items()},
    }
