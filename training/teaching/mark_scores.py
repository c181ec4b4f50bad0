"""How well left-out marks are recognised, by label."""

from dataclasses import dataclass

import numpy as np

from training.teaching.lesson import Lesson, Marked


@dataclass(frozen=True)
class MarkScores:
    """The cross-validated scores of the marks of one label, in which every video counts the same.

    ``recall`` is the share of the segments marked with the label that get it. ``precision`` is the share of the marked
    segments with this answer that are right; None when no left-out mark has this answer, or no other mark could have
    it. Both are None when the label was not cross-validated.
    """

    recall: float | None
    precision: float | None


def scores_of(label: int, lesson: Lesson, marked: Marked) -> MarkScores:
    """Returns the scores of the label with the number ``label``."""
    was_left_out = ~np.isnan(lesson.held_out).any(axis=1)
    answer = np.where(was_left_out, np.nan_to_num(lesson.held_out).argmax(axis=1), -1)
    shows = was_left_out & (marked.label == label)
    # A segment that is marked with another label, or as not of this one.
    is_other = was_left_out & ~shows & ((marked.label >= 0) | marked.denied[:, label])
    if not shows.any():
        return MarkScores(None, None)
    weight = np.zeros(len(answer))
    for chosen in (shows, is_other):
        _, of_video, segments = np.unique(marked.video[chosen], return_inverse=True, return_counts=True)
        weight[chosen] = 1 / segments[of_video]
    found, wrong = (weight[chosen & (answer == label)].sum() for chosen in (shows, is_other))
    precision = float(found / (found + wrong)) if is_other.any() and found + wrong else None
    return MarkScores(float(found / weight[shows].sum()), precision)
