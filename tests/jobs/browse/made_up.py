"""Made-up segments, and results that hold them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from jobs.browse.segments import Segments, TopLabels
from jobs.tagging.finished.collector import FinishedVideo
from jobs.tagging.transport import SEGMENTS_SCHEMA
from tests.jobs.result.finished import FACTS, make_finished

LABELS = ("Biking", "Diving", "Swing", "background")

Video = tuple[str, float, float, Sequence[int], np.ndarray]
"""A name, length and hop of its windows in seconds, the numbers of its windows, and ``[n, labels]`` probabilities."""


def make_segments(videos: Sequence[Video], top_k: int = len(LABELS)) -> Segments:
    """The segments of videos, with their best labels."""
    numbers = [np.array(windows) for _, _, _, windows, _ in videos]
    hops = [hop_s for _, _, hop_s, _, _ in videos]
    probabilities = np.concatenate([rows for *_, rows in videos])
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
    confidences = np.take_along_axis(probabilities, best, axis=1).astype(np.float32)
    start_s = np.concatenate([n * hop_s for n, hop_s in zip(numbers, hops, strict=True)])
    lengths = np.repeat([window_s for _, window_s, *_ in videos], [len(n) for n in numbers])
    return Segments(
        videos=pa.array([name for name, *_ in videos]),
        first=np.cumsum([0, *(len(n) for n in numbers)]),
        segment=np.concatenate(numbers).astype(np.int32),
        start_s=start_s,
        end_s=start_s + lengths,
        labels=list(LABELS),
        label=best[:, 0].astype(np.int32),
        confidence=confidences[:, 0],
        top=TopLabels(np.arange(0, best.size + 1, best.shape[1]), best.ravel().astype(np.int32), confidences.ravel()),
    )


def make_video(
    path: str,
    confidences: Sequence[dict[str, float]],
    *,
    window_s: float = 2.0,
    hop_s: float = 2.0,
    ood_scores: Sequence[float | None] | None = None,
) -> FinishedVideo:
    """A finished video with a segment for each of ``confidences``, whose labels come best first."""
    segments = [
        {
            "video": 0,
            "window": number,
            "start_s": hop_s * number,
            "end_s": hop_s * number + window_s,
            "decode_s": 0.0,
            "predict_s": 0.125,
            "ood_score": None if ood_scores is None else ood_scores[number],
            "top_labels": list(known),
            "top_confidences": list(known.values()),
        }
        for number, known in enumerate(confidences)
    ]
    video = make_finished(path, "a" * len(segments))
    end_s = hop_s * (len(segments) - 1) + window_s
    end = replace(video.end, facts=replace(FACTS, duration_s=end_s))
    return replace(video, segments=pa.Table.from_pylist(segments, SEGMENTS_SCHEMA), end=end)


def with_vectors(video: FinishedVideo, vectors: np.ndarray) -> FinishedVideo:
    """The video with the embeddings ``[segments, size]``, scaled to length 1."""
    unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    column = pa.FixedSizeListArray.from_arrays(pa.array(unit.ravel()), unit.shape[1])
    return replace(video, segments=video.segments.append_column("embedding", column))
