"""Rates that ``vtag bench`` measured, some of them several times."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from jobs.tagging.decode_trial import DecodeRate


@dataclass(frozen=True)
class ModelRate:
    """What ``actors`` do together, with ``batch_size`` windows in a step.

    ``peak_share`` is the share of the arithmetic that as many products of large matrices do in the same precision.
    """

    precision: str
    actors: int
    batch_size: int
    windows_per_s: float
    peak_share: float


_Rate = TypeVar("_Rate", DecodeRate, ModelRate)


def fastest(rates: Iterable[_Rate], **like: str | int) -> _Rate:
    """The one with most windows per second among those ``like`` what is named."""
    alike = (rate for rate in rates if all(getattr(rate, name) == value for name, value in like.items()))
    return max(alike, key=lambda rate: rate.windows_per_s)


def medians(rates: Iterable[_Rate]) -> list[_Rate]:
    """One for each kind, in the order in which they come, with the median of each figure."""
    return [_median(alike) for alike in _kinds(rates)]


def fastest_each_time(rates: Iterable[_Rate], times: int) -> list[float]:
    """Windows per second, each time, of what is the fastest by its median among what was measured so many ``times``."""
    always = (alike for alike in _kinds(rates) if len(alike) == times)
    return [rate.windows_per_s for rate in max(always, key=lambda alike: _median(alike).windows_per_s)]


def _kinds(rates: Iterable[_Rate]) -> list[list[_Rate]]:
    # What was measured are the floats, the rest says of what.
    kinds: dict[tuple[Any, ...], list[_Rate]] = {}
    for rate in rates:
        kind = tuple(value for value in vars(rate).values() if not isinstance(value, float))
        kinds.setdefault(kind, []).append(rate)
    return list(kinds.values())


def _median(alike: Sequence[_Rate]) -> _Rate:
    figures = [name for name, value in vars(alike[0]).items() if isinstance(value, float)]
    return replace(alike[0], **{name: statistics.median(getattr(rate, name) for rate in alike) for name in figures})
