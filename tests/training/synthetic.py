"""Synthetic predictions, with a chosen number of classes, groups and clips, and a chosen margin."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from training.data.data_set import LabelledClip
from training.evaluation.evaluate import Predictions


def class_names(count: int) -> tuple[str, ...]:
    return tuple(f"Class{i:03}" for i in range(count))


def predictions(
    labels: Sequence[str], *, groups: int = 4, clips: int = 3, margin: float = 3.0, temperature: float = 0.5
) -> Predictions:
    """Makes ``clips`` clips of one to three windows in each of ``groups`` groups of each class.

    The logits are noise, a part of which is the same for all clips of a group. ``margin`` is added to the logit of the
    right class.
    """
    random = np.random.default_rng(0)
    made: list[LabelledClip] = []
    logits: list[np.ndarray] = []
    videos: list[int] = []
    for i, label in enumerate(labels):
        for group in range(groups):
            shared = random.normal(0, 1.2, len(labels))
            for clip in range(clips):
                for _ in range(int(random.integers(1, 4))):
                    row = shared + random.normal(0, 1, len(labels))
                    row[i] += margin
                    logits.append(row)
                    videos.append(len(made))
                path = Path(f"clips/{label}/g{group}/c{clip}.mp4")
                made.append(LabelledClip(path, label, f"g{group}", "folder"))
    return Predictions(tuple(labels), temperature, tuple(made), np.array(logits), np.array(videos))
