"""The segments of a finished result as NumPy arrays, read in portions of whole videos.

A portion has about ``BATCH_ROWS`` rows, or the rows of one longer video. So memory does not grow with the archive.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from jobs.errors import reason
from jobs.result.ledger import read_started_run
from jobs.result.output import find_output
from jobs.result.published import Result, read_result
from jobs.storage.location import Location
from tagger.errors import OutputError, one_line
from tagger.windows import TIME_TOLERANCE_S, Sampling

BATCH_ROWS = 1 << 17
"""Number of rows that are read at a time."""

COLUMNS = ("video", "segment", "start_s", "end_s", "label", "confidence")
"""Columns that every question needs."""

TOP_COLUMNS = ("top_labels", "top_confidences")

DICTIONARY_COLUMNS = ("video", "label", "top_labels.list.element")
"""Columns whose values repeat, as Parquet names them."""


@dataclass(frozen=True)
class TopLabels:
    """The best labels of ``n`` segments.

    Segment ``i`` has the labels ``label[bounds[i]:bounds[i + 1]]``, numbers in ``Segments.labels``, best first, and
    their confidences ``confidence[bounds[i]:bounds[i + 1]]``. ``bounds`` is ``[n + 1]``.
    """

    bounds: np.ndarray
    label: np.ndarray
    confidence: np.ndarray


@dataclass(frozen=True)
class Segments:
    """The ``n`` segments of ``v`` whole videos, in the order of the result.

    ``videos`` are the ``v`` names, and video ``j`` has the rows ``first[j]`` to ``first[j + 1] - 1``. ``segment``,
    ``start_s``, ``end_s``, ``label`` (a number in ``labels``) and ``confidence`` are ``[n]``. So is ``ood_score``, with
    NaN for null. ``ood_score`` and ``top`` are None unless they were asked for.
    """

    videos: pa.Array
    first: np.ndarray
    segment: np.ndarray
    start_s: np.ndarray
    end_s: np.ndarray
    labels: Sequence[str]
    label: np.ndarray
    confidence: np.ndarray
    ood_score: np.ndarray | None = None
    top: TopLabels | None = None

    def __len__(self) -> int:
        return len(self.segment)

    def video(self) -> np.ndarray:
        """Returns the number of the video of each segment, ``[n]``."""
        return np.repeat(np.arange(len(self.videos)), np.diff(self.first))

    def is_within(self, max_ood: float | None) -> np.ndarray:
        """Checks for each segment whether its OOD score is known and at most ``max_ood``, ``[n] bool``.

        None is no limit.
        """
        if max_ood is None:
            return np.ones(len(self), bool)
        assert self.ood_score is not None
        return self.ood_score <= np.float32(max_ood)

    def follows(self) -> np.ndarray:
        """Checks for each segment whether it has the next number after the segment before it, ``[n] bool``.

        A segment follows none at the start of a video and after a part that could not be read.
        """
        follows = np.diff(self.segment, prepend=-2) == 1
        follows[self.first[:-1]] = False
        return follows


@dataclass(frozen=True)
class FinishedResult:
    """A finished result, and its path or address as the user typed it."""

    path: str
    result: Result

    def check_outside(self, out: Location, option: str) -> None:
        """Raises OutputError when ``out``, the value of ``option``, is in the folder of the result."""
        output = find_output(self.path)
        if output.is_folder and f"{out}/".startswith(f"{output.out}/"):
            raise OutputError(f"{option} {out} is in the folder of the result; choose another place")

    @property
    def windows_overlap(self) -> bool:
        """Whether windows begin before the end of the window before them."""
        sampling = Sampling(**self.result.identity.sampling)
        return sampling.effective_hop_s < sampling.window_s - TIME_TOLERANCE_S


def open_result(path: str) -> FinishedResult:
    """Returns the finished result at ``path``, a path or an address of a file or a folder.

    Raises OutputError when there is none, or the last run was ended in the middle of publishing.
    """
    output = find_output(path)
    result = read_result(output)
    if result is None:
        started = read_started_run(output.run_folder)
        hint = f"; {output.run_folder} holds an interrupted run, and the same command continues it" if started else ""
        raise OutputError(f"there is no result at {output.out}{hint}")
    if result.is_half_published:
        raise OutputError(
            f"{output.out}: its last run was ended in the middle of publishing; the same command continues from there"
        )
    return FinishedResult(path, result)


def read_segments(
    finished: FinishedResult, *, top: bool = False, ood: bool = False, needs_ood: bool = True
) -> Iterator[Segments]:
    """Yields all segments, with their best labels if ``top`` and their OOD scores if ``ood``.

    Raises OutputError when a file cannot be read, when the result has no segments, and, if ``ood`` and ``needs_ood``,
    when no segment has an OOD score.
    """
    numbers: dict[str, int] = {}
    is_empty, has_ood = True, False
    for source in finished.result.sources:
        for table in _whole_videos(source.tags, top=top, ood=ood):
            segments = _segments(table, numbers)
            is_empty = False
            if segments.ood_score is not None:
                has_ood = has_ood or not np.isnan(segments.ood_score).all()
            yield segments
    if is_empty:
        raise no_segments(finished)
    if ood and needs_ood and not has_ood:
        raise OutputError(f"{finished.path} has no ood_score: its model was not calibrated for it")


def read_labels(finished: FinishedResult) -> list[str]:
    """Returns all labels among the best labels of any segment, sorted. Raises OutputError when there is no segment."""
    found: set[str] = set()
    for source in finished.result.sources:
        for batch in _batches(source.tags, ["top_labels"]):
            values = batch.column(0).values
            found.update((values.dictionary if pa.types.is_dictionary(values.type) else values.unique()).to_pylist())
    if not found:
        raise no_segments(finished)
    return sorted(found)


def no_segments(finished: FinishedResult) -> OutputError:
    """Returns the error about a result without a single segment."""
    is_whole = finished.result.identity.only is None
    why = "no video of it could be read" if is_whole else "no window could be read in its ranges (--only)"
    return OutputError(f"{finished.path} has no segments: {why}")


@contextlib.contextmanager
def readable(file: Location) -> Iterator[None]:
    """Turns errors of reading the Parquet file ``file`` into OutputErrors that name it."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{file} cannot be read: {reason(error)}; see vtag verify") from error
    except pa.ArrowException as error:
        raise OutputError(f"{file} is damaged: {one_line(str(error))}; see vtag verify") from error


def _batches(file: Location, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    with readable(file), file.parquet(DICTIONARY_COLUMNS) as parquet:
        present = set(parquet.schema_arrow.names)
        names = [name for name in columns if name in present]
        # One row group after the other: pyarrow reads no batch of lists with the dictionaries of two.
        for number in range(parquet.num_row_groups):
            yield from parquet.iter_batches(BATCH_ROWS, row_groups=[number], columns=names)


def _whole_videos(file: Location, *, top: bool, ood: bool) -> Iterator[pa.Table]:
    """Yields tables of whole videos."""
    columns = [*COLUMNS, *(TOP_COLUMNS if top else ()), *(("ood_score",) if ood else ())]
    held: list[pa.RecordBatch] = []
    name = None
    for batch in _batches(file, columns):
        video = batch.column("video")
        if held and video[0].as_py() != name:
            yield pa.Table.from_batches(held)
            held = []
        begin = _last_begin(video)
        if begin:
            yield pa.Table.from_batches([*held, batch.slice(0, begin)])
            held = []
        held.append(batch.slice(begin))
        name = video[-1].as_py()
    if held:
        yield pa.Table.from_batches(held)


def _last_begin(video: pa.Array) -> int:
    """Returns the first row of the last video."""
    changes = np.flatnonzero(np.diff(_codes(video)))
    return int(changes[-1]) + 1 if len(changes) else 0


def _codes(array: pa.Array) -> np.ndarray:
    encoded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
    return np.asarray(encoded.indices)


def _numbered(array: pa.Array, numbers: dict[str, int]) -> np.ndarray:
    """Returns the number of each label. A label that is not among ``numbers`` gets the next number."""
    encoded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
    known = [numbers.setdefault(label, len(numbers)) for label in encoded.dictionary.to_pylist()]
    return np.array(known, np.int32)[np.asarray(encoded.indices)]


def _segments(table: pa.Table, numbers: dict[str, int]) -> Segments:
    table = table.unify_dictionaries().combine_chunks()
    columns = {name: table.column(name).chunk(0) for name in table.schema.names}
    video = columns["video"]
    codes = _codes(video)
    begins = np.flatnonzero(np.diff(codes, prepend=-1))
    names = video.take(pa.array(begins))
    label = _numbered(columns["label"], numbers)
    top = ood_score = None
    if "top_labels" in columns:
        lists = columns["top_labels"]
        confidences = columns["top_confidences"].flatten()
        top = TopLabels(
            np.asarray(lists.offsets) - lists.offsets[0].as_py(),
            _numbered(lists.flatten(), numbers),
            np.asarray(confidences, np.float32),
        )
    if "ood_score" in columns:
        ood_score = columns["ood_score"].to_numpy(zero_copy_only=False).astype(np.float32)
    return Segments(
        videos=names.cast(pa.string()),
        first=np.append(begins, len(codes)),
        segment=np.asarray(columns["segment"]),
        start_s=np.asarray(columns["start_s"]),
        end_s=np.asarray(columns["end_s"]),
        labels=list(numbers),
        label=label,
        confidence=np.asarray(columns["confidence"]),
        ood_score=ood_score,
        top=top,
    )
