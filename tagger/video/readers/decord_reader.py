"""The decord reader. It reads strictly in sequence and stops when decord's frames cannot be trusted."""

import math
import os
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tagger.errors import VideoError
from tagger.video.container import open_file
from tagger.video.facts import VideoFacts
from tagger.video.fetched_file import fetched_file
from tagger.video.packets.table import packet_times
from tagger.video.readers.decord_log import error_count
from tagger.video.readers.reader import DecoderName, Frame, Needs

FIRST_ATOMS = frozenset({b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot"})
"""The atoms that an MP4 or QuickTime file may start with (ISO/IEC 14496-12, QuickTime File Format)."""

MAX_SKIP = 100
"""Maximum number of frames that are skipped in one call. The timeout sees progress only between calls."""

MAX_REPEATED_SHARE = 1e-9
"""Share of frames that decord may replace by copies of others before it raises. Zero would turn the check off."""


class DecordReader:
    """Reads frames with decord, scaled to ``width × height``.

    decord returns frames without their times. So each frame gets the time of the packet with the same number. This is
    correct if decord's own list of times agrees with the packets, no frame is a replacement, and its FFmpeg logs no
    errors.

    An open decord reader uses a whole core while it waits, so the caller must read all frames and close the reader
    without waiting in between.
    """

    name: DecoderName = "decord"
    end_s: float | None = None

    def __init__(
        self, path: Path, facts: VideoFacts, width: int, height: int, on_packet: Callable[[], None] = lambda: None
    ):
        if fetched_file(path) is not None:
            raise VideoError("unsupported", f"{path}: decord reads no files that are fetched in blocks")
        import decord

        decord.logging.set_level(decord.logging.FATAL)
        self._path = path
        self._width, self._height = width, height
        self._error = decord.DECORDError
        self._reader: decord.VideoReader | None = None
        self._log = error_count()
        self._known_errors = self._log.count
        times_s = packet_times(path, on_packet)
        if facts.frames and facts.frames != len(times_s):
            # Checked before decord allocates memory for the declared number: a header may declare a billion frames.
            reason = f"the file has {len(times_s)} frames but declares {facts.frames}"
            raise VideoError("damaged", f"{path}: {reason}")
        descriptor, head = open_file(path)
        try:
            # decord's FFmpeg would follow a playlist. So it gets a descriptor instead of a name, and only known
            # formats.
            if not _is_container(head, facts.container):
                raise VideoError("damaged", f"{path}: its first bytes are not those of a {facts.container} file")
            self._reader = decord.VideoReader(
                f"/dev/fd/{descriptor}", width=width, height=height, num_threads=1, fault_tol=MAX_REPEATED_SHARE
            )
            self._keys = self._reader.get_key_indices()
            own_times_s = self._reader.get_frame_timestamp(range(len(self._reader))).astype(np.float64)
        except (self._error, RuntimeError, IndexError, AssertionError) as error:
            raise VideoError("damaged", f"{path}: decord cannot open it ({_first_line(error)})") from error
        finally:
            os.close(descriptor)
        problem = _timeline_problem(own_times_s, times_s, facts)
        if problem:
            self.close()
            raise VideoError("damaged", f"{path}: {problem}")
        self._times_s = times_s - times_s[0, 0]

    def frames(self, needs: Needs) -> Iterator[Frame]:
        """See Reader.frames."""
        assert self._reader is not None, "the reader is closed"
        count = len(self._times_s)
        skipped = 0
        for index, (start_s, end_s) in enumerate(self._times_s.tolist()):
            is_last = index == count - 1
            is_needed = needs(math.inf if is_last else end_s)
            if not is_needed and skipped < MAX_SKIP:
                skipped += 1
                continue
            try:
                self._skip(index - skipped, index)
                skipped = 0
                frame = self._reader.next()
            except (self._error, StopIteration, RuntimeError) as error:
                # The message has no time, because the frame at which decord fails varies from run to run.
                raise VideoError("damaged", f"{self._path}: decord failed ({_first_line(error)})") from error
            if not is_needed:
                continue
            rows = frame.asnumpy().reshape(self._height, -1)
            if self._log.count > self._known_errors:
                raise VideoError("damaged", f"{self._path}: decord's FFmpeg reports errors, which decord would hide")
            # decord pads rows. For narrow pictures (48 pixels wide, for example) it returns the padding as channels.
            pixels = rows[:, : 3 * self._width].reshape(self._height, self._width, 3)
            yield Frame(start_s, end_s, pixels, is_last)

    def _skip(self, index: int, until: int) -> None:
        """Skips the frames from ``index`` to ``until``, without converting them where possible.

        When ``skip_frames`` reaches a key frame, it seeks to it and then returns wrong frames, in AVI and ASF files and
        if frames before the key frame refer to it. So it stops before each key frame, and the frame before is read.
        """
        assert self._reader is not None
        while index < until:
            after = bisect_right(self._keys, index)
            last = min(until, self._keys[after] - 1) if after < len(self._keys) else until
            if last > index:
                self._reader.skip_frames(last - index)
                index = last
            else:
                self._reader.next()
                index += 1

    def close(self) -> None:
        """See Reader.close."""
        self._reader = None


def _is_container(head: bytes, container: str) -> bool:
    """Checks that ``head`` is the start of this container, so that decord cannot take the file for another format."""
    if container == "matroska" or container == "webm":
        return head.startswith(b"\x1a\x45\xdf\xa3")
    if container == "avi":
        return head.startswith(b"RIFF") and head[8:12] == b"AVI "
    if container == "flv":
        return head.startswith(b"FLV\x01")
    if container == "asf":
        return head.startswith(b"\x30\x26\xb2\x75\x8e\x66\xcf\x11")
    return head[4:8] in FIRST_ATOMS


def _timeline_problem(own_s: np.ndarray, times_s: np.ndarray, facts: VideoFacts) -> str | None:
    """Returns why decord's frame times ``[frames, 2]`` differ from the packets or the header; None if they agree.

    decord keeps times as float32 seconds.
    """
    if len(own_s) != len(times_s):
        return f"decord finds {len(own_s)} frames, but the file has {len(times_s)}"
    starts_s = times_s[:, 0] - times_s[0, 0]
    # Frames without a time come first, at about -1e14 s.
    if not np.all(np.abs(own_s[:, 0] - own_s[0, 0] - starts_s) < 1e-3 + 1e-6 * np.abs(own_s[:, 0])):
        return "decord's frame times are not those of the file"
    length_s = times_s[-1, 1] - times_s[0, 0]
    if facts.duration_s and length_s > 1.5 * facts.duration_s + 1:
        # The memory limit was checked with the declared length.
        return f"the video lasts {length_s:.1f} s but the file declares {facts.duration_s:.1f} s"
    return None


def _first_line(error: Exception) -> str:
    """Returns the first line of decord's message, without time stamp, source line, path and stack."""
    lines = str(error).strip().splitlines()
    return re.sub(r"\[[\d:]+\] \S+:\d+: |\[[^\]]*/[^\]]*\] ?", "", lines[0]) if lines else type(error).__name__
