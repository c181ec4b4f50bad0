"""Made-up finished videos, for the tests of results."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from jobs.archive.video import Version, Video
from jobs.result.identity import RunIdentity
from jobs.result.ledger import Ledger, committed_parts, remove
from jobs.result.output import Output, choose_output
from jobs.result.publish import ResultCounts, publish
from jobs.result.published import read_result
from jobs.tagging.finished.collector import FinishedVideo
from jobs.tagging.finished.rows import result_tables
from jobs.tagging.transport import SEGMENTS_SCHEMA
from tagger import Sampling
from tagger.clips import VideoEnd
from tagger.video.choose import Choice
from tagger.video.facts import VideoFacts
from tests.jobs.result.embedded import add_embeddings

FACTS = VideoFacts("mp4", "h264", 96, 64, 30.0, 4.0, 120, 0.0, 1 / 15360, 0, False)

IDENTITY = RunIdentity("actions38", "abc123", Sampling(hop_s=1.0).to_json(), 2)

EMBEDDED = replace(IDENTITY, embeddings={"size": 8, "version": 1})
"""The identity of a run with embeddings."""


def make_finished(
    path: str,
    labels: Sequence[str] = "ab",
    *,
    mtime_ns: int = 1_700_000_000_123_456_789,
    ood_score: float | None = None,
) -> FinishedVideo:
    """A video with a two-second segment for each of ``labels``; one without segments failed."""
    segments = [
        {
            "video": 0,
            "window": i,
            "start_s": 2.0 * i,
            "end_s": 2.0 * i + 2.0,
            "decode_s": 0.0,
            "predict_s": 0.125,
            "ood_score": ood_score,
            "top_labels": [label, "other"],
            "top_confidences": [0.75, 0.25],
        }
        for i, label in enumerate(labels)
    ]
    end = (
        VideoEnd("ok", len(labels), FACTS, Choice("decord"), decode_s=0.5)
        if labels
        else VideoEnd("failed", 0, error_kind="empty", error=f"{path} is empty (0 bytes)")
    )
    return FinishedVideo(
        Video(path, 1000, mtime_ns),
        Version(1000, mtime_ns, f"content at {mtime_ns}"),
        pa.Table.from_pylist(segments, SEGMENTS_SCHEMA),
        end,
        predict_s=0.25,
    )


def starting_at(stream_start_s: float | None, video: FinishedVideo) -> FinishedVideo:
    """The video with another time of its first frame, as players count it."""
    return replace(
        video, end=replace(video.end, facts=replace(video.end.facts or FACTS, stream_start_s=stream_start_s))
    )


def commit_to(
    output: Output, *commits: list[FinishedVideo], replaces: bool = False, identity: RunIdentity = IDENTITY
) -> Ledger:
    """Creates a run folder for ``output`` with a part for each of ``commits``."""
    ledger = Ledger.open(output.run_folder, identity, replaces=replaces)
    for videos in commits:
        if (size := identity.embedding_size) is not None:
            videos = [
                video
                if "embedding" in video.segments.column_names
                else replace(video, segments=add_embeddings(video.segments, size))
                for video in videos
            ]
        ledger.commit(*result_tables(videos, size))
    return ledger


def publish_to(
    out: Path | str,
    *commits: list[FinishedVideo],
    drop: list[str] | None = None,
    identity: RunIdentity = IDENTITY,
    replaces: bool = False,
) -> ResultCounts:
    """Publishes a run that finishes ``commits`` to the result at ``out``, or that ``replaces`` it."""
    output = choose_output(out)
    ledger = commit_to(output, *commits, replaces=replaces, identity=identity)
    names = None if drop is None else pa.array(drop, pa.string())
    base = None if replaces else read_result(output)
    published = publish(output, identity, ledger.run_id, base, committed_parts(output.run_folder), drop=names)
    remove(output.run_folder)
    output.run_folder.delete_empty_folder()
    return published
