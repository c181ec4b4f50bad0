"""Checks a published result: every video is complete, there once, and in order. Reads all rows, batch by batch."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.errors import reason
from jobs.result.columns import check_columns
from jobs.result.identity import RunIdentity, belongs_beside
from jobs.result.ledger import committed_parts, read_started_run
from jobs.result.merge import SEGMENT_KEY, TableFiles
from jobs.result.output import Output, find_output
from jobs.result.parts import Part, shown_names
from jobs.result.published import Result, expected_names, read_result
from jobs.result.totals import Totals
from jobs.storage.location import Location
from jobs.storage.replace import is_same_file
from tagger.errors import OutputError
from tagger.schema import TAGS_SCHEMA, VIDEOS_SCHEMA, embeddings_schema

BATCH_VIDEOS = 20_000
"""Number of rows of the videos table that are checked at a time."""

COLUMNS = ["video", "segment", "start_s", "end_s", "label"]
"""Columns of the tags whose values are checked."""

BATCH_EMBEDDINGS = 10_000
"""Number of embeddings that are checked at a time."""

LENGTH_TOLERANCE = 0.01
"""Largest difference of the length of an embedding from 1. Rounding to float16 changes it by less than 0.001."""


class DamagedError(Exception):
    """A damaged table. The message is one line."""


@dataclass(frozen=True)
class Verdict:
    """The outcome of a check of ``out``. ``problem`` is None when nothing is wrong.

    ``waiting`` is the number of videos that an interrupted run has finished but not published yet.
    """

    out: str
    identity: RunIdentity
    videos: int
    segments: int
    waiting: int
    problem: str | None


def verify(out: str) -> Verdict:
    """Checks the result at ``out``: its files against each other, row by row.

    Raises OutputError when there is none.
    """
    output = find_output(out)
    result = _read(output)
    while True:
        verdict = _verify(output, result)
        if verdict.problem is None:
            return verdict
        before, result = result, _read(output)
        # vtag relabel keeps the id of the run.
        if replace(result, lost=before.lost, sources=before.sources) == before:
            break
        # The result was replaced while it was read. The new one is checked.
    if not result.is_half_published:
        return verdict
    return replace(
        verdict, problem="its last run was ended in the middle of publishing; the same command continues from there"
    )


def _read(output: Output) -> Result:
    result = read_result(output)
    if result is None:
        started = read_started_run(output.run_folder)
        hint = f"; {output.run_folder} holds an interrupted run, and the same command continues it" if started else ""
        raise OutputError(f"there is no result at {output.out}{hint}")
    return result


def _verify(output: Output, result: Result) -> Verdict:
    videos = segments = unpublished = 0
    problem = None
    try:
        ranges = []
        for number, source in enumerate(result.sources):
            found = _check(source, result.identity)
            videos += found.videos
            segments += found.segments
            ranges.append((found.first, found.last, source))
            if result.parts:
                _check_counts(found, source, result.parts[number])
            _check_totals(found.totals, source, result.parts[number].totals if result.parts else result.totals)
        _check_no_duplicates(ranges)
        if output.is_folder:
            _check_shown(output, result)
        if (started := read_started_run(output.run_folder)) is not None:
            parts = committed_parts(output.run_folder)
            unpublished = sum(_check(part, started.identity).videos for part in parts)
    except (DamagedError, OutputError) as error:
        problem = str(error)
    except OSError as error:
        problem = f"{error.filename or 'it'} cannot be read: {reason(error)}"
    return Verdict(str(output.out), result.identity, videos, segments, unpublished, problem)


@dataclass(frozen=True)
class _Found:
    videos: int
    segments: int
    first: str
    last: str
    totals: Totals


def _check(source: TableFiles, identity: RunIdentity) -> _Found:
    """Reads all files of a source to the end and compares them. Raises DamagedError."""
    videos = segments = 0
    totals = Totals()
    first = last = ""
    with contextlib.ExitStack() as stack:
        tags_file = stack.enter_context(source.tags.parquet())
        videos_file = stack.enter_context(source.videos.parquet())
        check_columns(source.tags, tags_file, TAGS_SCHEMA)
        check_columns(source.videos, videos_file, VIDEOS_SCHEMA)
        # All columns are read, since reading them verifies their checksums.
        tags = _Rows(TAGS_SCHEMA, COLUMNS, tags_file.iter_batches())
        embeddings = None
        if identity.embedding_size is not None:
            embeddings = _embeddings(stack, source, identity.embedding_size, tags_file.schema_arrow)
        for batch in videos_file.iter_batches(BATCH_VIDEOS):
            names = batch["video"]
            if pc.any(pc.less_equal(names, pa.concat_arrays([pa.array([last]), names[:-1]]))).as_py():
                raise DamagedError(f"{source.videos} has a video twice, or is not sorted, after {last or 'its start'}")
            counts = batch["segments"].to_numpy()
            has_gaps = np.zeros(len(names), bool)
            if "gaps" in batch.schema.names:
                has_gaps = pc.fill_null(pc.list_value_length(batch["gaps"]), 0).to_numpy() > 0
            # Windows outside of the ranges of --only are left out, too.
            has_gaps |= identity.only is not None
            found = tags.take(int(counts.sum()))
            totals.add_videos(pa.table(batch))
            totals.add_tags(found)
            _check_tags(found, names, counts, has_gaps, source.tags)
            if embeddings is not None:
                _check_same(embeddings.take(found.num_rows), found, source)
            first, last = first or names[0].as_py(), names[-1].as_py()
            videos += len(names)
            segments += int(counts.sum())
        rest = tags.take(1)
        if rest.num_rows:
            raise DamagedError(
                f"{source.tags} has more segments than {source.videos} counts, from {rest['video'][0]} on"
            )
        if embeddings is not None and (rest := embeddings.take(1)).num_rows:
            raise DamagedError(
                f"{source.embeddings} has more rows than {source.tags} has segments, from {rest['video'][0]} on"
            )
    return _Found(videos, segments, first, last, totals)


def _check_tags(tags: pa.Table, names: pa.Array, counts: np.ndarray, has_gaps: np.ndarray, file: Location) -> None:
    """Raises DamagedError unless ``tags`` are the segments of the videos called ``names``, ``counts`` of each.

    Segments are numbered from 0. In a video that ``has_gaps``, numbers are left out.
    """
    ends = np.cumsum(counts)
    expected = names.take(pa.array(np.repeat(np.arange(len(counts)), counts)))
    numbers = np.arange(int(counts.sum())) - np.repeat(ends - counts, counts)
    is_right = np.zeros(len(expected), bool)
    rows = tags.num_rows
    is_right[:rows] = pc.equal(tags["video"].combine_chunks(), expected[:rows]).to_numpy(zero_copy_only=False)
    found = tags["segment"].to_numpy()
    grows = np.diff(found, prepend=-1) > 0
    may_skip = np.repeat(has_gaps, counts)[:rows] & (found >= 0) & (grows | (numbers[:rows] == 0))
    is_right[:rows] &= (found == numbers[:rows]) | may_skip
    start_s, end_s = tags["start_s"].to_numpy(), tags["end_s"].to_numpy()
    is_right[:rows] &= (start_s >= 0) & (start_s < end_s)
    if not is_right.all():
        row = int(np.argmin(is_right))
        raise DamagedError(f"{file}: segments of {expected[row]} are missing or wrong (from number {numbers[row]})")


def _embeddings(stack: contextlib.ExitStack, source: TableFiles, size: int, tags: pa.Schema) -> "_Rows":
    """Opens the embeddings of a source. Their values are checked while they are read. Raises DamagedError.

    ``tags`` is the schema of the tags file.
    """
    if source.embeddings is None:
        raise DamagedError(f"{source.tags} has no embeddings beside it")
    file = stack.enter_context(source.embeddings.parquet())
    schema = embeddings_schema(size)
    check_columns(source.embeddings, file, schema)
    if not belongs_beside(file.schema_arrow.metadata, tags.metadata):
        raise DamagedError(f"{source.tags} and {source.embeddings.name} come from different runs")
    checked = (_with_good_vectors(batch, source.embeddings) for batch in file.iter_batches(BATCH_EMBEDDINGS))
    return _Rows(schema, SEGMENT_KEY, checked)


def _with_good_vectors(batch: pa.RecordBatch, file: Location) -> pa.RecordBatch:
    """Returns ``batch``. Raises DamagedError unless each embedding has the length 1."""
    vectors = batch["embedding"].flatten().to_numpy(zero_copy_only=False).reshape(batch.num_rows, -1)
    lengths = np.linalg.norm(vectors.astype(np.float32), axis=1)
    # A comparison with a value that is no number is false.
    is_good = np.abs(lengths - 1) <= LENGTH_TOLERANCE
    if not is_good.all():
        row = int(np.argmin(is_good))
        video, segment = batch["video"][row], batch["segment"][row]
        raise DamagedError(f"{file}: the embedding of segment {segment} of {video} is damaged")
    return batch


def _check_same(embeddings: pa.Table, tags: pa.Table, source: TableFiles) -> None:
    """Raises DamagedError unless the embeddings are those of the segments in ``tags``, in the same order."""
    rows = embeddings.num_rows
    is_right = np.zeros(tags.num_rows, bool)
    is_right[:rows] = pc.equal(embeddings["video"], tags["video"][:rows]).to_numpy()
    is_right[:rows] &= embeddings["segment"].to_numpy() == tags["segment"].to_numpy()[:rows]
    if not is_right.all():
        row = int(np.argmin(is_right))
        raise DamagedError(
            f"{source.embeddings}: embeddings of {tags['video'][row]} are missing or wrong "
            f"(from segment {tags['segment'][row]})"
        )


class _Rows:
    """Some columns of the rows of batches, to be taken in portions of another size."""

    def __init__(self, schema: pa.Schema, columns: list[str], batches: Iterator[pa.RecordBatch]):
        self._batches = (batch.select(columns) for batch in batches)
        self._empty = schema.empty_table().select(columns)
        self._rest: list[pa.RecordBatch] = []

    def take(self, rows: int) -> pa.Table:
        """The next ``rows`` rows; fewer at the end."""
        while sum(batch.num_rows for batch in self._rest) < rows and (batch := next(self._batches, None)) is not None:
            self._rest.append(batch)
        if not self._rest:
            return self._empty
        table = pa.Table.from_batches(self._rest)
        self._rest = table.slice(rows).to_batches()
        return table.slice(0, rows)


def _check_no_duplicates(ranges: list[tuple[str, str, TableFiles]]) -> None:
    """Raises DamagedError when a video is in two sources."""
    ranges.sort(key=lambda found: found[:2])
    reach = ""
    names: list[pa.Array] = []
    for index, (first, last, source) in enumerate(ranges):
        overlaps = first <= reach or (index + 1 < len(ranges) and ranges[index + 1][0] <= last)
        reach = max(reach, last)
        if overlaps:
            with source.videos.parquet() as file:
                names.append(file.read(columns=["video"])["video"].combine_chunks())
    if names:
        counts = pc.value_counts(pa.concat_arrays(names))
        twice = counts.filter(pc.greater(counts.field("counts"), 1))
        if len(twice):
            raise DamagedError(f"{twice[0]['values']} is in more than one part")


def _check_counts(found: _Found, source: TableFiles, part: Part) -> None:
    if (found.videos, found.segments) != (part.videos, part.segments):
        raise DamagedError(f"{source.videos} or its tags do not match the manifest")


def _check_totals(found: Totals, source: TableFiles, kept: Totals | None) -> None:
    """Raises DamagedError when the totals that were kept beside the rows are not those of the rows."""
    if kept is not None and not found.is_same(kept):
        raise DamagedError(f"{source.tags} and {source.videos.name} have other totals than those kept with them")


def _check_shown(output: Output, result: Result) -> None:
    """Raises DamagedError unless readers of the manifest and of ``*.parquet`` see the parts of ``result`` alone."""
    for file in result.lost:
        raise DamagedError(
            f"{file} is missing, and the manifest names it; the next vtag run or compact makes it again from the same "
            "rows in tags/ and videos/"
        )
    for folder, names in expected_names(output, result):
        there = shown_names(folder)
        for name in sorted(there - names):
            raise DamagedError(
                f"{folder.child(name)} is not in the manifest, and readers of *.parquet see its rows, too; "
                "the next vtag run or compact removes it"
            )
        for name in sorted(names - there):
            raise DamagedError(
                f"{folder.child(name)} is missing, and readers of *.parquet do not see its rows; "
                "the next vtag run or compact makes it again"
            )
    for part, source in zip(result.parts, result.sources, strict=True):
        shown = part.shown(output)
        if not all(map(is_same_file, shown.files, source.files)):
            _check_counts(_check(shown, result.identity), shown, part)
