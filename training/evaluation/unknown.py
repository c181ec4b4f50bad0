"""How well a model tells footage that is none of its classes from its own: most of an archive is such footage."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tagger.ood import OODCalibration, energies_of

THRESHOLD = 0.95
"""The ``ood_score`` above which a window counts as caught where one number is wanted."""


@dataclass(frozen=True)
class Detection:
    """How well energies tell ``unknown`` examples from ``known`` ones.

    ``auroc`` is the share of pairs of one of each in which the unknown one has the higher energy: 0.5 is chance.
    """

    known: int
    unknown: int
    auroc: float


@dataclass(frozen=True)
class UnknownScores:
    """How a model takes footage of ``classes`` that it does not know, by video (mean energy) and by window.

    ``caught`` is the share of unknown windows whose ``ood_score`` is above 0.95, ``lost`` that of known ones; None when
    the model has no calibration.
    """

    classes: tuple[str, ...]
    videos: Detection
    windows: Detection
    caught: float | None
    lost: float | None

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready form."""
        return {**asdict(self), "threshold": THRESHOLD}


@dataclass(frozen=True)
class Footage:
    """Windows: ``logits`` ``[n, classes]``, divided by the temperature, and ``videos`` ``[n]``, the clip of each."""

    logits: np.ndarray
    videos: np.ndarray

    @property
    def energies_by_video(self) -> np.ndarray:
        """The mean energy of the windows of each clip, ``[clips]``."""
        position = np.unique(self.videos, return_inverse=True)[1]
        return np.bincount(position, energies_of(self.logits)) / np.bincount(position)


def score_unknown(
    classes: tuple[str, ...], known: Footage, unknown: Footage, ood: OODCalibration | None
) -> UnknownScores:
    """Scores how far ``unknown`` footage, of ``classes``, is told from ``known`` footage.

    Ranked by energy and not by ``ood_score``, which is 1 for whatever is stranger than any validation window.
    """

    def share_above(footage: Footage) -> float | None:
        return None if ood is None else float((ood.score(footage.logits) > THRESHOLD).mean())

    return UnknownScores(
        classes,
        videos=_detection(known.energies_by_video, unknown.energies_by_video),
        windows=_detection(energies_of(known.logits), energies_of(unknown.logits)),
        caught=share_above(unknown),
        lost=share_above(known),
    )


def _detection(known: np.ndarray, unknown: np.ndarray) -> Detection:
    # Imported here because it takes a second, and most processes of a training do not score.
    from sklearn.metrics import roc_auc_score

    is_unknown = np.repeat([0, 1], [len(known), len(unknown)])
    auroc = roc_auc_score(is_unknown, np.concatenate([known, unknown]))
    return Detection(len(known), len(unknown), float(auroc))
