"""The Arrow tables that carry spans from decoding to prediction, and from prediction to the job.

One window is one row; its clip is the bytes of ``[T, H, W, 3] uint8``. The last row of a video also says how the video
ended; a video without any window is a single row without a clip. Rows of several videos may be packed into one table.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.archive.video import Version
from tagger.clips import Span, VideoEnd
from tagger.segments import Segment
from tagger.windows import Part

WHOLE_VIDEO = Part(0, 1)

_ROW = [
    pa.field("video", pa.int64(), nullable=False),
    pa.field("window", pa.int32()),
    pa.field("start_s", pa.float64()),
    pa.field("end_s", pa.float64()),
    pa.field("decode_s", pa.float64(), nullable=False),
    pa.field("decode_cpu_s", pa.float64(), nullable=False),
    pa.field("decoded_at", pa.float64(), nullable=False),
    pa.field("end", pa.string()),
]

WINDOWS_SCHEMA = pa.schema([*_ROW, pa.field("clip", pa.large_binary())])
"""From decoding to prediction. ``video`` is the video's number in the job. ``decode_s`` is the row's share of the time
to copy, fingerprint and decode, and ``decode_cpu_s`` its share of the decoder's CPU time. ``decoded_at`` is the end of
decoding, in seconds since 1970. ``end`` is JSON, set on the last row of a video, or of a part of it: a PartEnd."""

SEGMENTS_SCHEMA = pa.schema(
    [
        *_ROW,
        pa.field("predict_s", pa.float64(), nullable=False),
        pa.field("predict_cpu_s", pa.float64(), nullable=False),
        pa.field("predicted_at", pa.float64(), nullable=False),
        pa.field("ood_score", pa.float32()),
        pa.field("top_labels", pa.list_(pa.string())),
        pa.field("top_confidences", pa.list_(pa.float32())),
    ]
)
"""From prediction to the job: the same rows without clips, with the segments. With embeddings there is one more column,
``embedding``: fixed-size lists of float16, null in a row without a window."""


@dataclass(frozen=True)
class PartEnd:
    """How the reading of a video, or of a part of it, ended, and which version of the file was read.

    All windows that were read have numbers from ``first`` to before ``stop``.
    """

    end: VideoEnd
    version: Version | None = None
    part: Part = WHOLE_VIDEO
    first: int = 0
    stop: int = 0

    def to_json(self) -> str:
        """Returns a value of the column ``end``."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "PartEnd":
        """Parses a value of the column ``end``."""
        values = json.loads(text)
        version, part = values["version"], Part(**values["part"])
        end = VideoEnd.from_json(values["end"])
        return cls(end, None if version is None else Version(**version), part, values["first"], values["stop"])


def span_to_table(
    video: int,
    span: Span,
    decode_s: float,
    version: Version | None = None,
    part: Part = WHOLE_VIDEO,
    first: int = 0,
    stop: int = 0,
) -> pa.Table:
    """Returns the rows of one span without copying its clips.

    ``decode_s`` is the time to copy, fingerprint and decode for the whole span. ``version`` is the version of the file
    that was read, and ``part``, ``first`` and ``stop`` are as in ``PartEnd``; they are in the column ``end``.
    """
    windows = span.windows
    rows = max(len(windows), 1)
    if windows:
        clip_bytes = span.clips[0].nbytes
        offsets = np.arange(len(windows) + 1, dtype=np.int64) * clip_bytes
        data = pa.py_buffer(np.ascontiguousarray(span.clips))
        clips = pa.Array.from_buffers(pa.large_binary(), len(windows), [None, pa.py_buffer(offsets), data])
    else:
        clips = pa.nulls(1, pa.large_binary())
    end = None
    if span.end is not None:
        end = PartEnd(span.end, version, part, first, stop).to_json()
    columns: list[list[Any]] = [
        [video] * rows,
        [window.index for window in windows] or [None],
        [window.start_s for window in windows] or [None],
        [window.end_s for window in windows] or [None],
        [decode_s / rows] * rows,
        [span.cpu_s / rows] * rows,
        [time.time()] * rows,
        [None] * (rows - 1) + [end],
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, _ROW, strict=True)]
    return pa.Table.from_arrays([*arrays, clips], schema=WINDOWS_SCHEMA)


def clips_of(table: pa.Table, shape: tuple[int, int, int, int]) -> np.ndarray:
    """Returns the clips of the rows that have one, ``[n, *shape] uint8``, read-only; not copied if in one chunk."""
    parts = []
    for chunk in table.column("clip").chunks:
        present = chunk.drop_null() if chunk.null_count else chunk
        if len(present):
            # A sliced array keeps its whole buffers; offset and length give its part of them.
            _, offsets, data = present.buffers()
            first = int(np.frombuffer(offsets, np.int64, 1, present.offset * 8)[0])
            count = len(present) * int(np.prod(shape))
            parts.append(np.frombuffer(data, np.uint8, count, first).reshape(len(present), *shape))
    if not parts:
        return np.empty((0, *shape), np.uint8)
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def segments_table(
    table: pa.Table,
    segments: Sequence[Segment],
    predict_s: float,
    cpu_s: float,
    embeddings: np.ndarray | None = None,
) -> pa.Table:
    """Returns the rows of ``table`` without clips. The rows that had a clip get ``segments``, in order.

    ``predict_s`` and ``cpu_s`` are time and CPU time of all segments together. ``embeddings`` are those of the
    segments, ``[n, D] float16``; None leaves out their column.
    """
    remaining = iter(segments)
    made = [next(remaining) if index is not None else None for index in table.column("window").to_pylist()]
    share = 1 / max(len(segments), 1)
    predicted = [
        [predict_s * share if segment else 0.0 for segment in made],
        [cpu_s * share if segment else 0.0 for segment in made],
        [time.time()] * len(made),
        [segment and segment.ood_score for segment in made],
        [segment and segment.top_labels for segment in made],
        [segment and segment.top_confidences for segment in made],
    ]
    fields = list(SEGMENTS_SCHEMA)[len(_ROW) :]
    arrays = [pa.array(column, field.type) for column, field in zip(predicted, fields, strict=True)]
    kept = [table.column(field.name).combine_chunks() for field in _ROW]
    rows = pa.Table.from_arrays([*kept, *arrays], schema=SEGMENTS_SCHEMA)
    if embeddings is None:
        return rows
    lacks = np.array([segment is None for segment in made])
    values = np.zeros((len(made), embeddings.shape[1]), np.float16)
    values[~lacks] = embeddings
    flat = pa.array(values.reshape(-1))
    return rows.append_column(
        "embedding", pa.FixedSizeListArray.from_arrays(flat, embeddings.shape[1], mask=pa.array(lacks))
    )
