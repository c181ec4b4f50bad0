"""Compares a listing of videos with the records of finished ones, to find the videos that must be read."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.archive.fingerprint import current_fingerprint
from jobs.archive.gone import find_absent
from jobs.archive.video import MAX_ATTEMPTS, PASSING_KINDS, Video, video_name, video_path
from jobs.result.columns import check_columns, fill_added_columns
from jobs.result.merge import TableFiles
from tagger.schema import VIDEOS_SCHEMA

READERS = 16
"""Number of videos that are read at a time. On a network most of the time is waiting."""

COLUMNS = ["video", "size", "mtime_ns", "fingerprint", "status", "error_kind", "attempts", "segments"]
"""Columns of the videos table that are read."""

RECORDS_SCHEMA = pa.schema([VIDEOS_SCHEMA.field(name) for name in COLUMNS])


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
class Changes:
    """The videos of a listing, grouped by how they differ from the records.

    ``new``: not in the records. ``changed``: the content differs, or it changed while it was read. ``retried``: failed
    or was read only in part, and is tried again. ``touched``: the modification time differs, the content does not.
    ``moved``: not in the records, but with the content of a recorded video that is not at its place any more.
    ``missing``: recorded and listed by name, but not there any more. ``unchanged``: the number of unchanged videos,
    with the failed ones that are not tried again. ``gone``: the number of recorded videos that are ``missing`` or not
    listed, without the moved ones. ``earlier``: the records of ``changed`` and ``retried`` videos, by name.
    """

    new: tuple[Video, ...] = ()
    changed: tuple[Video, ...] = ()
    retried: tuple[Video, ...] = ()
    touched: tuple[Video, ...] = ()
    moved: tuple[Move, ...] = ()
    missing: tuple[Video, ...] = ()
    unchanged: int = 0
    gone: int = 0
    earlier: Mapping[str, Earlier] = field(default_factory=dict)

    @property
    def kept(self) -> int:
        """The number of videos of the listing that need not be read."""
        return self.unchanged + len(self.touched) + len(self.moved)

    @property
    def todo(self) -> list[Video]:
        """The videos that must be read, sorted."""
        return sorted([*self.new, *self.changed, *self.retried], key=lambda video: video_name(video.path))


@dataclass
class Records:
    """The records of finished videos: columns, and in ``rows`` the row number of each name.

    ``is_bad``: the video failed or was read only in part. ``is_unstable``: it changed while it was read.
    ``may_pass``: its error may pass, and it was read by fewer than MAX_ATTEMPTS runs, not by this one.
    """

    rows: dict[str, int] = field(default_factory=dict)
    sizes: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    mtimes_ns: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    fingerprints: pa.ChunkedArray = field(default_factory=lambda: pa.chunked_array([pa.array([], pa.string())]))
    is_bad: np.ndarray = field(default_factory=lambda: np.empty(0, bool))
    is_unstable: np.ndarray = field(default_factory=lambda: np.empty(0, bool))
    may_pass: np.ndarray = field(default_factory=lambda: np.empty(0, bool))
    attempts: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    segments: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))


def read_records(sources: Sequence[TableFiles], this_run: Sequence[TableFiles] = ()) -> Records:
    """Reads the records in ``sources``, those of earlier runs, and in ``this_run``.

    For a video in several of them, the last one counts. A run tries a video once. Raises OSError.
    """

    def read(source: TableFiles) -> pa.Table:
        with source.videos.parquet() as file:
            check_columns(source.videos, file, VIDEOS_SCHEMA)
            return fill_added_columns(file.read(columns=COLUMNS).replace_schema_metadata(), RECORDS_SCHEMA)

    with ThreadPoolExecutor(READERS) as pool:
        tables = list(pool.map(read, [*sources, *this_run]))
    if not tables:
        return Records()
    table = pa.concat_tables(tables)
    # Of two rows with the same name, the later one counts.
    rows = dict(zip(table["video"].to_pylist(), range(table.num_rows), strict=True))
    is_bad = np.asarray(table["status"]) != "ok"
    attempts = table["attempts"].fill_null(1).to_numpy()
    is_earlier = np.arange(table.num_rows) < sum(found.num_rows for found in tables[: len(sources)])
    passing = pc.is_in(table["error_kind"], pa.array(sorted(PASSING_KINDS))).to_numpy()
    return Records(
        rows,
        table["size"].fill_null(0).to_numpy(),
        table["mtime_ns"].fill_null(0).to_numpy(),
        table["fingerprint"],
        is_bad,
        np.asarray(table["error_kind"]) == "changed",
        is_earlier & is_bad & passing & (attempts < MAX_ATTEMPTS),
        attempts,
        table["segments"].to_numpy(),
    )


def find_changes(
    videos: Sequence[Video],
    records: Records,
    *,
    retry_failed: bool = False,
    read_fingerprint: Callable[[str], str | None] = current_fingerprint,
    absent: Callable[[Iterable[str]], list[str]] = find_absent,
) -> Changes:
    """Compares a listing with the records.

    A video with the recorded size and modification time counts as unchanged. When only the time or only the name
    differs, the fingerprints decide: ``read_fingerprint`` gives that of the file at a path or address, None when it
    cannot be read. ``absent`` returns those of the names that are not at their places any more.
    """
    row_of_video = np.fromiter(
        (records.rows.get(video_name(video.path), -1) for video in videos), np.int64, len(videos)
    )
    sizes = np.fromiter((video.size for video in videos), np.int64, len(videos))
    mtimes_ns = np.fromiter((video.mtime_ns for video in videos), np.int64, len(videos))
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
    touched = np.zeros(len(videos), bool)
    candidates = np.flatnonzero(may_be_touched).tolist()
    with ThreadPoolExecutor(READERS) as pool:
        found = pool.map(read_fingerprint, (videos[i].path for i in candidates))
        for i, current in zip(candidates, found, strict=True):
            touched[i] = current is not None and current == records.fingerprints[int(row_of_video[i])].as_py()
    changed = known & ~unchanged & ~retried & ~touched & ~missing

    def chosen(mask: np.ndarray) -> tuple[Video, ...]:
        return tuple(videos[i] for i in np.flatnonzero(mask).tolist())

    # A video with an error that may pass is moved, too, so that its rows are not there twice. The next run reads it.
    may_move = ~records.is_unstable & (records.sizes > 0)
    may_move[rows] = False
    new = chosen(~known)
    moved = find_moves(new, records, may_move, read_fingerprint, absent)
    places = {move.video.path for move in moved}
    return Changes(
        new=tuple(video for video in new if video.path not in places) if moved else new,
        changed=chosen(changed),
        retried=chosen(retried),
        touched=chosen(touched),
        moved=tuple(moved),
        missing=chosen(missing),
        unchanged=int(unchanged.sum()),
        gone=len(records.rows) - len(np.unique(rows)) + int(missing.sum()) - len(moved),
        earlier={
            video_name(videos[i].path): Earlier(
                int(records.segments[row_of_video[i]]), int(records.attempts[row_of_video[i]]) if retried[i] else 0
            )
            for i in np.flatnonzero(changed | retried).tolist()
        },
    )


def find_moves(
    new: Sequence[Video],
    records: Records,
    may_move: np.ndarray,
    read_fingerprint: Callable[[str], str | None],
    absent: Callable[[Iterable[str]], list[str]],
) -> list[Move]:
    """Finds the ``new`` videos that have the content of a recorded video which is not at its place any more.

    ``may_move`` is a mask of the records. Reads only new videos of the size of such a record. Each record is the origin
    of one video at most, of one with the same file name if there is one.
    """
    new_sizes = np.unique(np.fromiter((video.size for video in new), np.int64, len(new)))
    candidates = set(np.flatnonzero(may_move & np.isin(records.sizes, new_sizes)).tolist())
    if not candidates:
        return []
    origins: dict[str, list[str]] = defaultdict(list)
    sizes = set()
    for name in absent(name for name, row in records.rows.items() if row in candidates):
        content = records.fingerprints[records.rows[name]].as_py()
        if content is not None:
            origins[content].append(name)
            sizes.add(int(records.sizes[records.rows[name]]))
    looked_at = [video for video in new if video.size in sizes]
    with ThreadPoolExecutor(READERS) as pool:
        contents = list(pool.map(read_fingerprint, (video.path for video in looked_at)))
    moves = []
    # Videos that kept their file name choose first.
    for takes_any in (False, True):
        for video, content in zip(looked_at, contents, strict=True):
            places = origins.get(content or "", [])
            old_name = next((name for name in places if takes_any or _file_name(name) == _file_name(video.path)), None)
            if old_name is not None:
                places.remove(old_name)
                moves.append(Move(video, old_name))
        moved = {move.video.path for move in moves}
        kept = [i for i, video in enumerate(looked_at) if video.path not in moved]
        looked_at, contents = [looked_at[i] for i in kept], [contents[i] for i in kept]
    return sorted(moves, key=lambda move: video_name(move.video.path))


def _file_name(name: str) -> str:
    return video_path(name).rpartition("/")[2]
