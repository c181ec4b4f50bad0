"""What may be read of a video that is damaged: the start of the whole one, and nothing else."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tagger.clips import VideoEnd, read_spans
from tagger.errors import ERROR_KINDS
from tagger.preprocessing import Preprocessing
from tagger.video.container import open_container
from tagger.windows import Sampling
from tests.tagger.look_up import look_up
from tests.tagger.reference import decode_all
from tests.tagger.zoo import Specimen

SAMPLING = Sampling(num_frames=3, sampling_rate=1, target_fps=19.37)  # A window every 0.15 s.
PREPROCESSING = Preprocessing(size=32, resize=32)

DELAY = 4
"""Frames that a decoder may still hold when it fails: it gives them out in the order in which they are shown."""


@dataclass(frozen=True)
class Whole:
    """A sound video: its bytes, start and picture of each frame, and where the file holds them.

    ``ends`` are the bytes at which the packets of the frames end, in the order in which frames are shown.
    """

    data: bytes
    starts_s: list[float]
    end_s: float
    pixels: list[np.ndarray]
    ends: list[int]

    @classmethod
    def of(cls, path: Path, specimen: Specimen) -> "Whole":
        """Reads the video with PyAV, plainly."""
        frames, end_s = decode_all(path, specimen, PREPROCESSING)
        container, stream, _ = open_container(path)
        with container:
            packets = [packet for packet in container.demux(stream) if packet.size]
        # Where packets share a page, its start is that of the first, and none may be given for the others.
        ends, following = [], path.stat().st_size
        for packet, earlier in zip(packets[::-1], [*packets[-2::-1], None], strict=True):
            ends.append((packet.dts if path.suffix == ".avi" else packet.pts, following))
            if packet.pos is not None and (earlier is None or earlier.pos != packet.pos):
                following = packet.pos
        ends.sort()
        assert len(ends) == len(frames)
        return cls(
            path.read_bytes(), [f.start_s for f in frames], end_s, [f.pixels for f in frames], [end for _, end in ends]
        )

    def frames_before(self, at: int) -> int:
        """How many frames, from the first on, lie wholly before the byte ``at``."""
        return next((number for number, end in enumerate(self.ends) if end > at), len(self.ends))


def read_start(path: Path, whole: Whole, at: int) -> tuple[VideoEnd, int]:
    """Reads what became of a video damaged at byte ``at``, or cut there; asserts that nothing else is taken for it.

    All windows show the frames of the whole video at their times, up to the last frame, which fills up the last window.
    The one before stands for a frame of which nothing tells that it is missing: one that a cut took, and that is shown
    before one that is stored before it, or one that is lost whole before a key frame.
    Returns the end and how many frames, from the first on, were taken for the video.
    """
    spans = list(read_spans(path, SAMPLING, PREPROCESSING))
    end = spans[-1].end
    assert end is not None
    windows = [window for span in spans for window in span.windows]
    assert end.windows == len(windows)
    assert (end.status == "failed") == (not windows)
    assert (end.status == "ok") == (end.error_kind is None)
    if end.error_kind is not None:
        assert end.error_kind in ERROR_KINDS
        assert end.error and str(path) in end.error and "\n" not in end.error
    if not windows:
        return end, 0
    assert end.facts is not None and end.facts.duration_s is not None
    duration_s = end.facts.duration_s
    count = sum(start_s < duration_s - 2e-3 for start_s in whole.starts_s)
    clips = np.concatenate([span.clips for span in spans])
    # decord and PyAV scale a little differently; another frame differs by 10 at least.
    tolerance = 6.0 if end.choice is not None and end.choice.decoder == "decord" else 0.5
    stored = [number for number in range(count) if whole.ends[number] <= at]
    lost = min((end, number) for number, end in enumerate([*whole.ends, len(whole.data) + 1]) if end > at)[1]
    but_one = [number for number in range(count) if number != lost]
    for there in filter(None, (list(range(count)), stored, but_one)):
        expected = look_up(SAMPLING, [whole.starts_s[number] for number in there], duration_s)
        assert [(w.index, w.start_s) for w in windows] == [(w.index, w.start_s) for w, _ in expected]
        assert np.allclose([w.end_s for w in windows], [w.end_s for w, _ in expected], rtol=0, atol=2e-3)
        wanted = np.array([[whole.pixels[there[number]] for number in numbers] for _, numbers in expected], int)
        if np.abs(clips - wanted).mean(axis=(2, 3, 4)).max() < tolerance:
            break
    else:
        raise AssertionError(f"a frame that is not the one at its time, in the first {count}")
    return end, count
