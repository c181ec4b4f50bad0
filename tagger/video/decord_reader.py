"""The first reader: decord, read strictly in sequence."""

import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tagger.errors import VideoError
from tagger.video.facts import VideoFacts
from tagger.video.reader import DecoderName, Frame, Needs


class DecordReader:
    """Reads frames with decord, scaled to ``width × height``.

    An open decord reader spins on the CPU while nobody takes its frames, so the caller must drain it and close it
    without waiting for anything in between.
    """

    name: DecoderName = "decord"

    def __init__(self, path: Path, facts: VideoFacts, width: int, height: int):
        import decord

        decord.logging.set_level(decord.logging.FATAL)
        self._path = path
        self._width, self._height = width, height
        self._error = decord.DECORDError
        try:
            self._reader: decord.VideoReader | None = decord.VideoReader(
                str(path.absolute()), width=width, height=height, num_threads=1
            )
            count = len(self._reader)
            times = self._reader.get_frame_timestamp(range(count)).astype(np.float64)
        except (self._error, RuntimeError, IndexError, UnicodeEncodeError) as error:
            raise VideoError("damaged", f"{path}: decord cannot open it ({_first_line(error)})") from error
        problem = _timeline_problem(times, facts)
        if problem:
            self.close()
            raise VideoError("damaged", f"{path}: {problem}")
        # decord returns float32 seconds; the file's clock ticks in whole time bases.
        times = np.round(times / facts.time_base_s) * facts.time_base_s
        self._times_s = times - times[0, 0]

    def frames(self, needs: Needs) -> Iterator[Frame]:
        """See Reader.frames."""
        assert self._reader is not None, "the reader is closed"
        count = len(self._times_s)
        skipped = 0
        for index, (start_s, end_s) in enumerate(self._times_s.tolist()):
            is_last = index == count - 1
            shown_until_s = math.inf if is_last else float(self._times_s[index + 1, 0])
            if not needs(shown_until_s):
                skipped += 1
                continue
            try:
                if skipped:
                    self._reader.skip_frames(skipped)
                    skipped = 0
                rows = self._reader.next().asnumpy().reshape(self._height, -1)
            except (self._error, StopIteration, RuntimeError) as error:
                # When it notices varies from run to run, so no time is named.
                raise VideoError("damaged", f"{self._path}: decord failed ({_first_line(error)})") from error
            # decord pads rows, and takes the padding of a narrow picture (48 pixels wide, say) for more channels.
            pixels = rows[:, : 3 * self._width].reshape(self._height, self._width, 3)
            yield Frame(start_s, end_s if is_last else shown_until_s, pixels, is_last)

    def close(self) -> None:
        """See Reader.close."""
        self._reader = None


def _timeline_problem(times_s: np.ndarray, facts: VideoFacts) -> str | None:
    """Why decord's own list of frame times, ``[frames, 2]``, cannot be the video's; None when it can."""
    if not np.all(np.isfinite(times_s)) or np.any(np.diff(times_s[:, 0]) <= 0) or times_s[-1, 1] <= times_s[-1, 0]:
        return "decord's frame times do not increase"
    # Frames without a time stand first, at -1e14 s or so.
    if abs(times_s[0, 0] - facts.start_s) > 1.0:
        return f"decord's first frame is at {times_s[0, 0]:g} s"
    if facts.frames and facts.frames != len(times_s):
        return f"decord finds {len(times_s)} frames where the file declares {facts.frames}"
    return None


def _first_line(error: Exception) -> str:
    """decord's own words, without its time stamp, source line, path and stack."""
    lines = str(error).strip().splitlines()
    return re.sub(r"\[[\d:]+\] \S+:\d+: |\[[^\]]*/[^\]]*\] ", "", lines[0]) if lines else type(error).__name__
