"""A moment of a video, such as one that a person marked."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Moment:
    """A stretch of a video with a label. ``video`` is its path or address."""

    video: str
    start_s: float
    end_s: float
    label: str
    confidence: float
