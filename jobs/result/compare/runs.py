"""Sorted columns of names. A column takes the bytes of its names and 8 more for each, a list of strings twice as much.

Names are found in sorted runs of names range by range: a table of all names would take as much memory as they do.
"""

import bisect
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SAMPLE_NAMES = 10_000
"""Number of names of a run from one sample to the next."""

RANGE_SAMPLES = 10
"""Number of samples, of all runs together, in a range."""


def no_names() -> pa.Array:
    """Returns an empty column of names."""
    return pa.array([], pa.large_string())


def joined_names(*columns: pa.Array) -> pa.Array:
    """Returns the names of all ``columns`` after each other. A single column that has names is not copied."""
    filled = [column.cast(pa.large_string()) for column in columns if len(column)]
    return pa.concat_arrays(filled) if len(filled) > 1 else (*filled, no_names())[0]


def sorted_names(*columns: pa.Array) -> pa.Array:
    """Returns the names of all ``columns``, sorted, each once. A column that is sorted already is not copied."""
    names = joined_names(*columns)
    if pc.all(pc.less(names[:-1], names[1:])).as_py() is not False:
        return names
    names = names.take(pc.array_sort_indices(names))
    is_first = np.ones(len(names), bool)
    is_first[1:] = pc.not_equal(names[1:], names[:-1]).to_numpy(zero_copy_only=False)
    return names if is_first.all() else names.filter(pa.array(is_first))


def take_rows(column: pa.Array, rows: np.ndarray) -> pa.Array:
    """Returns these rows of a column. All rows in their order are not copied."""
    if len(rows) == len(column) and (rows == np.arange(len(rows))).all():
        return column
    return column.take(pa.array(rows))


def find_names(names: pa.Array, runs: Sequence[pa.Array]) -> np.ndarray:
    """Returns the row of each of the ``names``, counted through all ``runs``; -1 for a name that is in none of them.

    ``names`` and each of the ``runs`` are sorted. Of a name in several runs, the row in the last of them is returned.
    """
    found = np.full(len(names), -1, np.int64)
    first_rows = _first_rows(runs)
    for (start, stop), *slices in _ranges([names, *runs]):
        if start < stop:
            values, rows = _last_run_first(runs, slices, first_rows)
            at = pc.index_in(names[start:stop].cast(pa.large_string()), value_set=values)
            found[start:stop][at.is_valid().to_numpy(zero_copy_only=False)] = rows[at.drop_null().to_numpy()]
    return found


def repeated_names(runs: Sequence[pa.Array]) -> np.ndarray:
    """Returns a mask of the rows of all ``runs``, which are sorted: True for a name that a later run has, too."""
    first_rows = _first_rows(runs)
    is_repeated = np.zeros(first_rows[-1], bool)
    for slices in _ranges(runs):
        if sum(start < stop for start, stop in slices) > 1:
            values, rows = _last_run_first(runs, slices, first_rows)
            at = pc.index_in(values, value_set=values).to_numpy()
            is_repeated[rows] = at != np.arange(len(values))
    return is_repeated


def _first_rows(runs: Sequence[pa.Array]) -> list[int]:
    """Returns the number of the first row of each run, and after them the number of all rows."""
    return [0, *np.cumsum([len(run) for run in runs], dtype=np.int64).tolist()]


def _last_run_first(
    runs: Sequence[pa.Array], slices: Sequence[tuple[int, int]], first_rows: Sequence[int]
) -> tuple[pa.Array, np.ndarray]:
    """Returns the names in slices of the runs, and their rows. Of equal names, ``index_in`` finds the first one."""
    parts = [
        (run[start:stop].cast(pa.large_string()), np.arange(first + start, first + stop))
        for run, (start, stop), first in zip(runs, slices, first_rows, strict=False)
        if start < stop
    ]
    if not parts:
        return pa.array([], pa.large_string()), np.empty(0, np.int64)
    names, rows = zip(*reversed(parts), strict=True)
    return pa.concat_arrays(names), np.concatenate(rows)


def _ranges(runs: Sequence[pa.Array]) -> Iterator[list[tuple[int, int]]]:
    """Divides the names of all runs into ranges. Yields where the part of each run starts and stops."""
    samples = sorted(name.as_py() for run in runs for name in run[SAMPLE_NAMES - 1 :: SAMPLE_NAMES])
    starts = [0] * len(runs)
    for bound in [*samples[RANGE_SAMPLES - 1 :: RANGE_SAMPLES], None]:
        stops = [_stop(run, start, bound) for run, start in zip(runs, starts, strict=True)]
        yield list(zip(starts, stops, strict=True))
        starts = stops


def _stop(run: pa.Array, start: int, bound: str | None) -> int:
    """Returns the number of names of a run up to ``bound``, of which ``start`` are known; None is above all names."""
    if bound is None or start == len(run):
        return len(run)
    if run[start].as_py() > bound:
        return start
    return bisect.bisect_right(range(len(run)), bound, start, key=lambda at: run[at].as_py())
