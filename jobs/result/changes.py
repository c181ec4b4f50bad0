"""Compares a listing of videos with the records of finished ones, to find the videos that must be read."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from jobs.archive.fingerprint import fingerprint, fingerprint_of
from jobs.archive.video import Video, video_name
from jobs.result.merge import TablePair
from jobs.storage.location import is_address, locate
from tagger.errors import VtagError

READERS = 16
"""Number of videos that are read at a time. On a network most of the time is waiting."""

COLUMNS = ["video", "size", "mtime_ns", "fingerprint", "status", "error_kind"]
"""Columns of the videos table that are read."""


@dataclass(frozen=True)
class Changes:
    """The videos of a listing, grouped by how they differ from the records.

    ``new``: not in the records. ``changed``: the content differs, or it changed while it was read. ``retried``: failed
    or was read only in part, and is tried again. ``touched``: the modification time differs, the content does not.
    ``missing``: recorded and listed by name, but not there any more. ``unchanged``: the number of unchanged videos,
    with the failed ones that are not tried again. ``gone``: the number of recorded videos that are ``missing`` or not
    listed.
    """

    new: tuple[Video, ...] = ()
    changed: tuple[Video, ...] = ()
    retried: tuple[Video, ...] = ()
    touched: tuple[Video, ...] = ()
    missing: tuple[Video, ...] = ()
    unchanged: int = 0
    gone: int = 0

    @property
    def todo(self) -> list[Video]:
        """The videos that must be read, sorted."""
        return sorted([*self.new, *self.changed, *self.retried], key=lambda video: video_name(video.path))


@dataclass
class Records:
    """The records of finished videos: columns, and in ``rows`` the row number of each name.

    ``is_bad``: the video failed or was read only in part. ``is_unstable``: it changed while it was read.
    """

    rows: dict[str, int] = field(default_factory=dict)
    sizes: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    mtimes_ns: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    fingerprints: pa.ChunkedArray = field(default_factory=lambda: pa.chunked_array([pa.array([], pa.string())]))
    is_bad: np.ndarray = field(default_factory=lambda: np.empty(0, bool))
    is_unstable: np.ndarray = field(default_factory=lambda: np.empty(0, bool))


def read_records(sources: Iterable[TablePair]) -> Records:
    """Reads the records in ``sources``. For a video in several of them, the last one counts. Raises OSError."""

    def read(source: TablePair) -> pa.Table:
        with source.videos.parquet() as file:
            return file.read(columns=COLUMNS).replace_schema_metadata()

    with ThreadPoolExecutor(READERS) as pool:
        tables = list(pool.map(read, sources))
    if not tables:
        return Records()
    table = pa.concat_tables(tables)
    # Of two rows with the same name, the later one counts.
    rows = dict(zip(table["video"].to_pylist(), range(table.num_rows), strict=True))
    return Records(
        rows,
        table["size"].fill_null(0).to_numpy(),
        table["mtime_ns"].fill_null(0).to_numpy(),
        table["fingerprint"],
        np.asarray(table["status"]) != "ok",
        np.asarray(table["error_kind"]) == "changed",
    )


def find_changes(
    videos: Sequence[Video],
    records: Records,
    *,
    retry_failed: bool = False,
    read_fingerprint: Callable[[str], str | None] | None = None,
) -> Changes:
    """Compares a listing with the records.

    A video with the recorded size and modification time counts as unchanged. When only the time differs, the
    fingerprints decide: ``read_fingerprint`` gives that of the file at a path or address, None when it cannot be read.
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
    missing = known & ~same & (sizes == 0) & (mtimes_ns == 0)
    retried = known & same & bad & ~unstable & retry_failed
    unchanged = known & same & ~unstable & ~retried
    may_be_touched = same_size & ~same & ~missing & ~unstable & ~(bad & retry_failed)
    touched = np.zeros(len(videos), bool)
    candidates = np.flatnonzero(may_be_touched).tolist()
    with ThreadPoolExecutor(READERS) as pool:
        found = pool.map(read_fingerprint or _current_fingerprint, (videos[i].path for i in candidates))
        for i, current in zip(candidates, found, strict=True):
            touched[i] = current is not None and current == records.fingerprints[int(row_of_video[i])].as_py()
    changed = known & ~unchanged & ~retried & ~touched & ~missing

    def chosen(mask: np.ndarray) -> tuple[Video, ...]:
        return tuple(videos[i] for i in np.flatnonzero(mask).tolist())

    return Changes(
        new=chosen(~known),
        changed=chosen(changed),
        retried=chosen(retried),
        touched=chosen(touched),
        missing=chosen(missing),
        unchanged=int(unchanged.sum()),
        gone=len(records.rows) - len(np.unique(rows)) + int(missing.sum()),
    )


def _current_fingerprint(path: str) -> str | None:
    """Reads the fingerprint of the file at a path or address now; None when it cannot be read."""
    try:
        if not is_address(path):
            return fingerprint(Path(path))
        location = locate(path)
        with location.filesystem.open_input_file(location.path) as file:
            return fingerprint_of(file, file.size())
    except (OSError, VtagError):
        return None
