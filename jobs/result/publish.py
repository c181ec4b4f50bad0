"""From the rows of a run, and those of the result before it, to the result: sorted, described, put in place at once."""

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import tagger
from jobs.archive.video import Failure
from jobs.errors import reason
from jobs.result.identity import RunIdentity, file_metadata
from jobs.result.merge import ROW_GROUP_ROWS, Merged, Source, merge
from jobs.result.output import Output
from jobs.result.published import Part, Result, next_number, remove_left_overs, write_manifest
from jobs.storage.location import parquet_writer
from tagger.errors import OutputError
from tagger.schema import TAGS_SCHEMA, VIDEOS_SCHEMA

ROWS_PER_FILE = 5_000_000
"""Most rows of one part file of a result that is a folder, give or take a range of the merge."""

TOP_LABELS = 10


@dataclass(frozen=True)
class LabelCount:
    """How often a label came first."""

    label: str
    segments: int
    seconds: float


@dataclass
class ResultCounts:
    """What a result holds. ``failures`` are those of the run that counts it, not of earlier ones."""

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
        return tuple(LabelCount(label, self.labels[label], self.label_s[label]) for label in best)

    def add(self, merged: Merged, first_new: int) -> None:
        """Counts rows; those of sources from number ``first_new`` on are of this run."""
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
    parts: Sequence[Source],
    *,
    keep: pa.Array | None = None,
) -> ResultCounts:
    """Makes ``parts`` of a run, and the rows of ``base`` that they do not replace, the result at ``output``.

    ``keep``: names of videos; those of others are left out. Raises OutputError when the place cannot be written;
    nothing has been taken away then, and the same call can be made again. Writing the same again gives the same.
    """
    try:
        if output.is_folder:
            return _publish_folder(output, identity, run_id, base, parts, keep)
        return _publish_files(output, identity, run_id, base, parts, keep)
    except OSError as error:
        raise OutputError(
            f"{output.out} cannot be written: {reason(error)}; what is finished is kept, run the same command again"
        ) from error


def count(sources: Sequence[Source]) -> ResultCounts:
    """What ``sources`` hold, none of it new."""
    counts = ResultCounts()
    for merged in merge(sources):
        counts.add(merged, len(sources))
    return counts


@contextlib.contextmanager
def _pair(files: Source, metadata: dict[str, str]) -> Iterator[tuple[pq.ParquetWriter, pq.ParquetWriter]]:
    """Writers of both files, tags and videos. Both are complete before either is put in place, the videos first."""
    with (
        files.tags.whole() as tags,
        files.videos.whole() as videos,
        parquet_writer(tags, TAGS_SCHEMA.with_metadata(metadata)) as tags_writer,
        parquet_writer(videos, VIDEOS_SCHEMA.with_metadata(metadata)) as videos_writer,
    ):
        yield tags_writer, videos_writer


def _publish_files(
    output: Output,
    identity: RunIdentity,
    run_id: str,
    base: Result | None,
    parts: Sequence[Source],
    keep: pa.Array | None,
) -> ResultCounts:
    before = base.sources if base is not None else ()
    if keep is None and base is not None and base.is_half:
        # The tags may have rows of videos that the run was to prune.
        keep = pa.concat_arrays([_names(source) for source in (*before, *parts)])
    counts = ResultCounts()
    with _pair(Source(output.tags, output.videos), file_metadata(identity, run_id)) as (tags, videos):
        for merged in merge([*before, *parts], keep=keep):
            tags.write_table(merged.tags, row_group_size=ROW_GROUP_ROWS)
            videos.write_table(merged.videos, row_group_size=ROW_GROUP_ROWS)
            counts.add(merged, len(before))
    return counts


def _publish_folder(
    output: Output,
    identity: RunIdentity,
    run_id: str,
    base: Result | None,
    parts: Sequence[Source],
    keep: pa.Array | None,
) -> ResultCounts:
    for folder in (output.out, output.tags, output.videos):
        folder.create_folder()
    untouched, touched = _split(output, base, parts, keep)
    number = next_number(output)
    metadata = file_metadata(identity, run_id)
    new: list[Part] = []
    counts = count([part.source(output) for part in untouched])
    batches = merge([*(part.source(output) for part in touched), *parts], keep=keep)
    merged = next(batches, None)
    while merged is not None:
        part = Part(number, 0, 0)
        with _pair(part.source(output), metadata) as (tags, videos):
            while merged is not None and part.segments < ROWS_PER_FILE:
                tags.write_table(merged.tags, row_group_size=ROW_GROUP_ROWS)
                videos.write_table(merged.videos, row_group_size=ROW_GROUP_ROWS)
                counts.add(merged, len(touched))
                part = Part(number, part.videos + merged.videos.num_rows, part.segments + merged.tags.num_rows)
                merged = next(batches, None)
        new.append(part)
        number += 1
    # Readers of the manifest see the new result from here on.
    listed = [*untouched, *new]
    write_manifest(output, identity, run_id, tagger.__version__, listed)
    remove_left_overs(output, listed)
    return counts


def _split(
    output: Output, base: Result | None, parts: Sequence[Source], keep: pa.Array | None
) -> tuple[list[Part], list[Part]]:
    """The parts of ``base`` that can stay as they are, and those with videos that were read again or are to go."""
    if base is None:
        return [], []
    new = pa.concat_arrays([_names(part) for part in parts]) if parts else pa.array([], pa.string())
    untouched: list[Part] = []
    touched: list[Part] = []
    for part in base.parts:
        names = _names(part.source(output))
        stays = not pc.any(pc.is_in(names, new)).as_py()
        if stays and keep is not None:
            stays = bool(pc.all(pc.is_in(names, keep)).as_py())
        (untouched if stays else touched).append(part)
    return untouched, touched


def _names(source: Source) -> pa.Array:
    with source.videos.parquet() as file:
        return file.read(columns=["video"])["video"].combine_chunks()
