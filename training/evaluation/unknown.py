"""Scores how well a model recognises footage of none of its classes. Most of an archive is such footage."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tagger.ood import OODCalibration, energies_of

THRESHOLD = 0.95
"""The ``ood_score`` above which a window counts as unknown footage."""


@dataclass(frozen=True)
class Detection:
    """The separation of ``unknown`` and ``known`` examples by their energies.

    ``known`` and ``unknown`` are the numbers of examples. ``auroc`` is the share of pairs of one known and one unknown
    example in which the unknown one has the higher energy; 0.5 is chance.
    """

    known: int
    unknown: int
    auroc: float


@dataclass(frozen=True)
class UnknownScores:
    """Scores for footage of ``classes`` that a model does not know, by video (mean energy) and by window.

    ``caught`` and ``lost`` are the shares of unknown and of known windows with an ``ood_score`` above 0.95. Both are
    None when the model has no calibration.
    """

    classes: tuple[str, ...]
    videos: Detection
    windows: Detection
    caught: float | None
    lost: float | None

    def to_json(self) -> dict[str, Any]:
        """Returns a JSON-ready form."""
        return {**asdict(self), "threshold": THRESHOLD}


@dataclass(frozen=True)
class WindowLogits:
    """The ``logits`` ``[n, classes]`` of windows, divided by the temperature, and ``videos`` ``[n]``, their clips."""

    logits: np.ndarray
    videos: np.ndarray

    @property
    def energies_by_video(self) -> np.ndarray:
        """The mean energy of the windows of each clip, ``[clips]``."""
        position = np.unique(self.videos, return_inverse=True)[1]
        return np.bincount(position, energies_of(self.logits)) / np.bincount(position)


def score_unknown(
    classes: tuple[str, ...], known: WindowLogits, unknown: WindowLogits, ood: OODCalibration | None
) -> UnknownScores:
    """Scores how well ``unknown`` footage, of ``classes``, is separated from ``known`` footage.

    The AUROC uses the energy and not the ``ood_score``, which is 1 for every window whose energy is above that of all
    validation windows.
    """

    def share_above(windows: WindowLogits) -> float | None:
        return None if ood is None else float((ood.score(windows.logits) > THRESHOLD).mean())

    return UnknownScores(
        classes,
        videos=_detection(known.energies_by_video, unknown.energies_by_video),
        windows=_detection(energies_of(known.logits), energies_of(unknown.logits)),
        caught=share_above(unknown),
        lost=share_above(known),
    )


def _detection(known: np.ndarray, unknown: np.ndarray) -> Detection:
    # Imported here because it takes a second, and most processes of a training do not need it.
    from sklearn.metrics import roc_auc_score

    is_unknown = np.repeat([0, 1], [len(known), len(unknown)])
    auroc = roc_auc_score(is_unknown, np.concatenate([known, unknown]))
    return Detection(len(known), len(unknown), float(auroc))
