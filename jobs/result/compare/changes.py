"""Compares a listing of videos with the records of finished ones, to find the videos that must be read.

Most videos are found by name, size and modification time. Where only the time or only the name differs, the content
decides: ``find_changes`` says which videos are ``Unsure``, and ``settled`` takes their fingerprints.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.archive.fingerprint import CONTENT
from jobs.archive.gone import BATCH, find_absent
from jobs.archive.video import video_path
from jobs.archive.videos import Videos
from jobs.result.compare.records import Records
from jobs.result.compare.runs import no_names, take_rows

NO_CONTENTS = pa.array([], CONTENT)


@dataclass(frozen=True)
class Moves:
    """Videos that were moved or renamed: their new places, and their names in the records, in the same order."""

    videos: Videos = field(default_factory=Videos)
    old_names: pa.Array = field(default_factory=no_names)

    def __len__(self) -> int:
        return len(self.videos)


@dataclass(frozen=True)
class Earlier:
    """The record of a video that is read again: its number of segments, and the attempts to read the same version.

    ``attempts`` is 0 when the video has changed since.
    """

    segments: int
    attempts: int


@dataclass(frozen=True)
class Origins:
    """Records of videos that are not at their places any more, and may have been moved: their names and contents."""

    names: pa.Array = field(default_factory=no_names)
    contents: pa.Array = field(default_factory=lambda: NO_CONTENTS)

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class Unsure:
    """Videos whose content decides what has happened to them.

    Some are in the records with the same size, but another modification time: they are touched or changed. ``segments``
    (int32) are their numbers of segments, and ``recorded`` (CONTENT) their contents in the records, if they could be
    read. The others are not in the records, and both are null: they have the size of one of the ``origins``, and are
    moved or new.
    """

    videos: Videos = field(default_factory=Videos)
    recorded: pa.Array = field(default_factory=lambda: NO_CONTENTS)
    segments: pa.Array = field(default_factory=lambda: pa.array([], pa.int32()))
    origins: Origins = field(default_factory=Origins)

    def __len__(self) -> int:
        return len(self.videos)


@dataclass(frozen=True)
class Changes:
    """The videos of a listing, grouped by how they differ from the records.

    ``new``: not in the records. ``changed``: the content differs, or it changed while it was read. ``retried``: failed
    or was read only in part, and is tried again. ``touched``: the modification time differs, the content does not.
    ``moved``: not in the records, but with the content of a recorded video that is not at its place any more.
    ``missing``: recorded and listed by name, but not there any more. ``unchanged``: the number of unchanged videos,
    with the failed ones that are not tried again. ``gone``: the number of recorded videos that are ``missing`` or not
    listed, without those that were moved or may have been. ``earlier``: the records of ``changed`` and ``retried``
    videos, by name. ``unsure`` are in none of these groups. ``replaced``: the numbers of the sources of the records
    with rows that may leave the result, because the video is in one of these groups, or a later source has it.
    """

    new: Videos = field(default_factory=Videos)
    changed: Videos = field(default_factory=Videos)
    retried: Videos = field(default_factory=Videos)
    touched: Videos = field(default_factory=Videos)
    moved: Moves = field(default_factory=Moves)
    missing: Videos = field(default_factory=Videos)
    unchanged: int = 0
    gone: int = 0
    earlier: Mapping[str, Earlier] = field(default_factory=dict)
    unsure: Unsure = field(default_factory=Unsure)
    replaced: frozenset[int] = frozenset()

    @property
    def kept(self) -> int:
        """The number of videos of the listing that need not be read."""
        return self.unchanged + len(self.touched) + len(self.moved)

    @property
    def todo(self) -> Videos:
        """The videos that must be read."""
        return self.new.joined(self.changed, self.retried)


def find_changes(
    videos: Videos,
    records: Records,
    *,
    retry_failed: bool = False,
    absent: Callable[[list[str]], list[str]] = find_absent,
) -> tuple[Changes, np.ndarray]:
    """Compares a listing with the records. Also returns the rows of records that are neither listed nor moved.

    A video with the recorded size and modification time counts as unchanged. ``absent`` returns those of the names that
    are not at their places any more.
    """
    row_of_video = records.find(videos.names)
    sizes, mtimes_ns = videos.sizes, videos.mtimes_ns
    known = row_of_video >= 0
    rows = row_of_video[known]

    def of_known(values: np.ndarray) -> np.ndarray:
        """Returns a mask of all videos, with ``values`` for the known ones and False for the others."""
        mask = np.zeros(len(videos), bool)
        mask[known] = values
        return mask

    same_size = of_known(sizes[known] == records.sizes[rows])
    same = same_size & of_known(mtimes_ns[known] == records.mtimes_ns[rows])
    bad = of_known(records.is_bad[rows])
    unstable = of_known(records.is_unstable[rows])
    again = of_known(records.may_pass[rows]) | (bad & retry_failed)
    missing = known & ~same & (sizes == 0) & (mtimes_ns == 0)
    retried = known & same & ~unstable & again
    unchanged = known & same & ~unstable & ~retried
    may_be_touched = same_size & ~same & ~missing & ~unstable & ~again
    changed = known & ~unchanged & ~retried & ~may_be_touched & ~missing
    not_listed = records.counts.copy()
    not_listed[rows] = False
    new = videos.filter(~known)
    # A video with an error that may pass is moved, too, so that its rows are not there twice. The next run reads it.
    origins, origin_rows, sizes_of_origins = _find_origins(new, records, not_listed & ~records.is_unstable, absent)
    not_listed[origin_rows] = False
    may_be_moved = np.isin(new.sizes, sizes_of_origins)
    is_unsure = may_be_touched.copy()
    is_unsure[np.flatnonzero(~known)[may_be_moved]] = True
    rows_of_unsure = row_of_video[is_unsure]
    changes = Changes(
        new=new.filter(~may_be_moved),
        changed=videos.filter(changed),
        retried=videos.filter(retried),
        missing=videos.filter(missing),
        unchanged=int(unchanged.sum()),
        gone=int(not_listed.sum()) + int(missing.sum()),
        earlier={
            name.as_py(): Earlier(int(records.segments[row]), int(records.attempts[row]) if is_same else 0)
            for chosen in [changed | retried]
            for name, row, is_same in zip(
                videos.names.filter(pa.array(chosen)), row_of_video[chosen], retried[chosen], strict=True
            )
        },
        unsure=Unsure(
            videos.filter(is_unsure),
            _recorded_contents(records, rows_of_unsure),
            pa.array(records.segments, pa.int32()).take(_rows_or_null(rows_of_unsure)),
            origins,
        ),
        replaced=records.source_numbers(
            np.concatenate([np.flatnonzero(~records.counts), row_of_video[known & ~unchanged], origin_rows])
        ),
    )
    return changes, np.flatnonzero(not_listed)


def _rows_or_null(rows: np.ndarray) -> pa.Array:
    return pa.array(rows, mask=rows < 0)


def _recorded_contents(records: Records, rows: np.ndarray) -> pa.Array:
    """Returns the contents in these rows, in any order; null for -1."""
    ascending = np.sort(rows[rows >= 0])
    at = np.where(rows < 0, -1, np.searchsorted(ascending, rows))
    return records.contents(ascending).take(_rows_or_null(at))


def _find_origins(
    new: Videos, records: Records, may_move: np.ndarray, absent: Callable[[list[str]], list[str]]
) -> tuple[Origins, np.ndarray, np.ndarray]:
    """Returns the records that ``new`` videos may have been moved from, their rows, and their sizes.

    ``may_move`` is a mask of the records. An origin has the size of a new video, and is not at its place.
    """
    rows = np.flatnonzero(may_move & (records.sizes > 0))
    rows = rows[np.isin(records.sizes[rows], new.sizes)]
    is_absent = np.zeros(len(rows), bool)
    for start in range(0, len(rows), BATCH):
        names = records.names(rows[start : start + BATCH]).to_pylist()
        found = set(absent(names))
        is_absent[start : start + BATCH] = [name in found for name in names]
    rows = rows[is_absent]
    contents = records.contents(rows)
    rows, contents = rows[contents.is_valid().to_numpy(zero_copy_only=False)], contents.drop_null()
    return Origins(records.names(rows), contents), rows, np.unique(records.sizes[rows])


def settled(changes: Changes, contents: pa.Array) -> Changes:
    """Returns ``changes`` without ``unsure`` videos.

    ``contents`` (CONTENT) are those of their files; null for one that could not be read.
    """
    unsure = changes.unsure
    is_recorded = unsure.segments.is_valid().to_numpy(zero_copy_only=False)
    is_same = pc.fill_null(pc.equal(contents, unsure.recorded), False).to_numpy(zero_copy_only=False)
    is_changed = is_recorded & ~is_same
    changed = unsure.videos.filter(is_changed)
    segments = unsure.segments.filter(pa.array(is_changed)).to_pylist()
    earlier = zip(changed.names.to_pylist(), segments, strict=True)
    others = unsure.videos.filter(~is_recorded)
    moved, is_moved = find_moves(others, take_rows(contents, np.flatnonzero(~is_recorded)), unsure.origins)
    return replace(
        changes,
        new=changes.new.joined(others.filter(~is_moved)),
        changed=changes.changed.joined(changed),
        touched=changes.touched.joined(unsure.videos.filter(is_recorded & is_same)),
        moved=moved,
        gone=changes.gone + len(unsure.origins) - len(moved),
        earlier={**changes.earlier, **{name: Earlier(count, 0) for name, count in earlier}},
        unsure=Unsure(),
    )


def find_moves(new: Videos, contents: pa.Array, origins: Origins) -> tuple[Moves, np.ndarray]:
    """Finds the ``new`` videos that have the content of one of the ``origins``. Also returns a mask of them.

    ``contents`` (CONTENT) are those of the new videos. Each record is the origin of one video at most, of one with the
    same file name if there is one.
    """
    encoded = pa.concat_arrays([contents, origins.contents]).dictionary_encode()
    kinds = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    kinds_of_new, kinds_of_old = kinds[: len(new)], kinds[len(new) :]
    count = len(encoded.dictionary)
    new_counts = np.bincount(kinds_of_new[kinds_of_new >= 0], minlength=count)
    old_counts = np.bincount(kinds_of_old, minlength=count)
    is_single = np.append((new_counts == 1) & (old_counts == 1), False)  # The last is that of unknown content: -1.
    old_row_of_kind = np.full(count + 1, -1)
    old_row_of_kind[kinds_of_old] = np.arange(len(kinds_of_old))
    old_rows = np.where(is_single[kinds_of_new], old_row_of_kind[kinds_of_new], -1)
    several = np.flatnonzero((new_counts > 0) & (old_counts > 0) & ~is_single[:-1])
    for new_rows, rows in zip(_rows_of(kinds_of_new, several), _rows_of(kinds_of_old, several), strict=True):
        for new_row, old_row in _pairs(new_rows, new.names, rows, origins.names):
            old_rows[new_row] = old_row
    is_moved = old_rows >= 0
    return Moves(new.filter(is_moved), take_rows(origins.names, old_rows[is_moved])), is_moved


def _rows_of(kinds: np.ndarray, wanted: np.ndarray) -> Iterator[list[int]]:
    """Yields the rows of each of the ``wanted`` kinds, in ascending order."""
    by_kind = np.argsort(kinds, kind="stable") if len(wanted) else kinds
    starts, stops = (np.searchsorted(kinds, wanted, side, sorter=by_kind) for side in ("left", "right"))
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        yield by_kind[start:stop].tolist()


def _pairs(
    new_rows: list[int], new_names: pa.Array, old_rows: list[int], old_names: pa.Array
) -> Iterator[tuple[int, int]]:
    """Yields pairs of a new and an old row with the same content. Videos that kept their file name choose first."""
    rows_of_name: dict[str, list[int]] = defaultdict(list)
    for old_row in reversed(old_rows):
        rows_of_name[_file_name(old_names[old_row].as_py())].append(old_row)
    left, taken = [], set()
    for row in new_rows:
        rows = rows_of_name.get(_file_name(new_names[row].as_py()))
        if rows:
            taken.add(rows[-1])
            yield row, rows.pop()
        else:
            left.append(row)
    yield from zip(left, (old_row for old_row in old_rows if old_row not in taken), strict=False)


def _file_name(name: str) -> str:
    return video_path(name).rpartition("/")[2]
