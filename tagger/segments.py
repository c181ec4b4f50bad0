"""Segments: the rows of the result, made from windows and their probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tagger.windows import Window

BACKGROUND = "background"
"""The label of windows that show none of the classes of a model, if the model has a class of this name."""


@dataclass(frozen=True)
class Segment:
    """One row of the result: what happens from ``start_s`` to ``end_s``, in seconds from the first frame.

    ``top_labels`` and ``top_confidences`` hold the best labels, best first. The first is ``label``, with
    ``confidence``. ``ood_score`` is the share of the model's validation windows that look less out of distribution;
    None when the model has no such calibration.
    """

    index: int
    start_s: float
    end_s: float
    label: str
    confidence: float
    top_labels: tuple[str, ...]
    top_confidences: tuple[float, ...]
    ood_score: float | None = None


def make_segments(
    windows: Sequence[Window],
    probabilities: np.ndarray,
    labels: Sequence[str],
    top_k: int,
    ood_scores: np.ndarray | None = None,
) -> list[Segment]:
    """Makes the segments of ``windows`` from their ``[n, classes]`` probabilities, each with its ``top_k`` best labels.

    ``ood_scores`` ``[n]`` are the second result of ``Classifier.classify``.
    """
    scores = [None] * len(windows) if ood_scores is None else [float(score) for score in ood_scores]
    # The sort is stable on negated values, so equal confidences keep the order of the labels.
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
    segments = []
    for window, order, row, score in zip(windows, best, probabilities, scores, strict=True):
        names = tuple(labels[i] for i in order)
        confidences = tuple(float(row[i]) for i in order)
        segments.append(
            Segment(window.index, window.start_s, window.end_s, names[0], confidences[0], names, confidences, score)
        )
    return segments
