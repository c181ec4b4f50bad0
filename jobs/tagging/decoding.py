"""The decoding task: takes names of videos and returns their windows.

Nothing here imports torch, so that decoding workers stay small. Each worker keeps one decoder process for all its
tasks. A video that crashes the decoder, hangs it or exhausts its memory does not harm the worker.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from jobs.archive.fingerprint import current_fingerprint, fingerprint
from jobs.archive.gone import can_be_opened, was_deleted
from jobs.archive.video import Version, stored_time_ns
from jobs.cluster.nodes import this_node
from jobs.errors import JobError
from jobs.storage.staging import StagedVideo, staged
from jobs.tagging.transport import span_to_table
from tagger.clips import Span, VideoEnd
from tagger.errors import ErrorKind, VideoError, doing, one_line
from tagger.isolation import decoder_of_this_thread
from tagger.preprocessing import Preprocessing
from tagger.system.limits import usable_cores
from tagger.video.readers.reader import WantedReader
from tagger.windows import NEVER, Part, Ranges, Sampling

MAX_FAILURES_IN_A_ROW = 5
"""Number of videos in a row that are out of reach of a process, after which its node decodes no more."""


class OutOfReachError(JobError):
    """Videos in a row are out of reach of a node, as when its mount went away. ``video`` is the name of the last."""

    # Without defaults: they would hide the values, which Ray gives as attributes of the cause of its own error.
    node: str
    video: str


class Reach:
    """Counts the videos in a row that this process cannot reach, over all its tasks.

    A video is out of reach when it was listed and is missing, though it was not deleted, or when reading fails and its
    file cannot be opened either. A file that can be opened is on a storage that answers, as one with bad sectors does.
    """

    def __init__(self) -> None:
        self._failures_in_a_row = 0
        self._last: str | None = None

    def check(self, name: str, end: VideoEnd, *, was_listed: bool, node: str | None) -> None:
        """Notes how a video ended. Raises OutOfReachError after MAX_FAILURES_IN_A_ROW, and counts anew."""
        if end.error_kind == "missing":
            is_out_of_reach = was_listed and not was_deleted(name)
        else:
            is_out_of_reach = end.error_kind == "io" and not can_be_opened(name)
        if not is_out_of_reach:
            self._failures_in_a_row, self._last = 0, None
        elif name != self._last:  # Another part of the same video is no further failure.
            self._failures_in_a_row, self._last = self._failures_in_a_row + 1, name
        if self._failures_in_a_row >= MAX_FAILURES_IN_A_ROW:
            self._failures_in_a_row = 0
            error = OutOfReachError(
                f"{MAX_FAILURES_IN_A_ROW} videos in a row could not be read; the last: {end.error}; check the disk, "
                "the mount or the bucket; finished videos are kept, and the same command continues"
            )
            error.node, error.video = node or "", name
            raise error


_reach = Reach()


def decode(
    batch: pa.Table,
    *,
    sampling: Sampling,
    preprocessing: Preprocessing,
    span_windows: int,
    nvdec: bool = False,
    reader: WantedReader = "auto",
    threads: int = 1,
) -> Iterator[pa.Table]:
    """Reads the videos of ``batch`` one after the other and yields their spans as tables of WINDOWS_SCHEMA.

    Raises OutOfReachError when videos in a row are out of reach of this node. ``was_listed`` is a column of ``batch``:
    the video was there when the archive was listed. The column ``only``, if there is one, has the ranges to tag. The
    columns ``part`` and ``parts`` say which part of a video is read, of how many.

    With ``nvdec``, the GPU decodes the videos that it can. ``reader`` is the one that the user asks for (see
    ``tagger.video.choose.choose_reader``). ``threads`` threads decode a video that is read whole.
    """
    node = this_node()
    columns = [batch[name].to_pylist() for name in ("video", "path", "was_listed", "part", "parts")]
    columns.append(batch["only"].to_pylist() if "only" in batch.schema.names else [None] * batch.num_rows)
    for number, path, was_listed, index, parts, only in zip(*columns, strict=True):
        part = Part(index, parts)
        first, stop = NEVER, 0
        name = os.fsdecode(path)
        started = time.perf_counter()
        with doing("reading", name):
            spans = read_video(
                name,
                sampling,
                preprocessing,
                span_windows=span_windows,
                # The other parts, which an earlier run has kept, were not decoded on a GPU.
                nvdec=nvdec and parts == 1,
                reader=reader,
                only=only,
                part=part if parts > 1 else None,
                threads=threads,
            )
            for span, version in spans:
                if span.windows:
                    first, stop = min(first, span.windows[0].index), span.windows[-1].index + 1
                if span.end is not None:
                    _reach.check(name, span.end, was_listed=was_listed, node=node)
                yield span_to_table(number, span, time.perf_counter() - started, version, part, min(first, stop), stop)
                started = time.perf_counter()


def read_video(
    name: str,
    sampling: Sampling,
    preprocessing: Preprocessing,
    *,
    span_windows: int,
    nvdec: bool = False,
    reader: WantedReader = "auto",
    only: Ranges | None = None,
    part: Part | None = None,
    threads: int = 1,
) -> Iterator[tuple[Span, Version | None]]:
    """Yields the spans of a video, given by path or address; the last span comes with the version that was read.

    The version is None when size and time of the file cannot be read. When the file changes while it is read, the video
    ends with the error kind ``changed``, and its version has no fingerprint, so that no later file is taken for the
    same. Raises JobError and other VtagErrors for a problem of this machine, never for a problem of the video.
    """
    with contextlib.ExitStack() as stack:
        try:
            video = stack.enter_context(staged(name, 1 if part is None else part.of))
        except VideoError as error:
            shape = (0, sampling.num_frames, *preprocessing.shape)
            end = VideoEnd("failed", 0, error_kind=error.kind, error=one_line(str(error)))
            yield Span((), np.empty(shape, np.uint8), end), None
            return
        before = _stamp(video.path)
        # One fingerprint is enough: it reads 64 MiB of a large video.
        content = _fingerprint(video) if part is None or part.index == 0 else None
        spans = decoder_of_this_thread().spans(
            video.path,
            sampling,
            preprocessing,
            span_windows=span_windows,
            nvdec=nvdec,
            # decord reads whole files only.
            reader="pyav" if video.blocks is not None and reader == "auto" and not nvdec else reader,
            only=only,
            part=part,
            blocks=video.blocks,
            threads=min(threads, usable_cores()),
        )
        for span in spans:
            if span.end is None:
                yield span, None
                continue
            end = _with_original_name(video, span.end)
            if _stamp(video.path) != before:
                end = _failed(end, "changed", f"{video.name} was written to, or removed, while it was read")
            try:
                video.check_unchanged()
            except VideoError as error:
                end = _failed(end, error.kind, str(error))
            stamp = video.original_version or before
            is_whole = content is not None and end.error_kind != "changed"
            yield replace(span, end=end), stamp and Version(*stamp, content if is_whole else None)


def _stamp(path: str) -> tuple[int, int] | None:
    """Returns size and modification time (nanoseconds) of a local file; None when they cannot be read."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return None
    return status.st_size, stored_time_ns(status.st_mtime_ns)


def _fingerprint(video: StagedVideo) -> str | None:
    if video.blocks is not None:
        return current_fingerprint(video.name)
    try:
        return fingerprint(video.path)
    except (OSError, ValueError):
        # The reader of the video meets the same error and reports it.
        return None


def _failed(end: VideoEnd, kind: ErrorKind, error: str) -> VideoEnd:
    return replace(end, status="partial" if end.windows else "failed", error_kind=kind, error=one_line(error))


def _with_original_name(video: StagedVideo, end: VideoEnd) -> VideoEnd:
    error, choice = end.error, end.choice
    if error is not None:
        error = video.with_original_name(error)
    if choice is not None and choice.reason is not None:
        choice = replace(choice, reason=video.with_original_name(choice.reason))
    return replace(end, error=error, choice=choice)
