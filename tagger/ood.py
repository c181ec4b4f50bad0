"""Out-of-distribution (OOD) scores: how unlike the training classes a window is, measured by its energy.

The energy of a window is ``-logsumexp`` of its logits, low where some class fits well (Liu et al., 2020,
https://arxiv.org/abs/2010.03759). The scale of the energy differs between models, so the score is the share of the
model's validation windows with a lower energy.

The logits are divided by the model's temperature, as for confidences, and their mean is subtracted: the training loss
does not depend on the mean, so the mean is arbitrary. ``tests/benchmarks/unknown.py`` measures how well the score
detects classes that were left out of training.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

MAX_ENERGIES = 1000
"""Maximum number of stored energies. 1000 steps are fine enough for a score, and the JSON takes about 10 kB."""


def energies_of(logits: np.ndarray) -> np.ndarray:
    """Returns the energies ``[n] float64`` of ``[n, classes]`` logits that were divided by the temperature.

    A higher energy is less like the training classes. The maximum is ``-log(classes)``, when all logits are equal.
    """
    centred = logits - logits.mean(axis=1, dtype=np.float64, keepdims=True)
    best = centred.max(axis=1)
    return -(best + np.log(np.exp(centred - best[:, None]).sum(axis=1)))


@dataclass(frozen=True)
class OODCalibration:
    """The sorted energies of a model's validation windows: at most MAX_ENERGIES, as evenly spaced quantiles.

    Raises ValueError when the energies are empty, not sorted or not finite.
    """

    energies: tuple[float, ...]

    def __post_init__(self) -> None:
        values = np.array(self.energies, np.float64)
        if values.ndim != 1 or not len(values) or not np.isfinite(values).all() or (np.diff(values) < 0).any():
            raise ValueError("the energies of the validation windows are not a sorted list of numbers")

    @classmethod
    def fit(cls, logits: np.ndarray) -> "OODCalibration":
        """Makes the calibration from ``[n, classes]`` logits of validation windows, divided by the temperature."""
        energies = energies_of(logits)
        shares = (np.arange(min(len(energies), MAX_ENERGIES)) + 0.5) / min(len(energies), MAX_ENERGIES)
        kept = np.quantile(energies, shares, method="inverted_cdf")
        # Rounded to seven digits, the precision of float32 logits.
        return cls(tuple(float(f"{energy:.7g}") for energy in kept))

    def score(self, logits: np.ndarray) -> np.ndarray:
        """Returns the scores ``[n] float32`` of ``[n, classes]`` logits that were divided by the temperature.

        A score is the share of validation windows with a lower energy.
        """
        below = np.searchsorted(np.array(self.energies), energies_of(logits), side="left")
        return (below / len(self.energies)).astype(np.float32)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "OODCalibration":
        """Reads the calibration from a model file. Raises ValueError, KeyError or TypeError for anything else."""
        return cls(tuple(float(energy) for energy in values["energies"]))
