"""Publishes a result: merges the rows of a run and of the earlier result, adds metadata, and replaces the files."""

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.archive.video import Failure
from jobs.errors import reason, what_failed
from jobs.result.compare.runs import repeated_names, sorted_names
from jobs.result.identity import RunIdentity, file_metadata, from_metadata
from jobs.result.merge import EMBEDDINGS_GROUP_ROWS, READERS, ROW_GROUP_ROWS, Merged, TableFiles, merge
from jobs.result.output import Output
from jobs.result.parts import Part, next_number, remove_left_overs, show, without_small
from jobs.result.published import Result, kept_numbers, list_files, write_manifest
from jobs.result.totals import Totals
from jobs.storage.location import Location, parquet_writer
from jobs.storage.replace import replace_together
from tagger.errors import OutputError
from tagger.schema import TAGS_SCHEMA, VIDEOS_SCHEMA, embeddings_schema
from tagger.segments import BACKGROUND

ROWS_PER_FILE = 5_000_000
"""Number of rows after which a part file ends. The last range that is merged into it may exceed this number."""

EMBEDDED_ROWS_PER_FILE = 1_000_000
"""The same for a result with embeddings. Such a file of embeddings has about 1 GB."""

TOP_LABELS = 10
"""Number of labels in ``ResultCounts.top_labels``."""


@dataclass(frozen=True)
class LabelCount:
    """The number and the total length of the segments with ``label`` as their first label."""

    label: str
    segments: int
    seconds: float


@dataclass
class ResultCounts(Totals):
    """The counts of a result. ``failures`` are those of the current run, not of earlier ones."""

    failures: list[Failure] = field(default_factory=list)

    @property
    def top_labels(self) -> tuple[LabelCount, ...]:
        """The most frequent labels."""
        best = sorted(self.labels, key=lambda label: (-self.labels[label], label))[:TOP_LABELS]
        return tuple(map(self._count, best))

    @property
    def background(self) -> LabelCount:
        """The segments that show none of the classes of the model."""
        return self._count(BACKGROUND)

    def _count(self, label: str) -> LabelCount:
        return LabelCount(label, self.labels[label], self.label_s[label])

    def add_failures(self, merged: Merged, first_new: int) -> None:
        """Adds the failures among rows. Sources from number ``first_new`` on are those of this run."""
        videos = merged.videos
        is_bad = pc.and_(pc.not_equal(videos["status"], "ok"), pa.array(merged.sources >= first_new))
        for row in videos.filter(is_bad).select(["video", "status", "error_kind", "error"]).to_pylist():
            self.failures.append(Failure(row["video"], row["status"], row["error_kind"], row["error"] or "unknown"))


def publish(
    output: Output,
    identity: RunIdentity,
    run_id: str,
    base: Result | None,
    new_tables: Sequence[TableFiles],
    *,
    drop: pa.Array | None = None,
    replaced: Collection[int] | None = None,
    check_lock: Callable[[], None] = lambda: None,
    keeps_previous: bool = True,
) -> ResultCounts:
    """Publishes the ``new_tables`` of a run, with the rows of ``base`` that they do not replace, at ``output``.

    ``drop``: the names of the videos whose rows leave the result. ``replaced``: the numbers of the sources of ``base``
    that may have rows of these videos or of those in ``new_tables``; None for all. The names in other sources are not
    read. ``check_lock`` is called before each file is put in place, and raises OutputError when another job holds the
    output now. ``keeps_previous``: part files that were in the result until now stay for one more publication.

    Raises OutputError when the output cannot be written. Then nothing is lost, and the call can be repeated. A repeated
    call gives the same result.
    """
    try:
        if output.is_folder:
            changed = drop, replaced
            return _publish_folder(output, identity, run_id, base, new_tables, *changed, check_lock, keeps_previous)
        return _publish_files(output, identity, run_id, base, new_tables, drop, check_lock)
    except OSError as error:
        what = what_failed(error, f"{output.out} cannot be written")
        raise OutputError(f"{what}: {reason(error)}; finished videos are kept, run the same command again") from error


def count_result(result: Result) -> ResultCounts:
    """Returns the counts of a published result, without failures. Reads rows only where there are no totals."""
    counts = ResultCounts()
    if not result.parts:
        counts.add_totals(result.totals or _count_rows(result.sources))
    for part, source in zip(result.parts, result.sources, strict=bool(result.parts)):
        counts.add_totals(part.totals or _count_rows([source]))
    return counts


def _count_rows(sources: Sequence[TableFiles]) -> Totals:
    totals = Totals()
    for merged in merge(sources):
        totals.add_videos(merged.videos)
        totals.add_tags(merged.tags)
    return totals


@dataclass(frozen=True)
class _Writers:
    """Writers of the files of a part, or of a result in single files."""

    tags: pq.ParquetWriter
    videos: pq.ParquetWriter
    embeddings: pq.ParquetWriter | None

    def write(self, merged: Merged) -> None:
        self.tags.write_table(merged.tags, row_group_size=ROW_GROUP_ROWS)
        self.videos.write_table(merged.videos, row_group_size=ROW_GROUP_ROWS)
        if self.embeddings is not None:
            self.embeddings.write_table(merged.embeddings, row_group_size=EMBEDDINGS_GROUP_ROWS)


@contextlib.contextmanager
def _write_together(
    files: TableFiles, identity: RunIdentity, run_id: str, check_lock: Callable[[], None]
) -> Iterator[_Writers]:
    """Yields writers of ``files``. All files are completed, then put in place: the videos first and the tags last."""
    metadata = file_metadata(identity, run_id)
    schemas = [(files.videos, VIDEOS_SCHEMA), (files.tags, TAGS_SCHEMA)]
    if files.embeddings is not None and identity.embedding_size is not None:
        schemas.insert(1, (files.embeddings, embeddings_schema(identity.embedding_size)))
    with contextlib.ExitStack() as stack:
        paths = stack.enter_context(replace_together([file for file, _ in schemas], check_lock))
        videos, *embeddings, tags = (
            stack.enter_context(parquet_writer(path, schema.with_metadata(metadata)))
            for path, (_, schema) in zip(paths, schemas, strict=True)
        )
        yield _Writers(tags, videos, embeddings[0] if embeddings else None)


def _publish_files(
    output: Output,
    identity: RunIdentity,
    run_id: str,
    base: Result | None,
    new_tables: Sequence[TableFiles],
    drop: pa.Array | None,
    check_lock: Callable[[], None],
) -> ResultCounts:
    before = base.sources if base is not None else ()
    keep = None
    if base is not None and base.is_half_published:
        # The tags may still have rows of videos that the interrupted run pruned.
        keep = pa.concat_arrays([_names(source) for source in (*before, *new_tables)])
    counts = ResultCounts()
    files = TableFiles(output.tags, output.videos, output.embeddings if identity.embeddings else None)
    with _write_together(files, identity, run_id, check_lock) as writers:
        for merged in merge([*before, *new_tables], keep=keep, drop=drop, embedding_size=identity.embedding_size):
            writers.write(merged)
            counts.add_videos(merged.videos)
            counts.add_tags(merged.tags)
            counts.add_failures(merged, len(before))
        writers.tags.add_key_value_metadata(counts.to_metadata())
    if identity.embeddings is None and base is None and _is_of_a_result(output.embeddings):
        # They belong to the result that this one replaces.
        check_lock()
        output.embeddings.delete()
    return counts


def _is_of_a_result(file: Location) -> bool:
    """Checks whether there is a file at ``file`` that vtag wrote."""
    try:
        with file.parquet() as parquet:
            from_metadata(parquet.schema_arrow.metadata)
    except (OSError, ValueError, KeyError):
        return False
    return True


def _publish_folder(
    output: Output,
    identity: RunIdentity,
    run_id: str,
    base: Result | None,
    new_tables: Sequence[TableFiles],
    drop: pa.Array | None,
    replaced: Collection[int] | None,
    check_lock: Callable[[], None],
    keeps_previous: bool,
) -> ResultCounts:
    has_embeddings = identity.embeddings is not None
    tables = [output.tags, output.videos, *([output.embeddings] if has_embeddings else [])]
    for folder in (output.out, output.parts, *tables):
        folder.create_folder()
    if base is not None:
        list_files(output, base)
    previous = kept_numbers(output, run_id)
    unchanged, rewritten = _split(output, base, new_tables, drop, replaced)
    rows = sum(part.rows for part in rewritten) + _rows_in(new_tables)
    rows_per_file = EMBEDDED_ROWS_PER_FILE if has_embeddings else ROWS_PER_FILE
    unchanged, small = without_small(unchanged, rows, rows_per_file)
    rewritten += small
    first = number = next_number(output, previous)
    written: list[Part] = []
    unchanged = [replace(part, totals=part.totals or _count_rows([part.listed(output)])) for part in unchanged]
    counts = ResultCounts()
    for part in unchanged:
        assert part.totals is not None
        counts.add_totals(part.totals)
    sources = [*(part.listed(output) for part in rewritten), *new_tables]
    batches = merge(sources, drop=drop, embedding_size=identity.embedding_size)
    merged = next(batches, None)
    while merged is not None:
        part, totals = Part(number, 0, 0, has_embeddings), Totals()
        with _write_together(part.listed(output), identity, run_id, check_lock) as writers:
            while merged is not None and part.segments < rows_per_file:
                writers.write(merged)
                counts.add_failures(merged, len(rewritten))
                totals.add_videos(merged.videos)
                totals.add_tags(merged.tags)
                part = Part(number, totals.videos, totals.segments, has_embeddings, totals)
                merged = next(batches, None)
        counts.add_totals(totals)
        written.append(part)
        number += 1
    publish_parts(output, identity, run_id, [*unchanged, *written], previous, first, check_lock, keeps_previous)
    return counts


def publish_parts(
    output: Output,
    identity: RunIdentity,
    run_id: str,
    parts: Sequence[Part],
    previous: set[int],
    first: int,
    check_lock: Callable[[], None],
    keeps_previous: bool = True,
) -> None:
    """Makes ``parts`` the result in a folder. Their files have their names in ``parts/``, the new ones from number
    ``first`` on.

    ``previous`` are the numbers of parts that were in the result until now.
    """
    numbers = {part.number for part in parts}
    previous = previous - numbers if keeps_previous else set()
    # From here on, readers of the manifest see the new result.
    write_manifest(output, identity, run_id, parts, previous, check_lock)
    check_lock()
    # A job that was paused here and has lost the lock removes no newer part of the other job.
    show(output, parts, below=first)
    check_lock()
    remove_left_overs(output, numbers | previous, below=first)


def _split(
    output: Output,
    base: Result | None,
    new_tables: Sequence[TableFiles],
    drop: pa.Array | None,
    replaced: Collection[int] | None,
) -> tuple[list[Part], list[Part]]:
    """Divides the parts of ``base`` into those that stay unchanged and those that must be rewritten.

    A part must be rewritten when a video in it was read again or leaves the result.
    """
    if base is None:
        return [], []
    suspects = [part for number, part in enumerate(base.parts) if replaced is None or number in replaced]
    if not suspects:
        return list(base.parts), []
    with ThreadPoolExecutor(READERS) as pool:
        names = list(pool.map(_names, [*(part.listed(output) for part in suspects), *new_tables]))
    # All names are looked up once, not for each part: ten million of them take seconds.
    is_outdated = repeated_names([*names, *([] if drop is None else [sorted_names(drop)])])
    stops = np.cumsum([len(column) for column in names])
    slices = zip(suspects, [0, *stops], stops, strict=False)
    rewritten = [part for part, start, stop in slices if is_outdated[start:stop].any()]
    return [part for part in base.parts if part not in rewritten], rewritten


def _rows_in(tables: Sequence[TableFiles]) -> int:
    """Returns the number of videos and segments."""

    def count(location: Location) -> int:
        with location.parquet() as file:
            return int(file.metadata.num_rows)

    with ThreadPoolExecutor(READERS) as pool:
        return sum(pool.map(count, [file for files in tables for file in (files.videos, files.tags)]))


def _names(source: TableFiles) -> pa.Array:
    with source.videos.parquet() as file:
        return file.read(columns=["video"])["video"].combine_chunks()
