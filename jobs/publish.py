"""From the parts of a run to the result: sorted, described, and put in place at once."""

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import tagger
from jobs.durable import COMPRESSION, put_in_place, temporary_name
from jobs.job import Failure, LabelCount, Video
from jobs.ledger import Ledger, RunIdentity
from jobs.output import Output
from jobs.results import video_name
from tagger.errors import OutputError
from tagger.schema import TAGS_SCHEMA, VIDEOS_SCHEMA

ROWS_PER_FILE = 1_000_000
"""Most rows of one part file of a result that is a folder."""

TOP_LABELS = 10


@dataclass(frozen=True)
class Published:
    """What a result holds."""

    statuses: dict[str, int]
    segments: int
    video_s: float
    failures: tuple[Failure, ...]
    top_labels: tuple[LabelCount, ...]


def file_metadata(identity: RunIdentity) -> dict[str, str]:
    """What both files of a result say of themselves in their Parquet metadata."""
    return {
        "vtag.version": tagger.__version__,
        "vtag.model": identity.model,
        "vtag.model_hash": identity.model_hash,
        "vtag.sampling": json.dumps(identity.sampling, sort_keys=True),
        "vtag.top_k": str(identity.top_k),
    }


def publish(ledger: Ledger, videos: Iterable[Video], identity: RunIdentity, output: Output) -> Published:
    """Writes the rows of ``videos``, all of them finished in ``ledger``, to ``output``.

    The tags are put in place last. Raises OutputError when the place cannot be written; the ledger is left as it is,
    so that the same command can publish again.
    """
    tags, records = _gather(ledger, videos)
    metadata = file_metadata(identity)
    try:
        if output.is_folder:
            output.out.mkdir(exist_ok=True)
        tables = ((records, output.videos), (tags, output.tags))
        for table, path in tables:
            described = table.replace_schema_metadata(metadata)
            if output.is_folder:
                _write_folder(described, temporary_name(path))
            else:
                pq.write_table(described, temporary_name(path), compression=COMPRESSION)
        # Both are complete before either takes the place of an earlier one.
        for _, path in tables:
            if output.is_folder:
                shutil.rmtree(path, ignore_errors=True)
            put_in_place(temporary_name(path), path)
    except OSError as error:
        for path in (output.videos, output.tags):
            _discard(temporary_name(path))
        reason = error.strerror or str(error)
        raise OutputError(f"{output.out} cannot be written: {reason.lower()}; run the same command again") from error
    return Published(
        statuses={row["values"]: row["counts"] for row in pc.value_counts(records["status"]).to_pylist()},
        segments=tags.num_rows,
        video_s=pc.sum(records["duration_s"]).as_py() or 0.0,
        failures=_failures(records),
        top_labels=_top_labels(tags),
    )


def _discard(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _gather(ledger: Ledger, videos: Iterable[Video]) -> tuple[pa.Table, pa.Table]:
    """The rows of ``videos`` from all parts, sorted; each video from the one part that counts."""
    names_of_part: dict[int, list[str]] = {}
    for video in videos:
        kept = ledger.kept(video)
        if kept is None:
            raise AssertionError(f"{video.path} is not finished")
        names_of_part.setdefault(kept.part, []).append(video_name(video.path))
    tags, records = [TAGS_SCHEMA.empty_table()], [VIDEOS_SCHEMA.empty_table()]
    for part, names in sorted(names_of_part.items()):
        chosen = pc.field("video").isin(names)
        tags.append(pq.read_table(ledger.tags_part(part), schema=TAGS_SCHEMA, filters=chosen))
        records.append(pq.read_table(ledger.videos_part(part), filters=chosen).select(VIDEOS_SCHEMA.names))
    all_tags = pa.concat_tables(tags).sort_by([("video", "ascending"), ("segment", "ascending")])
    all_records = pa.concat_tables(records).cast(VIDEOS_SCHEMA).sort_by("video")
    expected = sum(map(len, names_of_part.values())), pc.sum(all_records["segments"]).as_py() or 0
    if (all_records.num_rows, all_tags.num_rows) != expected:
        raise OutputError(
            f"{ledger.folder} does not hold what was committed to it; has another vtag run written there? "
            "Start over with --overwrite"
        )
    return all_tags, all_records


def _write_folder(table: pa.Table, folder: Path) -> None:
    _discard(folder)
    folder.mkdir()
    for number, start in enumerate(range(0, max(table.num_rows, 1), ROWS_PER_FILE)):
        part = table.slice(start, ROWS_PER_FILE)
        pq.write_table(part, folder / f"part-{number:05d}.parquet", compression=COMPRESSION)


def _failures(records: pa.Table) -> tuple[Failure, ...]:
    bad = records.filter(pc.field("status") != "ok").select(["video", "status", "error_kind", "error"])
    return tuple(
        Failure(row["video"], row["status"], row["error_kind"], row["error"] or "unknown") for row in bad.to_pylist()
    )


def _top_labels(tags: pa.Table) -> tuple[LabelCount, ...]:
    table = pa.table({"label": tags["label"], "seconds": pc.subtract(tags["end_s"], tags["start_s"])})
    counts = table.group_by("label").aggregate([("seconds", "count"), ("seconds", "sum")])
    best = counts.sort_by([("seconds_count", "descending"), ("label", "ascending")]).slice(0, TOP_LABELS)
    return tuple(LabelCount(row["label"], row["seconds_count"], row["seconds_sum"]) for row in best.to_pylist())
