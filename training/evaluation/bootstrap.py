"""Confidence intervals by a stratified cluster bootstrap over groups.

The clips of one group are often right or wrong together, so whole groups are drawn with replacement. For each class as
many groups are drawn as it has, because the test groups are also chosen class by class.
"""

from collections.abc import Iterator

import numpy as np

RESAMPLES = 1000
COVERAGE = 0.95
SEED = 0

_VALUES_PER_CHUNK = 10_000_000
"""Maximum number of values in an array of several draws. It limits the memory."""

Interval = tuple[float, float]
"""The lower and the upper end of a 95 % interval."""


def resampled_sums(values: np.ndarray, truth: np.ndarray, groups: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the sums of the rows of ``values`` ``[n, k]`` for each class, in ``RESAMPLES`` draws of the groups.

    ``truth`` ``[n]`` is the class of each row and ``groups`` ``[n]`` its group within that class. Yields arrays
    ``[draws, classes, k]`` of several draws at a time. Their classes are those that occur, in ascending order. The
    draws depend on the groups, not on the values.
    """
    by_class: list[np.ndarray] = []
    for label in np.unique(truth):
        of_class = truth == label
        distinct, position = np.unique(groups[of_class], return_inverse=True)
        sums = np.zeros((len(distinct), values.shape[1]))
        np.add.at(sums, position, values[of_class])
        by_class.append(sums)
    drawn = [_drawn(len(sums), seed) for seed, sums in enumerate(by_class)]
    step = max(1, _VALUES_PER_CHUNK // (len(by_class) * values.shape[1]))
    for start in range(0, RESAMPLES, step):
        part = slice(start, start + step)
        yield np.stack([times[part] @ sums for times, sums in zip(drawn, by_class, strict=True)], axis=1)


def interval(draws: np.ndarray) -> Interval:
    """Returns the interval of the middle 95 % of ``draws`` ``[n]``."""
    low, high = np.quantile(draws, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return float(low), float(high)


def _drawn(groups: int, number: int) -> np.ndarray:
    """Draws ``[RESAMPLES, groups]`` counts: how often each group is drawn. ``number`` is the index of the class.

    Each class has its own stream of random numbers.
    """
    generator = np.random.default_rng([SEED, number])
    return generator.multinomial(groups, np.full(groups, 1 / groups), size=RESAMPLES)
