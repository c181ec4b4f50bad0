"""The columns of the result. The metadata of its tables has the model, the sampling and the version."""

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

``ood_score`` is the share of the model's validation windows that look less out of distribution than the segment (see
``tagger.ood``); null when the model has no such calibration.
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
        pa.field("stream_start_s", pa.float64()),
        pa.field("read_s", pa.float64()),
        pa.field("gaps", pa.list_(pa.struct([("start_s", pa.float64()), ("end_s", pa.float64())]))),
        pa.field("segments", pa.int32(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("error_kind", pa.string()),
        pa.field("error", pa.string()),
        pa.field("attempts", pa.int32()),
        pa.field("decoder", pa.string()),
        pa.field("decoder_reason", pa.string()),
        pa.field("decode_s", pa.float64(), nullable=False),
        pa.field("predict_s", pa.float64(), nullable=False),
    ]
)
"""One row per video, sorted by video. ``status`` is ok, partial or failed.

``stream_start_s`` is the time of the first frame as players count it: in seconds from the start of the file's earliest
stream (see ``tagger.video.facts``). A player shows a segment at ``start_s + stream_start_s``. ``gaps`` are the
stretches between two good frames that cannot be read, and ``read_s`` is the length of the video without them. Segments
that touch a gap are left out; the others keep their numbers. ``attempts`` is the number of runs that have read this
version of the video. In results of earlier versions, these four are null.

``size``, ``mtime`` and ``fingerprint`` (of the content) describe the file that was read; null when it was not found.
``mtime_ns`` is the same time in nanoseconds since 1970, the precision of file systems. ``mtime`` has microseconds
because few tools support timestamps in nanoseconds.
"""


def embeddings_schema(size: int) -> pa.Schema:
    """The columns of the embeddings: one row per segment, in the order of the tags, with a vector of ``size`` values.

    A vector is scaled to length 1, so the dot product of two vectors is their cosine similarity.
    """
    return pa.schema(
        [
            pa.field("video", pa.string(), nullable=False),
            pa.field("segment", pa.int32(), nullable=False),
            pa.field("embedding", pa.list_(pa.float16(), size), nullable=False),
        ]
    )
