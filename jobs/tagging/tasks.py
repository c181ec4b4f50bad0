"""How videos are put into decoding tasks: the sizes of tasks, the parts of long videos, chunks, and blocks for Ray."""

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from jobs.archive.video import Video
from jobs.tagging.transport import WHOLE_VIDEO
from tagger.windows import Part

if TYPE_CHECKING:
    from ray.data import Dataset

TASKS_PER_DECODER = 4
"""Number of tasks that a decoder's share of the remaining videos makes (see ``task_sizes``)."""

MIN_PART_BYTES = 32 * 2**20
"""Minimum mean size of the parts of a video in bytes: some ten seconds of decoding. Each part costs 0.3 s more: it
opens the file, and decodes from the key frame before its first window and to the end of its last one."""

MAX_PART_BYTES = 2**30
"""Maximum mean size of the parts of a video in bytes, because an interrupted job decodes unfinished parts again."""

VIDEOS_PER_TASK = 64
"""Maximum number of videos in a decoding task. A task costs the Ray driver about as much as a row. Each task takes 1 to
1.5 ms to create, and all are created before the first starts. When the process of a task dies, all its videos are read
again."""

VIDEOS_PER_CHUNK = 100_000
"""Minimum size of a chunk: the videos that are tagged with one data set of Ray Data. The next chunk loads the models
again, which takes ten seconds."""

VIDEOS_PER_DECODER = 1000
"""Number of videos per decoder in a chunk, if that makes the chunk larger than VIDEOS_PER_CHUNK."""

RANGES = pa.list_(pa.list_(pa.float64(), 2))
"""The type of the ranges of a video: their starts and ends in seconds."""


def task_sizes(videos: int, decoders: int) -> Iterator[int]:
    """Yields the number of videos in each decoding task, in order, for ``decoders`` tasks at a time.

    Tasks become smaller towards the end, so that the decoders finish together (guided self-scheduling, Polychronopoulos
    and Kuck 1987).
    """
    while videos > 0:
        size = max(1, min(videos // (TASKS_PER_DECODER * decoders), VIDEOS_PER_TASK))
        yield size
        videos -= size


def numbers_of_parts(videos: Sequence[Video], decoders: int) -> list[int]:
    """Returns the number of parts of each video that ``decoders`` decode at the same time.

    Parts have at least MIN_PART_BYTES, and no less than the share of the remaining bytes that a task may have (see
    ``task_sizes``), or MAX_PART_BYTES; a mean over the video, whose last parts are smaller (see ``Part``). So the last
    long videos are cut finely, and all decoders are busy to the end.
    """
    left = sum(video.size for video in videos)
    counts = []
    for video in videos:
        share = left / (TASKS_PER_DECODER * decoders)
        part_bytes = max(min(share, MAX_PART_BYTES), MIN_PART_BYTES)
        counts.append(max(1, int(video.size / part_bytes)) if decoders > 1 else 1)
        left -= video.size
    return counts


def threads_of_decoder(videos: int, decoders: int) -> int:
    """Returns with how many threads a video is decoded that is not read in parts: one, unless cores would be idle."""
    return max(1, decoders // max(1, videos))


def parts_of(count: int) -> list[Part]:
    """Returns all parts of a video with ``count`` parts."""
    return [Part(index, count) for index in range(count)]


def chunk_size(decoders: int) -> int:
    """Returns the number of videos in a chunk. Chunks bound the memory of the Ray driver."""
    return max(VIDEOS_PER_CHUNK, VIDEOS_PER_DECODER * decoders)


def videos_in_blocks(
    videos: Sequence[Video], sizes: Sequence[int], numbers: Sequence[int], parts: Sequence[Sequence[Part]]
) -> "Dataset":
    """Returns a data set of ``video_table``, in blocks of the ``sizes``. Each of the ``parts`` of a video that is cut
    has a block of its own.
    """
    import ray

    blocks = []
    first = 0
    for size in sizes:
        of_block = range(first, first + size)
        whole = [at for at in of_block if parts[at] == [WHOLE_VIDEO]]
        if whole:
            blocks.append(video_table([videos[at] for at in whole], [numbers[at] for at in whole]))
        for at in of_block:
            if at not in whole:
                blocks += [video_table([videos[at]], [numbers[at]], part) for part in parts[at]]
        first += size
    # Not from_arrow: it starts a task for each block, and each task waits for a whole CPU.
    return ray.data.from_blocks(blocks)


def video_table(videos: Sequence[Video], numbers: Sequence[int], part: Part = WHOLE_VIDEO) -> pa.Table:
    """Returns the ``numbers`` and names of videos, for ``decode``, which reads a ``part`` of each.

    ``was_listed`` says whether a video was there at the time of listing. If only ranges of videos are to be tagged,
    they are in a further column, ``only``.
    """
    columns = {
        "video": pa.array(numbers, pa.int64()),
        # Names are sent as bytes: they need not be valid UTF-8.
        "path": pa.array([os.fsencode(video.path) for video in videos], pa.binary()),
        "was_listed": pa.array([bool(video.size or video.mtime_ns) for video in videos]),
        "part": pa.array([part.index] * len(videos)),
        "parts": pa.array([part.of] * len(videos)),
    }
    if any(video.only is not None for video in videos):
        columns["only"] = pa.array([video.only for video in videos], RANGES)
    return pa.table(columns)
