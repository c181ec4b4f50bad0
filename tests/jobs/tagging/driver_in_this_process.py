"""A replacement of the Ray driver: videos are decoded and classified by the real code, but in this process."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from jobs.archive.video import Video
from jobs.tagging.decoding import decode
from jobs.tagging.pipeline import video_table
from jobs.tagging.prediction import Predictor
from jobs.tagging.tag_archive import TaggingSettings
from tagger import ModelSource, Sampling


class DriverInThisProcess:
    """Replaces the Ray driver: decodes and classifies one video after the other. ``read`` are their names."""

    read: list[str] = []  # noqa: RUF012 - of all jobs of a test

    def __init__(self, *_: object, **__: object):
        pass

    def __enter__(self) -> "DriverInThisProcess":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def start(self) -> None:
        pass

    def close(self) -> None:
        pass

    def events(
        self,
        work: object,
        videos: Sequence[Video],
        numbers: Sequence[int],
        source: ModelSource,
        sampling: Sampling,
        settings: TaggingSettings,
        *_: object,
        timeout_s: float,
    ) -> Iterator[pa.Table]:
        """Yields the rows of ``videos``."""
        predict = Predictor(source, None, sampling, "cpu", 1, settings.top_k, None, "fp32", settings.embeddings)
        for number, video in zip(numbers, videos, strict=True):
            self.read.append(Path(video.path).name)
            batch = video_table([video], [number])
            for table in decode(batch, sampling=sampling, preprocessing=source.info.preprocessing, span_windows=4):
                yield predict(table)
