"""Reads which frames of a made video a clip shows."""

from pathlib import Path

import av

from tests.videos import read_frame_number

RATE = 25

Shown = list[tuple[int, float]]
"""The number of each frame, and its time in seconds from the first one."""


def frames_of(clip: Path) -> Shown:
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        found = [
            (read_frame_number(frame.to_ndarray(format="rgb24")), float((frame.pts or 0) * stream.time_base))
            for frame in container.decode(stream)
        ]
    return [(number, time_s - found[0][1]) for number, time_s in found]


def numbers_of(clip: Path) -> list[int]:
    return [number for number, _ in frames_of(clip)]
