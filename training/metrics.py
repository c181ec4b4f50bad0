"""How good a model is: scikit-learn's metrics, at the level of windows and of whole videos."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support


@dataclass(frozen=True)
class ClassScores:
    """Scores of one class; ``support`` is the number of its true examples."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Scores:
    """Accuracy and macro averages over all classes, the scores of each class, and the confusion matrix.

    ``confusion[i][j]`` counts examples of class ``i`` that were taken for class ``j``.
    """

    examples: int
    accuracy: float
    precision: float
    recall: float
    f1: float
    classes: tuple[ClassScores, ...]
    confusion: tuple[tuple[int, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready form."""
        return asdict(self)


def score(truth: np.ndarray, predicted: np.ndarray, labels: Sequence[str]) -> Scores:
    """Scores predictions against the truth, both ``[n]`` class indices. Classes never predicted have precision 0."""
    every = range(len(labels))
    precision, recall, f1, support = precision_recall_fscore_support(truth, predicted, labels=every, zero_division=0)
    classes = tuple(
        ClassScores(label, float(p), float(r), float(f), int(n))
        for label, p, r, f, n in zip(labels, precision, recall, f1, support, strict=True)
    )
    confusion = confusion_matrix(truth, predicted, labels=every)
    return Scores(
        examples=len(truth),
        accuracy=float(accuracy_score(truth, predicted)),
        precision=float(precision.mean()),
        recall=float(recall.mean()),
        f1=float(f1.mean()),
        classes=classes,
        confusion=tuple(tuple(int(n) for n in row) for row in confusion),
    )


def average_by_video(probabilities: np.ndarray, videos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Averages ``[n, classes]`` window probabilities over each video; ``videos`` ``[n]`` says whose each window is.

    Returns the distinct videos, sorted, and ``[videos, classes]``.
    """
    distinct, position = np.unique(videos, return_inverse=True)
    sums = np.zeros((len(distinct), probabilities.shape[1]))
    np.add.at(sums, position, probabilities)
    return distinct, sums / np.bincount(position)[:, None]
