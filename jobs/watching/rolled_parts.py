"""Keeps the segments of a live picture as a result in a folder, a part every few minutes."""

import contextlib
import itertools
import math
import tempfile
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.archive.video import video_name
from jobs.errors import reason, what_failed
from jobs.result.identity import RunIdentity, file_metadata
from jobs.result.merge import TableFiles
from jobs.result.output import Output, choose_output
from jobs.result.publish import publish
from jobs.result.published import Result, complete, read_result
from jobs.result.rewrite.exclusive import rewriting
from jobs.storage.file_systems import StorageError
from jobs.storage.location import locate
from tagger.errors import OutputError
from tagger.live.watch import LiveSegment
from tagger.schema import TAGS_SCHEMA, VIDEOS_SCHEMA
from tagger.tagger import ModelSource
from tagger.windows import Sampling

now_s = time.monotonic
"""The clock by which parts are rolled."""

RETRY_S = 60.0
"""Seconds after which rows that could not be written are tried again, or the time of a part if that is shorter."""

MOST_ROWS = 200_000
"""Rows that are kept while they cannot be written: those of two days, at one each second."""

NOT_SEEN = "not all of it was seen and classified"


@dataclass(frozen=True)
class _Failure:
    """Rows that could not be published, and why."""

    rows: list[LiveSegment]
    error: BaseException


class RolledParts:
    """Writes segments to the folder ``out``. A context: the last part is written at its end.

    Each part is a video of its own in the result. Its name is the source and the time at which it begins, from which
    its seconds count. Windows overlap; a part ends where the next one begins, and so do its last rows. Parts are
    published by a thread, so the picture does not wait. The rows of a part that cannot be written, as when the disk is
    full, are kept and tried again with those of the next part. Raises OutputError when ``out`` cannot hold them, for
    errors that do not pass, at more than MOST_ROWS, and for rows left at the end.
    """

    def __init__(self, out: str, source: str, model: ModelSource, sampling: Sampling, top_k: int, roll_s: float):
        self._output = choose_output(out)
        if not self._output.is_folder:
            raise OutputError(f"--out {out} is one file; a live picture is kept in a folder: leave out .parquet")
        self._source = _recorded(source)
        self._identity = RunIdentity(model.name, model.hash, sampling.to_json(), top_k)
        self._window_s = sampling.window_s
        self._roll_s = roll_s
        self._rows: list[LiveSegment] = []
        self._due_s = self._added_s = 0.0
        self._publishing: threading.Thread | None = None
        self._is_published = threading.Event()
        self._failure: _Failure | None = None
        self._trouble: str | None = None
        self._held = contextlib.ExitStack()
        _read_base(self._output, self._identity)

    def __enter__(self) -> Self:
        self._check_lock = self._held.enter_context(rewriting(self._output, self._output))
        complete(self._output)
        _read_base(self._output, self._identity)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._held:
            interrupt: KeyboardInterrupt | None = None
            while (again := self._finish()) is not None:
                interrupt = again
            if self._rows:
                raise OutputError(f"{self._trouble}; {len(self._rows):,} segments are lost")
            if interrupt is not None:
                raise interrupt

    def _finish(self) -> KeyboardInterrupt | None:
        """Publishes all rows. Returns an interrupt that came during that, after which it is called again."""
        try:
            self.finish_publishing()
            self.roll()
            self.finish_publishing()
        except KeyboardInterrupt as interrupt:
            return interrupt
        return None

    def add(self, segment: LiveSegment) -> str | None:
        """Adds a segment to the open part, or begins to publish that and opens the next one, when it is old enough.

        Returns a new reason why a part that could not be published is kept.
        """
        trouble = self._roll_if_due(segment.start_s)
        if not self._rows:
            self._due_s = now_s() + self._roll_s
        self._rows.append(segment)
        self._added_s = now_s()
        return trouble

    def roll_if_quiet(self) -> str | None:
        """Begins to publish the open part when it is old enough and no segment has come for a window's time.

        A live source then goes on behind the part; a pipe may go on where it was, and the next part overlaps this one
        by up to a window. Returns what ``add`` returns.
        """
        return self._roll_if_due(math.inf if now_s() >= self._added_s + self._window_s else None)

    def _roll_if_due(self, until_s: float | None) -> str | None:
        """Rolls at ``until_s`` if it is time; None: it is not known where the next part will begin."""
        trouble = None
        if self._publishing is not None and not self._publishing.is_alive():
            trouble = self.finish_publishing()
        if self._rows and now_s() >= self._due_s and until_s is not None:
            trouble = self.roll(until_s) or trouble
        return trouble

    def roll(self, until_s: float = math.inf) -> str | None:
        """Begins to publish the open part, if it has rows. Waits until the one before is published.

        ``until_s`` is the end of the part in seconds of the stream, if its last windows reach further.
        """
        trouble = self.finish_publishing()
        if self._rows and (trouble is None or now_s() >= self._due_s):
            rows, self._rows = self._rows, []
            self._is_published.clear()
            self._publishing = threading.Thread(target=self._publish, args=(rows, until_s), name="vtag-publish")
            self._publishing.start()
        return trouble

    def finish_publishing(self) -> str | None:
        """Waits until the last part is published. Returns the reason why it could not be, if that is a new one."""
        if self._publishing is None:
            return None
        if self._publishing.is_alive():
            # Before Python 3.13, a ``join`` that is interrupted takes the thread for ended.
            self._is_published.wait()
        self._publishing.join()
        self._publishing = None
        failure, self._failure = self._failure, None
        if failure is None:
            self._trouble = None
            return None
        if not _may_pass(failure.error):
            raise failure.error
        self._rows = [*failure.rows, *self._rows]
        self._due_s = now_s() + min(self._roll_s, RETRY_S)
        before, self._trouble = self._trouble, _words(failure.error, self._output)
        if len(self._rows) > MOST_ROWS:
            raise OutputError(self._trouble)
        return None if self._trouble == before else f"{self._trouble}; the segments are kept, and vtag tries again"

    def _publish(self, rows: list[LiveSegment], until_s: float) -> None:
        # Each publication is a run of its own: files that a run has replaced stay until the next run.
        run_id = uuid.uuid4().hex
        try:
            with tempfile.TemporaryDirectory(prefix="vtag-watch-") as folder:
                files = _write(rows, until_s, self._source, Path(folder), file_metadata(self._identity, run_id))
                base = read_result(self._output)
                publish(self._output, self._identity, run_id, base, [files], check_lock=self._check_lock)
        except BaseException as error:
            self._failure = _Failure(rows, error)
        finally:
            self._is_published.set()


def _recorded(source: str) -> str:
    """Returns the name of a source in a result.

    A path becomes an address: else a job with ``--prune`` would look for the part as a file of that folder.
    """
    name = video_name(source)
    if name.startswith("/"):
        return f"live://{name}"
    return name.replace("file://", "live://", 1) if name != source else name


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, OSError | StorageError) or isinstance(error.__cause__, OSError)


def _words(error: BaseException, output: Output) -> str:
    cause = error if isinstance(error, OSError) else error.__cause__
    if isinstance(cause, OSError):
        return f"{what_failed(cause, f'{output.out} cannot be written')}: {reason(cause)}"
    return str(error)


def _read_base(output: Output, identity: RunIdentity) -> Result | None:
    base = read_result(output)
    difference = None if base is None else identity.difference(base.identity)
    if difference:
        raise OutputError(f"{output.out} was made with {difference}; choose another --out")
    return base


def _write(
    rows: Sequence[LiveSegment], until_s: float, source: str, folder: Path, metadata: dict[str, str]
) -> TableFiles:
    first, last = rows[0], rows[-1]
    ends_s = [min(row.end_s, until_s) for row in rows]
    begun_at = first.ended_at - timedelta(seconds=first.end_s - first.start_s)
    time_of = begun_at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    name = f"{source}@{time_of}"
    tags = [
        {
            "video": name,
            "segment": row.index - first.index,
            "start_s": row.start_s - first.start_s,
            "end_s": end_s - first.start_s,
            "label": row.label,
            "confidence": row.confidence,
            "ood_score": row.ood_score,
            "top_labels": list(row.top_labels),
            "top_confidences": list(row.top_confidences),
        }
        for row, end_s in zip(rows, ends_s, strict=True)
    ]
    gaps = [
        (end_s - first.start_s, max(end_s, after.start_s) - first.start_s)
        for (before, after), end_s in zip(itertools.pairwise(rows), ends_s, strict=False)
        if after.index != before.index + 1
    ]
    duration_s = ends_s[-1] - first.start_s
    ended_ns = int(last.ended_at.timestamp() * 1e6) * 1000
    video: dict[str, Any] = {
        "video": name,
        "mtime": ended_ns // 1000,
        "mtime_ns": ended_ns,
        "duration_s": duration_s,
        "stream_start_s": 0.0,
        "read_s": duration_s - sum(end_s - start_s for start_s, end_s in gaps),
        "gaps": [{"start_s": start_s, "end_s": end_s} for start_s, end_s in gaps],
        "segments": len(rows),
        "status": "partial" if gaps else "ok",
        "error_kind": "io" if gaps else None,
        "error": f"{name}: {NOT_SEEN}" if gaps else None,
        "attempts": 1,
        "decoder": "pyav",
        "decode_s": 0.0,
        "predict_s": sum(row.model_s for row in rows),
    }
    files = folder / "tags.parquet", folder / "videos.parquet"
    tables = pa.Table.from_pylist(tags, TAGS_SCHEMA), pa.Table.from_pylist([video], VIDEOS_SCHEMA)
    for file, table in zip(files, tables, strict=True):
        pq.write_table(table.replace_schema_metadata(metadata), file)
    return TableFiles(*map(locate, files))
