"""How strange a window is to a model: footage that is none of its classes (out of distribution) is told by its energy.

The energy of a window is ``-logsumexp`` of its logits, low where some class fits well (Liu et al., 2020,
https://arxiv.org/abs/2010.03759). Its scale is the model's own, so it is reported as a share of known windows.

The logits are those that confidences are made of, divided by the model's temperature, less their mean: the loss that
trains a model does not see the mean and leaves it to chance. ``tests/benchmarks/unknown.py`` measures how well that
tells classes that were left out of training.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

LIMIT = 1000
"""Most energies that are kept: a score of that many steps is fine enough, and its JSON takes about 10 kB."""


def energies_of(logits: np.ndarray) -> np.ndarray:
    """The energies ``[n] float64`` of ``[n, classes]`` logits, divided by the temperature. Higher is stranger.

    At most ``-log(classes)``, when all logits are equal.
    """
    centred = logits - logits.mean(axis=1, dtype=np.float64, keepdims=True)
    best = centred.max(axis=1)
    return -(best + np.log(np.exp(centred - best[:, None]).sum(axis=1)))


@dataclass(frozen=True)
class OODCalibration:
    """The energies of a model's validation windows, sorted; of many windows, quantiles at even distances.

    Raises ValueError when there are none, or they are not sorted or not finite.
    """

    energies: tuple[float, ...]

    def __post_init__(self) -> None:
        values = np.array(self.energies, np.float64)
        if values.ndim != 1 or not len(values) or not np.isfinite(values).all() or (np.diff(values) < 0).any():
            raise ValueError("the energies of the validation windows are not a sorted list of numbers")

    @classmethod
    def fit(cls, logits: np.ndarray) -> "OODCalibration":
        """The calibration from the ``[n, classes]`` logits, divided by the temperature, of validation windows."""
        energies = energies_of(logits)
        shares = (np.arange(min(len(energies), LIMIT)) + 0.5) / min(len(energies), LIMIT)
        kept = np.quantile(energies, shares, method="inverted_cdf")
        # To seven digits, which is what float32 logits have.
        return cls(tuple(float(f"{energy:.7g}") for energy in kept))

    def score(self, logits: np.ndarray) -> np.ndarray:
        """The share of validation windows less strange than each row of ``[n, classes]`` logits: ``[n] float32``.

        The logits are divided by the temperature, too.
        """
        below = np.searchsorted(np.array(self.energies), energies_of(logits), side="left")
        return (below / len(self.energies)).astype(np.float32)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "OODCalibration":
        """The calibration that a model file holds. Raises ValueError, KeyError or TypeError for anything else."""
        return cls(tuple(float(energy) for energy in values["energies"]))
