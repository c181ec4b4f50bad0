"""Out-of-distribution scores of a taught head.

The validation windows of the old model are not at hand, only their energies. A straight line from the old to the new
energies of unmarked segments turns them into energies of the new head, so that the scores of old classes stay about the
same. Left-out marks of new labels are validation windows of these.
"""

import numpy as np

from tagger.ood import OODCalibration, energies_of

QUANTILES = 1000
"""Energies from which the calibration is made."""


def recalibrated(
    ood: OODCalibration, before: np.ndarray, after: np.ndarray, held_out: np.ndarray, new: int
) -> OODCalibration:
    """Returns the calibration of a head with ``new`` more labels than that of ``ood``.

    ``before`` ``[n, old]`` and ``after`` ``[n, old + new]`` are logits of the same unmarked segments by both heads, and
    ``held_out`` ``[k, old + new]`` those of left-out marks of new labels, all divided by the temperature.
    """
    old_energies, new_energies = energies_of(before), energies_of(after)
    slope = 1.0
    if len(before) > 1 and old_energies.std() > 0:
        fitted = float(np.polyfit(old_energies, new_energies, 1)[0])
        # The line must rise. It does unless there are only a few segments that all show new labels.
        slope = fitted if fitted > 0 else 1.0
    # Without unmarked segments the energies stay.
    shift = float(new_energies.mean() - slope * old_energies.mean()) if len(before) else 0.0
    energies = slope * np.array(ood.energies) + shift
    if len(held_out):
        # Every label has the same number of validation windows.
        share = new / after.shape[1]
        count = max(1, round(share * QUANTILES))
        energies = np.append(_quantiles(energies, QUANTILES - count), _quantiles(energies_of(held_out), count))
    return OODCalibration(tuple(float(f"{energy:.7g}") for energy in np.sort(energies)))


def _quantiles(energies: np.ndarray, count: int) -> np.ndarray:
    return np.quantile(energies, (np.arange(count) + 0.5) / count, method="inverted_cdf")
