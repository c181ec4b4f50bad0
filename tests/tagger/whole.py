"""Checks what is read from a damaged video: only frames of the intact video, at their times."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tagger.clips import VideoEnd, read_spans
from tagger.errors import ERROR_KINDS
from tagger.preprocessing import Preprocessing
from tagger.video.container import open_container
from tagger.windows import Sampling, Window
from tests.tagger.look_up import look_up
from tests.tagger.reference import decode_all
from tests.tagger.zoo import Specimen

SAMPLING = Sampling(num_frames=3, sampling_rate=1, target_fps=19.37)  # A window every 0.15 s.
PREPROCESSING = Preprocessing(size=32, resize=32)

DELAY = 4
"""Maximum number of frames that a decoder may hold when it fails, because it returns frames in presentation order."""


@dataclass(frozen=True)
class Whole:
    """An intact video: its bytes, the start and pixels of each frame, and the positions of the frames in the file.

    ``ends`` are the byte positions at which the packets of the frames end, in presentation order.
    """

    data: bytes
    starts_s: list[float]
    end_s: float
    pixels: list[np.ndarray]
    ends: list[int]

    @classmethod
    def of(cls, path: Path, specimen: Specimen) -> "Whole":
        """Reads the video with the reference decoder."""
        frames, end_s = decode_all(path, specimen, PREPROCESSING)
        container, stream, _ = open_container(path)
        with container:
            packets = [packet for packet in container.demux(stream) if packet.size]
        # Packets may share a page. Then the first packet has the position of the page, and the others may have none.
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
        """Returns how many frames, from the first on, are completely before the byte ``at``."""
        return next((number for number, end in enumerate(self.ends) if end > at), len(self.ends))


def read_start(path: Path, whole: Whole, at: int) -> tuple[VideoEnd, int]:
    """Reads a video that is damaged or cut at byte ``at``, and asserts that its windows show the right frames.

    All windows must show the frames of the intact video at their times; the last one is shifted back. The loss of a
    single frame cannot always be detected: it may be cut off although it is shown before a frame that is stored
    earlier, or be lost completely before a key frame. Then the frame before it may be shown instead. Windows that touch
    a gap must be left out, and no others. Returns the end and the number of frames that were read.
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
    # decord and PyAV scale slightly differently. A wrong frame differs by at least 10.
    tolerance = 6.0 if end.choice is not None and end.choice.decoder == "decord" else 0.5
    good = [number for number in range(count) if not _is_in_a_gap(end, whole.starts_s[number])]
    stored = [number for number in good if whole.ends[number] <= at or end.gaps]
    lost = min((end, number) for number, end in enumerate([*whole.ends, len(whole.data) + 1]) if end > at)[1]
    but_one = [number for number in good if number != lost]
    for present in filter(None, (good, stored, but_one)):
        starts_s = [whole.starts_s[number] for number in present]
        expected = look_up(SAMPLING, starts_s, duration_s, begin_s=end.gaps[-1][1] if end.gaps else 0.0)
        expected = [(window, numbers) for window, numbers in expected if not _touches_a_gap(end, window)]
        assert [(w.index, w.start_s) for w in windows] == [(w.index, w.start_s) for w, _ in expected]
        assert np.allclose([w.end_s for w in windows], [w.end_s for w, _ in expected], rtol=0, atol=2e-3)
        wanted = np.array([[whole.pixels[present[number]] for number in numbers] for _, numbers in expected], int)
        if np.abs(clips - wanted).mean(axis=(2, 3, 4)).max() < tolerance:
            break
    else:
        raise AssertionError(f"a window shows a wrong frame, in the first {count} frames")
    return end, len(good)


def _is_in_a_gap(end: VideoEnd, time_s: float) -> bool:
    return any(start_s - 2e-3 <= time_s < end_s - 2e-3 for start_s, end_s in end.gaps)


def _touches_a_gap(end: VideoEnd, window: Window) -> bool:
    sampled_s = window.start_s + SAMPLING.window_s
    return any(window.start_s < end_s - 1e-3 and sampled_s > start_s + 1e-3 for start_s, end_s in end.gaps)
