"""A lesson: a head learns from marked segments, and keeps its answers for a sample of the unmarked ones.

The marks are cross-validated by video: segments of one video look alike, so a head that was fitted to some of them says
little about others by its answer to the rest.
"""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from training.teaching.objective import Head, Rows, fit, loss_of

PULLS = (1.0, 0.3, 0.1)
"""Weights of the squared distance to the old head, among which the cross-validation chooses."""

DEFAULT_PULL = 0.3
"""The weight when the marks are too few for a cross-validation."""

FOLDS = 4
"""Largest number of parts of the cross-validation."""

SAMPLE_WEIGHT = 0.1
"""Weight of the sample of unmarked segments for each old label. All marks of one label have the weight 1."""

TEMPERATURES = (0.2, 5.0)
"""Bounds of the temperature. A few marks that are perfectly separated would give an extreme one."""


@dataclass(frozen=True)
class Marked:
    """``n`` segments that a person marked.

    ``values`` are ``[n, d]``, ``label`` ``[n]`` the number of the label that each shows, or -1 where the mark only says
    which labels it does not show: ``denied`` ``[n, classes] bool``. ``video`` ``[n]`` is the number of its video.
    """

    values: np.ndarray
    label: np.ndarray
    denied: np.ndarray
    video: np.ndarray


@dataclass(frozen=True)
class Unmarked:
    """A sample of the segments without a mark: ``values`` ``[n, d]``, and the number of the video of each ``[n]``."""

    values: np.ndarray
    video: np.ndarray


@dataclass(frozen=True)
class Lesson:
    """What was learned.

    ``head`` is not yet divided by the ``temperature``. ``held_out`` ``[n, classes]`` are the logits of the marked
    segments, also not divided, by heads that were fitted without their videos; NaN for segments that were never left
    out. ``pull`` is the weight of the distance to the old head.
    """

    head: Head
    temperature: float
    pull: float
    held_out: np.ndarray


def start_head(weight: np.ndarray, bias: np.ndarray, temperature: float, new: int) -> Head:
    """Returns the old head ``[old, d]``, ``[old]`` with calibrated logits and rows for ``new`` labels.

    The new rows are the mean of the old ones, which answers no label before the others.
    """
    weight, bias = (np.asarray(array, np.float64) / temperature for array in (weight, bias))
    # The mean of all classes changes no probability.
    weight, bias = weight - weight.mean(axis=0), bias - bias.mean()
    return Head(np.vstack([weight, np.zeros((new, weight.shape[1]))]), np.append(bias, np.zeros(new)))


def teach(start: Head, old: int, marked: Marked, unmarked: Unmarked) -> Lesson:
    """Fits a head to the marks. ``start`` is the head of ``start_head``, whose first ``old`` labels are the old ones.

    Of the pulls, that with the smallest loss of left-out videos is taken. With it the temperature is fitted. The same
    input gives the same lesson.
    """
    marks, sample = _mark_rows(start, old, marked), _sample_rows(start, old, unmarked)
    rows = Rows(*(np.concatenate([getattr(part, name) for part in (marks, sample)]) for name in vars(marks)))
    fold = folds_of(marked, unmarked)
    held_out = np.full((len(marked.label), len(start.bias)), np.nan)
    if (fold[: len(marked.label)] < 0).all():
        return Lesson(fit(start, rows, DEFAULT_PULL), 1.0, DEFAULT_PULL, held_out)
    left_out = rows.take(fold >= 0)
    logits = {pull: _left_out_logits(start, rows, fold, pull)[fold >= 0] for pull in PULLS}
    pull = min(PULLS, key=lambda pull: loss_of(logits[pull], left_out))
    bounds = tuple(np.log(TEMPERATURES))
    found = minimize_scalar(lambda log: loss_of(logits[pull] / np.exp(log), left_out), bounds=bounds, method="bounded")
    is_mark = np.flatnonzero(fold >= 0) < len(held_out)
    held_out[fold[: len(held_out)] >= 0] = logits[pull][is_mark]
    return Lesson(fit(start, rows, pull), float(np.exp(found.x)), pull, held_out)


def folds_of(marked: Marked, unmarked: Unmarked) -> np.ndarray:
    """Returns the part of the cross-validation of each marked and then of each unmarked segment, ``[n + m]``.

    The segments of a video are in one part, and the videos of each label are spread over the parts. The part of a mark
    is -1, never left out, if all marks of its label would be in one part.
    """
    videos: dict[int, list[int]] = defaultdict(list)
    for label, video in sorted(set(zip(marked.label.tolist(), marked.video.tolist(), strict=True))):
        videos[label].append(video)
    folds = min(FOLDS, len(set(marked.video.tolist())))
    fold_of: dict[int, int] = {}
    for of_label in sorted(videos.values(), key=len):
        for video in of_label:
            taken = [fold_of[each] for each in of_label if each in fold_of]
            fold_of.setdefault(video, min(range(folds), key=taken.count))
    fold = np.array([fold_of[video] for video in marked.video.tolist()], int)
    for label in videos:
        of_mark = marked.label == label
        if len(set(fold[of_mark].tolist())) < 2:
            fold[of_mark] = -1
    return np.append(fold, [fold_of.get(video, video % folds) for video in unmarked.video.tolist()]).astype(int)


def _left_out_logits(start: Head, rows: Rows, fold: np.ndarray, pull: float) -> np.ndarray:
    """Returns the logits of each row by the head that was fitted without its part; zeros for rows in no part."""
    logits = np.zeros((len(fold), len(start.bias)))
    for number in np.unique(fold[fold >= 0]):
        head = fit(start, rows.take(fold != number), pull)
        logits[fold == number] = head.logits(rows.values[fold == number])
    return logits


def _mark_rows(start: Head, old: int, marked: Marked) -> Rows:
    classes = len(start.bias)
    is_shown = marked.label >= 0
    denied_old = marked.denied[:, :old]
    wanted, spoken = np.zeros((len(marked.label), classes)), np.ones((len(marked.label), classes), bool)
    wanted[is_shown, marked.label[is_shown]] = 1
    # What is denied of a label is the answer of the old head without it.
    has_old = ~is_shown & ~denied_old.all(axis=1)
    logits = start.logits(marked.values)[:, :old]
    wanted[has_old, :old] = _softmax(np.where(denied_old, -np.inf, logits)[has_old])
    spoken[has_old, old:] = marked.denied[has_old, old:]
    # If it shows none of the old labels, it shows one of the new ones.
    has_new = ~is_shown & ~has_old
    others = ~marked.denied[has_new, old:]
    wanted[has_new, old:] = others / others.sum(axis=1, keepdims=True)
    groups = np.column_stack([marked.label, np.where(is_shown[:, None], False, marked.denied)])
    return Rows(marked.values, wanted, spoken, _balanced(groups, marked.video))


def _sample_rows(start: Head, old: int, unmarked: Unmarked) -> Rows:
    count, classes = len(unmarked.video), len(start.bias)
    wanted, spoken = np.zeros((count, classes)), np.zeros((count, classes), bool)
    wanted[:, :old] = _softmax(start.logits(unmarked.values)[:, :old])
    spoken[:, :old] = True
    return Rows(unmarked.values, wanted, spoken, np.full(count, SAMPLE_WEIGHT * old / max(count, 1)))


def _balanced(groups: np.ndarray, video: np.ndarray) -> np.ndarray:
    """Returns weights ``[n]``: 1 for each group, the same for all of its videos and for all segments of a video."""
    _, group = np.unique(groups, axis=0, return_inverse=True)
    pairs = np.column_stack([group.reshape(-1), video])
    found, of_pair, segments = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
    videos = np.bincount(found[:, 0])
    of_pair = of_pair.reshape(-1)
    return 1 / (videos[found[:, 0]] * segments)[of_pair]


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    return powers / powers.sum(axis=1, keepdims=True)
