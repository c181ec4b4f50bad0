"""Confidence intervals that know of groups: clips of one scene are right or wrong together.

Groups are drawn with replacement, within each class as many as it has (a stratified cluster bootstrap), because that is
how test groups are chosen: so many of each class.
"""

from collections.abc import Iterator

import numpy as np

RESAMPLES = 1000
COVERAGE = 0.95
SEED = 0

_NUMBERS_AT_ONCE = 10_000_000

Interval = tuple[float, float]
"""The lower and the upper end of a 95 % interval."""


def resampled_sums(values: np.ndarray, truth: np.ndarray, groups: np.ndarray) -> Iterator[np.ndarray]:
    """What the rows of ``values`` ``[n, k]`` add up to, class by class, in ``RESAMPLES`` draws of the groups.

    ``truth`` ``[n]`` is the class of each row and ``groups`` ``[n]`` its group within that class. Yields arrays
    ``[draws, classes, k]``, several draws at a time, with the classes that occur in ascending order. The draws are the
    same for the same groups, whatever the values.
    """
    by_class: list[np.ndarray] = []
    for label in np.unique(truth):
        of_class = truth == label
        distinct, position = np.unique(groups[of_class], return_inverse=True)
        sums = np.zeros((len(distinct), values.shape[1]))
        np.add.at(sums, position, values[of_class])
        by_class.append(sums)
    drawn = [_drawn(len(sums), seed) for seed, sums in enumerate(by_class)]
    step = max(1, _NUMBERS_AT_ONCE // (len(by_class) * values.shape[1]))
    for start in range(0, RESAMPLES, step):
        part = slice(start, start + step)
        yield np.stack([times[part] @ sums for times, sums in zip(drawn, by_class, strict=True)], axis=1)


def interval(draws: np.ndarray) -> Interval:
    """The interval in which the middle 95 % of ``draws`` ``[n]`` lie."""
    low, high = np.quantile(draws, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return float(low), float(high)


def _drawn(groups: int, number: int) -> np.ndarray:
    """``[RESAMPLES, groups]``: how often each group is drawn. Each class has its own stream of random numbers."""
    generator = np.random.default_rng([SEED, number])
    return generator.multinomial(groups, np.full(groups, 1 / groups), size=RESAMPLES)
