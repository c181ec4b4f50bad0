"""Out-of-distribution scores after a lesson: those of old classes stay, and new classes are no longer unlike."""

import numpy as np

from tagger.ood import OODCalibration
from training.teaching.recalibration import recalibrated

RANDOM = np.random.default_rng(0)


def logits_of(strength: float, count: int = 400, classes: int = 5) -> np.ndarray:
    """Logits of windows that show one of the classes, with this strength."""
    logits = RANDOM.standard_normal((count, classes))
    logits[np.arange(count), RANDOM.integers(0, classes, count)] += strength
    return logits


def with_new_label(logits: np.ndarray, strength: float) -> np.ndarray:
    return np.column_stack([logits, strength + RANDOM.standard_normal(len(logits))])


def test_scores_of_old_classes_stay_and_windows_of_a_new_one_are_typical() -> None:
    validation, old, new = logits_of(6), logits_of(6), logits_of(1)
    ood = OODCalibration.fit(validation)
    assert np.median(ood.score(new)) > 0.95, "to the old head the new class is unlike all others"
    after = recalibrated(ood, old, with_new_label(old, -4), with_new_label(logits_of(1, 50), 6), 1)
    moved = np.abs(np.sort(after.score(with_new_label(old, -4))) - np.sort(ood.score(old)))
    assert moved.mean() < 0.1
    assert np.median(after.score(with_new_label(new, 6))) < 0.8
    assert np.median(after.score(with_new_label(new, -4))) > 0.9, "other footage is still unlike"


def test_few_or_no_unmarked_segments_are_enough() -> None:
    ood = OODCalibration.fit(logits_of(6))
    none = np.empty((0, 5)), np.empty((0, 6))
    assert recalibrated(ood, *none, np.empty((0, 6)), 1) == ood
    one = logits_of(6, 1)
    recalibrated(ood, one, with_new_label(one, 5), np.empty((0, 6)), 1)
    assert len(recalibrated(ood, *none, logits_of(6, 1, 6), 1).energies) == 1000


def test_the_line_always_rises() -> None:
    ood = OODCalibration.fit(logits_of(6))
    two = np.vstack([logits_of(1, 1), logits_of(9, 1)])
    after = recalibrated(ood, two, np.column_stack([two[::-1], [0, 0]]), np.empty((0, 6)), 1)
    assert np.ptp(after.energies) > 0
