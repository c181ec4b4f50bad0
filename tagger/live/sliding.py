"""Cuts frames, as they come, into windows that slide."""

from collections.abc import Callable, Iterable, Iterator

import av
import numpy as np

from tagger.preprocessing import Preprocessing
from tagger.video.facts import USUAL_PIXEL_ASPECTS, orientation
from tagger.video.readers.pyav_reader import TimedFrame
from tagger.video.readers.reader import Gap
from tagger.video.readers.upright_pixels import UprightPixels
from tagger.window_cutter import WindowCutter
from tagger.windows import Window

Cut = Iterator[tuple[Window, list[np.ndarray]]]

PixelsOf = Callable[[av.VideoFrame], np.ndarray]


class FittedPixels:
    """Turns the frames of a stream into pictures for a model, ``[H, W, 3] uint8``. Their size may change."""

    def __init__(self, preprocessing: Preprocessing, pixel_aspect: float | None = None):
        self._preprocessing = preprocessing
        is_usual = pixel_aspect and USUAL_PIXEL_ASPECTS[0] <= pixel_aspect <= USUAL_PIXEL_ASPECTS[1]
        self._aspect = pixel_aspect if pixel_aspect and is_usual else 1.0
        self._size: tuple[int, int] | None = None
        self._upright: UprightPixels | None = None

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        """Returns the picture of a frame."""
        if self._upright is None or (frame.width, frame.height) != self._size:
            self._size = frame.width, frame.height
            turn, is_mirrored = orientation(frame)
            size = frame.width * self._aspect, float(frame.height)
            scaled = self._preprocessing.scaled(*(size[::-1] if turn in (90, 270) else size))
            self._upright = UprightPixels(*scaled, turn, is_mirrored=is_mirrored)
        return np.ascontiguousarray(self._preprocessing.crop(self._upright(frame)))


def slide(frames: Iterable[TimedFrame | Gap], cutter: WindowCutter[np.ndarray], pixels: PixelsOf) -> Cut:
    """Yields the windows of frames whose ends are expected, each as soon as its last frame is there.

    No window reaches over a Gap, or past the last frame.
    """
    held: TimedFrame | None = None
    converted: np.ndarray | None = None
    for each in frames:
        start_s = each.start_s
        if held is not None:
            if cutter.needs(start_s):
                yield from cutter.push(start_s, pixels(held.frame) if converted is None else converted)
            else:
                yield from cutter.reach(start_s)
        held = converted = None
        if isinstance(each, Gap):
            cutter.lose(each.start_s, each.end_s)
            continue
        held = each
        if cutter.is_ending(each.end_s):
            converted = pixels(each.frame)
            yield from cutter.foresee(each.end_s, converted)


def slide_exactly(frames: Iterable[TimedFrame | Gap], cutter: WindowCutter[np.ndarray], pixels: PixelsOf) -> Cut:
    """Yields the windows of frames whose ends are known: those of a file, the last one as well."""
    for each in frames:
        if isinstance(each, Gap):
            cutter.lose(each.start_s, each.end_s)
        elif each.is_last:
            yield from cutter.finish(each.end_s, pixels(each.frame))
        elif cutter.needs(each.end_s):
            yield from cutter.push(each.end_s, pixels(each.frame))
        else:
            yield from cutter.reach(each.end_s)
