"""A replacement of the Ray driver: videos are decoded and classified by the real code, but in this process."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from jobs.archive.video import Video
from jobs.tagging.decoding import decode
from jobs.tagging.prediction import Predictor
from jobs.tagging.tag_archive import TaggingSettings
from jobs.tagging.tasks import numbers_of_parts, parts_of, video_table
from tagger import ModelSource, Sampling
from tagger.windows import Part


class DriverInThisProcess:
    """Replaces the Ray driver: decodes and classifies one video, or part of it, after the other, for ``decoders``.

    ``read`` are the names of the videos.
    """

    decoders = 1
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
        workers: object,
        avoided: object,
        parts: Mapping[int, Sequence[Part]],
        *,
        timeout_s: float,
    ) -> Iterator[pa.Table]:
        """Yields the rows of ``videos``, those of the last part of a video first."""
        predict = Predictor(source, None, sampling, "cpu", 1, settings.top_k, None, "fp32", settings.embeddings)
        counts = numbers_of_parts(videos, self.decoders)
        for number, video, count in zip(numbers, videos, counts, strict=True):
            for part in reversed(parts.get(number) or parts_of(count)):
                self.read.append(Path(video.path).name)
                batch = video_table([video], [number], part)
                for table in decode(batch, sampling=sampling, preprocessing=source.info.preprocessing, span_windows=4):
                    yield predict(table)
