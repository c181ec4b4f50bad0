"""What a decoding task does: paths of videos in, their windows out.

Nothing here needs torch, so that decoding workers stay small. Each has a decoder process, which it keeps for all of its
tasks: a video that crashes its decoder, hangs it or makes it eat memory does no harm to the worker.
"""

import time
from collections.abc import Iterator

import pyarrow as pa

from jobs.transport import span_to_table
from tagger.preprocessing import Preprocessing
from tagger.video.isolation import decoder_of_this_thread
from tagger.windows import Sampling


def decode(
    batch: pa.Table, *, sampling: Sampling, preprocessing: Preprocessing, span_windows: int
) -> Iterator[pa.Table]:
    """Reads the videos of ``batch`` one after the other and yields their spans as tables of WINDOWS_SCHEMA."""
    decoder = decoder_of_this_thread()
    for number, path in zip(batch["video"].to_pylist(), batch["path"].to_pylist(), strict=True):
        spans = decoder.spans(path, sampling, preprocessing, span_windows=span_windows)
        while True:
            started = time.perf_counter()
            span = next(spans, None)
            if span is None:
                break
            yield span_to_table(number, span, time.perf_counter() - started)
