"""The columns of the result. Both tables carry the model, the sampling and the version in their metadata."""

import pyarrow as pa

TAGS_SCHEMA = pa.schema(
    [
        pa.field("video", pa.string(), nullable=False),
        pa.field("segment", pa.int32(), nullable=False),
        pa.field("start_s", pa.float64(), nullable=False),
        pa.field("end_s", pa.float64(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("confidence", pa.float32(), nullable=False),
        pa.field("ood_score", pa.float32()),
        pa.field("top_labels", pa.list_(pa.string()), nullable=False),
        pa.field("top_confidences", pa.list_(pa.float32()), nullable=False),
    ]
)
"""One row per segment, sorted by video and start.

``ood_score`` is the share of the model's validation windows that were less strange to it than the segment; null when
the model has no calibration for it.
"""

VIDEOS_SCHEMA = pa.schema(
    [
        pa.field("video", pa.string(), nullable=False),
        pa.field("size", pa.int64()),
        pa.field("mtime", pa.timestamp("us", tz="UTC")),
        pa.field("mtime_ns", pa.int64()),
        pa.field("fingerprint", pa.string()),
        pa.field("container", pa.string()),
        pa.field("codec", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("fps", pa.float64()),
        pa.field("duration_s", pa.float64()),
        pa.field("segments", pa.int32(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("error_kind", pa.string()),
        pa.field("error", pa.string()),
        pa.field("decoder", pa.string()),
        pa.field("decoder_reason", pa.string()),
        pa.field("decode_s", pa.float64(), nullable=False),
        pa.field("predict_s", pa.float64(), nullable=False),
    ]
)
"""One row per video, sorted by video. ``status`` is ok, partial or failed.

``size``, ``mtime`` and ``fingerprint`` (of the content) are those of what was read; null when it could not be found.
``mtime_ns`` is the same time in nanoseconds since 1970, as exact as file systems are; few tools do much with a
timestamp of nanoseconds.
"""
