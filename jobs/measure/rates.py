"""Rates that ``vtag bench`` measured, some of them several times.

A candidate is one way to decode or to run the model: a reader with a number of cores, or a precision with a number of
actors and a batch size.
"""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from jobs.tagging.decode_trial import DecodeRate


@dataclass(frozen=True)
class ModelRate:
    """The total rate of ``actors`` actors with ``batch_size`` windows per step.

    ``peak_share`` is their arithmetic as a share of the peak, measured with products of large matrices in the same
    precision.
    """

    precision: str
    actors: int
    batch_size: int
    windows_per_s: float
    peak_share: float


_Rate = TypeVar("_Rate", DecodeRate, ModelRate)


def fastest(rates: Iterable[_Rate], **fields: str | int) -> _Rate:
    """Returns the rate with the most windows per second among those with the given values of ``fields``."""
    selected = (rate for rate in rates if all(getattr(rate, name) == value for name, value in fields.items()))
    return max(selected, key=lambda rate: rate.windows_per_s)


def medians(rates: Iterable[_Rate]) -> list[_Rate]:
    """Returns one rate per candidate, in the order of their first rates, with the median of each figure."""
    return [_median(repeated) for repeated in _by_candidate(rates)]


def rates_of_fastest(rates: Iterable[_Rate], times: int) -> list[float]:
    """Returns the windows per second of each round for the candidate with the highest median.

    Only candidates that were measured exactly ``times`` times count.
    """
    complete = (repeated for repeated in _by_candidate(rates) if len(repeated) == times)
    return [rate.windows_per_s for rate in max(complete, key=lambda repeated: _median(repeated).windows_per_s)]


def _by_candidate(rates: Iterable[_Rate]) -> list[list[_Rate]]:
    # Fields of type float are measurements; the other fields identify the candidate.
    candidates: dict[tuple[Any, ...], list[_Rate]] = {}
    for rate in rates:
        candidate = tuple(value for value in vars(rate).values() if not isinstance(value, float))
        candidates.setdefault(candidate, []).append(rate)
    return list(candidates.values())


def _median(rates: Sequence[_Rate]) -> _Rate:
    figures = [name for name, value in vars(rates[0]).items() if isinstance(value, float)]
    return replace(rates[0], **{name: statistics.median(getattr(rate, name) for rate in rates) for name in figures})
