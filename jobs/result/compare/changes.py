"""Compares a listing of videos with the records of finished ones, to find the videos that must be read.

Most videos are found by name, size and modification time. Where only the time or only the name differs, the content
decides: ``find_changes`` says which videos are ``Unsure``, and ``settled`` takes their fingerprints.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from jobs.archive.gone import find_absent
from jobs.archive.video import Video, video_name, video_path
from jobs.archive.videos import Videos
from jobs.result.compare.records import Records


@dataclass(frozen=True)
class Move:
    """A video that was moved or renamed: its new place, and its name in the records."""

    video: Video
    old_name: str


@dataclass(frozen=True)
class Earlier:
    """The record of a video that is read again: its number of segments, and the attempts to read the same version.

    ``attempts`` is 0 when the video has changed since.
    """

    segments: int
    attempts: int


@dataclass(frozen=True)
class Origin:
    """The record of a video that is not at its place any more, and may have been moved."""

    name: str
    size: int
    fingerprint: str


@dataclass(frozen=True)
class Unsure:
    """Videos whose content decides what has happened to them.

    ``touched`` have the recorded size, but another modification time: they are touched or changed. ``recorded`` are
    their fingerprints in the records, and ``segments`` their numbers of segments. ``new`` are not in the records, but
    have the size of one of the ``origins``: they are moved or new.
    """

    touched: Videos = field(default_factory=Videos)
    recorded: tuple[str | None, ...] = ()
    segments: tuple[int, ...] = ()
    new: Videos = field(default_factory=Videos)
    origins: tuple[Origin, ...] = ()

    @property
    def videos(self) -> Videos:
        """The videos whose fingerprints are needed."""
        return self.touched.joined(self.new)

    def __len__(self) -> int:
        return len(self.touched) + len(self.new)


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
    moved: tuple[Move, ...] = ()
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
    absent: Callable[[Iterable[str]], list[str]] = find_absent,
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
    origins, origin_rows = _find_origins(new, records, not_listed & ~records.is_unstable, absent)
    not_listed[origin_rows] = False
    may_be_moved = np.isin(new.sizes, [origin.size for origin in origins])
    touched_rows = row_of_video[may_be_touched]
    by_row = np.argsort(touched_rows)
    recorded = np.empty(len(touched_rows), object)
    recorded[by_row] = records.fingerprints(touched_rows[by_row])
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
            videos.filter(may_be_touched),
            tuple(recorded.tolist()),
            tuple(records.segments[touched_rows].tolist()),
            new.filter(may_be_moved),
            origins,
        ),
        replaced=records.source_numbers(
            np.concatenate([np.flatnonzero(~records.counts), row_of_video[known & ~unchanged], origin_rows])
        ),
    )
    return changes, np.flatnonzero(not_listed)


def _find_origins(
    new: Videos, records: Records, may_move: np.ndarray, absent: Callable[[Iterable[str]], list[str]]
) -> tuple[tuple[Origin, ...], np.ndarray]:
    """Returns the records that ``new`` videos may have been moved from, and their rows.

    ``may_move`` is a mask of the records. An origin has the size of a new video, and is not at its place.
    """
    rows = np.flatnonzero(may_move)
    rows = rows[(records.sizes[rows] > 0) & np.isin(records.sizes[rows], new.sizes)]
    if not len(rows):
        return (), rows
    names = records.names(rows)
    gone = set(absent(names))
    rows = rows[[name in gone for name in names]]
    contents = records.fingerprints(rows)
    rows = rows[[content is not None for content in contents]]
    found = zip(records.names(rows), records.sizes[rows].tolist(), filter(None, contents), strict=True)
    return tuple(Origin(name, size, content) for name, size, content in found), rows


def settled(changes: Changes, fingerprint: Callable[[str], str | None]) -> Changes:
    """Returns ``changes`` without ``unsure`` videos.

    ``fingerprint`` gives that of the file at a path or address, None when it could not be read.
    """
    unsure = changes.unsure
    paths = [video_path(name.as_py()) for name in unsure.touched.names]
    contents = [fingerprint(path) for path in paths]
    same = np.array(
        [content is not None and content == before for content, before in zip(contents, unsure.recorded, strict=True)],
        bool,
    )
    changed = unsure.touched.filter(~same)
    segments = np.array(unsure.segments, np.int64)[~same].tolist()
    earlier = zip(changed.names.to_pylist(), segments, strict=True)
    moved = find_moves(unsure.new, unsure.origins, fingerprint)
    places = {video_name(move.video.path) for move in moved}
    is_new = np.array([name.as_py() not in places for name in unsure.new.names], bool)
    return replace(
        changes,
        new=changes.new.joined(unsure.new.filter(is_new)),
        changed=changes.changed.joined(changed),
        touched=changes.touched.joined(unsure.touched.filter(same)),
        moved=tuple(moved),
        gone=changes.gone + len(unsure.origins) - len(moved),
        earlier={**changes.earlier, **{name: Earlier(count, 0) for name, count in earlier}},
        unsure=Unsure(),
    )


def find_moves(new: Videos, origins: Iterable[Origin], fingerprint: Callable[[str], str | None]) -> list[Move]:
    """Finds the ``new`` videos that have the content of one of the ``origins``.

    Each record is the origin of one video at most, of one with the same file name if there is one.
    """
    names: dict[str, list[str]] = defaultdict(list)
    for origin in origins:
        names[origin.fingerprint].append(origin.name)
    left: Sequence[tuple[Video, str | None]] = [(video, fingerprint(video.path)) for video in new]
    moves = []
    # Videos that kept their file name choose first.
    for takes_any in (False, True):
        others = []
        for video, content in left:
            places = names.get(content or "", [])
            old_name = next((name for name in places if takes_any or _file_name(name) == _file_name(video.path)), None)
            if old_name is None:
                others.append((video, content))
            else:
                places.remove(old_name)
                moves.append(Move(video, old_name))
        left = others
    return sorted(moves, key=lambda move: video_name(move.video.path))


def _file_name(name: str) -> str:
    return video_path(name).rpartition("/")[2]
