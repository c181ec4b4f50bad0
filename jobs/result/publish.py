"""Publishes a result: merges the rows of a run and of the earlier result, adds metadata, and replaces the files."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.archive.video import Failure
from jobs.errors import reason, what_failed
from jobs.result.identity import RunIdentity, file_metadata
from jobs.result.merge import ROW_GROUP_ROWS, Merged, TablePair, merge
from jobs.result.output import Output
from jobs.result.parts import Part, next_number, remove_left_overs, show
from jobs.result.published import Result, kept_numbers, list_files, write_manifest
from jobs.storage.location import parquet_writer
from jobs.storage.replace import replace_together
from tagger.errors import OutputError
from tagger.schema import TAGS_SCHEMA, VIDEOS_SCHEMA
from tagger.segments import BACKGROUND

ROWS_PER_FILE = 5_000_000
"""Number of rows after which a part file ends. The last range that is merged into it may exceed this number."""

TOP_LABELS = 10
"""Number of labels in ``ResultCounts.top_labels``."""


@dataclass(frozen=True)
class LabelCount:
    """The number and the total length of the segments with ``label`` as their first label."""

    label: str
    segments: int
    seconds: float


@dataclass
class ResultCounts:
    """The counts of a result. ``failures`` are those of the current run, not of earlier ones."""

    videos: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    segments: int = 0
    video_s: float = 0.0
    failures: list[Failure] = field(default_factory=list)
    labels: Counter[str] = field(default_factory=Counter)
    label_s: Counter[str] = field(default_factory=Counter)

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

    def add(self, merged: Merged, first_new: int) -> None:
        """Adds rows to the counts. Sources from number ``first_new`` on are those of this run."""
        videos, tags = merged.videos, merged.tags
        self.videos += videos.num_rows
        self.segments += tags.num_rows
        self.statuses.update({row["values"]: row["counts"] for row in pc.value_counts(videos["status"]).to_pylist()})
        self.video_s += pc.sum(videos["duration_s"]).as_py() or 0.0
        is_bad = pc.and_(pc.not_equal(videos["status"], "ok"), pa.array(merged.sources >= first_new))
        for row in videos.filter(is_bad).select(["video", "status", "error_kind", "error"]).to_pylist():
            self.failures.append(Failure(row["video"], row["status"], row["error_kind"], row["error"] or "unknown"))
        table = pa.table({"label": tags["label"], "seconds": pc.subtract(tags["end_s"], tags["start_s"])})
        for row in table.group_by("label").aggregate([("seconds", "count"), ("seconds", "sum")]).to_pylist():
            self.labels[row["label"]] += row["seconds_count"]
            self.label_s[row["label"]] += row["seconds_sum"]


def publish(
    output: Output,
    identity: RunIdentity,
    run_id: str,
    base: Result | None,
    new_tables: Sequence[TablePair],
    *,
    keep: pa.Array | None = None,
    check_lock: Callable[[], None] = lambda: None,
    keeps_previous: bool = True,
) -> ResultCounts:
    """Publishes the ``new_tables`` of a run, with the rows of ``base`` that they do not replace, at ``output``.

    ``keep``: the names of the videos to keep; None keeps all. ``check_lock`` is called before each file is put in
    place, and raises OutputError when another job holds the output now. ``keeps_previous``: part files that were in the
    result until now stay for one more publication.

    Raises OutputError when the output cannot be written. Then nothing is lost, and the call can be repeated. A repeated
    call gives the same result.
    """
    try:
        if output.is_folder:
            return _publish_folder(output, identity, run_id, base, new_tables, keep, check_lock, keeps_previous)
        return _publish_files(output, identity, run_id, base, new_tables, keep, check_lock)
    except OSError as error:
        what = what_failed(error, f"{output.out} cannot be written")
        raise OutputError(f"{what}: {reason(error)}; finished videos are kept, run the same command again") from error


def count_rows(sources: Sequence[TablePair]) -> ResultCounts:
    """Counts the rows of ``sources``, none of them as new."""
    counts = ResultCounts()
    for merged in merge(sources):
        counts.add(merged, len(sources))
    return counts


@contextlib.contextmanager
def _write_pair(
    files: TablePair, metadata: dict[str, str], check_lock: Callable[[], None]
) -> Iterator[tuple[pq.ParquetWriter, pq.ParquetWriter]]:
    """Yields writers of both files, tags and videos. Both files are completed, then put in place, the videos first."""
    with (
        replace_together((files.videos, files.tags), check_lock) as (videos, tags),
        parquet_writer(tags, TAGS_SCHEMA.with_metadata(metadata)) as tags_writer,
        parquet_writer(videos, VIDEOS_SCHEMA.with_metadata(metadata)) as videos_writer,
    ):
        yield tags_writer, videos_writer


def _publish_files(
    output: Output,
    identity: RunIdentity,
    run_id: str,
    base: Result | None,
    new_tables: Sequence[TablePair],
    keep: pa.Array | None,
    check_lock: Callable[[], None],
) -> ResultCounts:
    before = base.sources if base is not None else ()
    if keep is None and base is not None and base.is_half_published:
        # The tags may still have rows of videos that the interrupted run pruned.
        keep = pa.concat_arrays([_names(source) for source in (*before, *new_tables)])
    counts = ResultCounts()
    files = TablePair(output.tags, output.videos)
    with _write_pair(files, file_metadata(identity, run_id), check_lock) as (tags, videos):
        for merged in merge([*before, *new_tables], keep=keep):
            tags.write_table(merged.tags, row_group_size=ROW_GROUP_ROWS)
            videos.write_table(merged.videos, row_group_size=ROW_GROUP_ROWS)
            counts.add(merged, len(before))
    return counts


def _publish_folder(
    output: Output,
    identity: RunIdentity,
    run_id: str,
    base: Result | None,
    new_tables: Sequence[TablePair],
    keep: pa.Array | None,
    check_lock: Callable[[], None],
    keeps_previous: bool,
) -> ResultCounts:
    for folder in (output.out, output.parts, output.tags, output.videos):
        folder.create_folder()
    if base is not None:
        list_files(output, base)
    previous = kept_numbers(output, run_id)
    unchanged, rewritten = _split(output, base, new_tables, keep)
    first = number = next_number(output, previous)
    metadata = file_metadata(identity, run_id)
    written: list[Part] = []
    counts = count_rows([part.listed(output) for part in unchanged])
    batches = merge([*(part.listed(output) for part in rewritten), *new_tables], keep=keep)
    merged = next(batches, None)
    while merged is not None:
        part = Part(number, 0, 0)
        with _write_pair(part.listed(output), metadata, check_lock) as (tags, videos):
            while merged is not None and part.segments < ROWS_PER_FILE:
                tags.write_table(merged.tags, row_group_size=ROW_GROUP_ROWS)
                videos.write_table(merged.videos, row_group_size=ROW_GROUP_ROWS)
                counts.add(merged, len(rewritten))
                part = Part(number, part.videos + merged.videos.num_rows, part.segments + merged.tags.num_rows)
                merged = next(batches, None)
        written.append(part)
        number += 1
    listed = [*unchanged, *written]
    numbers = {part.number for part in listed}
    previous = previous - numbers if keeps_previous else set()
    # From here on, readers of the manifest see the new result.
    write_manifest(output, identity, run_id, listed, previous, check_lock)
    check_lock()
    # A job that was paused here and has lost the lock removes no newer part of the other job.
    show(output, listed, below=first)
    check_lock()
    remove_left_overs(output, numbers | previous, below=first)
    return counts


def _split(
    output: Output, base: Result | None, new_tables: Sequence[TablePair], keep: pa.Array | None
) -> tuple[list[Part], list[Part]]:
    """Divides the parts of ``base`` into those that stay unchanged and those that must be rewritten.

    A part must be rewritten when a video in it was read again or is pruned.
    """
    if base is None:
        return [], []
    new = pa.concat_arrays([_names(pair) for pair in new_tables]) if new_tables else pa.array([], pa.string())
    unchanged: list[Part] = []
    rewritten: list[Part] = []
    for part in base.parts:
        names = _names(part.listed(output))
        stays = not pc.any(pc.is_in(names, new)).as_py()
        if stays and keep is not None:
            stays = bool(pc.all(pc.is_in(names, keep)).as_py())
        (unchanged if stays else rewritten).append(part)
    return unchanged, rewritten


def _names(source: TablePair) -> pa.Array:
    with source.videos.parquet() as file:
        return file.read(columns=["video"])["video"].combine_chunks()
