"""The sparse reader. It decodes only the groups of pictures that have needed frames."""

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from tagger.errors import VideoError
from tagger.video.clock import Clock
from tagger.video.container import ffmpeg_reason
from tagger.video.damage import ErrorLog, checked_packets
from tagger.video.facts import VideoFacts
from tagger.video.packets.table import WHOLE, PacketTable, Stretch, read_packets
from tagger.video.readers.fast_reader import H264_OPTIONS, ROUNDING_S, SKIP_OPTIONS
from tagger.video.readers.pyav_reader import PyAVReader
from tagger.video.readers.reader import DecoderName, Frame, Needs

Plan = Callable[[np.ndarray, bool], list[int]]
"""Takes the ends of the frames of a video, or of a stretch of it, in seconds, ``[frames] float64``, and whether its
last frame is among them. Returns the numbers of the frames that are needed, in order; the last frame always is."""

SEEKING_CONTAINERS = frozenset({"mp4", "mov", "m4a", "3gp", "3g2", "matroska", "webm"})
"""Containers that find a packet by its time without reading all packets before it."""

MIN_SEEK_PACKETS = 500
"""Minimum number of packets that are skipped by seeking. Reading and dropping fewer packets takes less time."""


class SparseError(Exception):
    """Decoding of parts gave something else than expected. Decoding the whole video finds out what is there."""


class SparseReader(PyAVReader):
    """Reads with PyAV, but decodes only from an entry point before each needed frame up to that frame.

    First it reads all packets, without decoding, and asks ``plan`` which frames are needed. The frames are then the
    same as in sequential reading. Opening raises VideoError where this cannot be promised (see ``read_packets`` and
    ``PacketKinds``), and reading raises SparseError when a needed frame does not come or is damaged. Damage in groups
    that are not decoded is not detected.

    With ``fast``, frames that no other frame refers to are not decoded, as in FastReader. With ``dense``, all other
    frames of the stretch are, so that damage in them is detected.

    With a ``stretch``, only the packets around it are read. The container finds the first of them by its time, and its
    own time shows that it is the right one. ``end_s`` is then a time up to which the video goes on at least.
    ``positions`` are those of the first and last packet of the stretch in the file.
    """

    name: DecoderName = "pyav-sparse"

    def __init__(
        self,
        path: Path,
        facts: VideoFacts,
        width: int,
        height: int,
        plan: Plan,
        on_packet: Callable[[], None] = lambda: None,
        *,
        fast: bool = False,
        dense: bool = False,
        stretch: Stretch = WHOLE,
    ):
        self._table = read_packets(path, on_packet, facts.stream, with_kinds=True, stretch=stretch)
        self._order = np.argsort(self._table.ticks)
        self._starts_s, end_s = _placed(self._table, self._order, facts.container)
        has_end = self._table.has_end
        self._ends_s = np.append(self._starts_s[1:], end_s) if has_end else self._starts_s[1:]
        self.end_s = float(self._ends_s[-1])
        self.positions = self._table.positions
        needed = plan(self._ends_s, has_end)
        if dense:
            first, last = np.searchsorted(self._starts_s, [stretch.from_s, stretch.until_s])
            begin = min([max(first - 1, 0), *needed])
            shown = range(begin, max([begin + 1, last, *(number + 1 for number in needed)]))
            around = _parts(self._table, self._order, shown, path, past_next_entry=fast)
            self._parts = [_Part(around[0].begin, around[-1].until, needed)]
        else:
            self._parts = _parts(self._table, self._order, needed, path, past_next_entry=fast)
        self._is_dense = dense
        self._is_decoded = np.ones_like(self._table.references) if dense else self._table.references.copy()
        self._is_decoded[self._order[needed]] = True
        self._is_fast = fast
        self._seeks = facts.container in SEEKING_CONTAINERS
        self._packet = 0 if self._table.has_start else -1
        super().__init__(path, facts, width, height, on_packet)
        if fast:
            self._scaled_format = None
            options = H264_OPTIONS if facts.codec == "h264" else SKIP_OPTIONS
            self._stream.codec_context.options = dict(self._stream.codec_context.options) | options

    def frames(self, needs: Needs) -> Iterator[Frame]:
        """See Reader.frames."""
        asked, last = 0, len(self._ends_s) - 1 if self._table.has_end else -1
        for number, frame in self._needed_frames():
            until_s = math.inf if number == last else float(self._ends_s[number])
            if any(needs(float(end_s)) for end_s in self._ends_s[asked:number]) or not needs(until_s):
                raise SparseError("other frames are needed than planned")
            asked = number + 1
            end_s = float(self._ends_s[number])
            yield Frame(float(self._starts_s[number]), end_s, self._pixels(frame), is_last=number == last)

    def _needed_frames(self) -> Iterator[tuple[int, av.VideoFrame]]:
        """Yields the number of each needed frame, with the frame, or with fast decoding the nearest decoded one."""
        packets = self._packets()
        for part in self._parts:
            if self._packet < 0 or (self._seeks and part.begin - self._packet >= MIN_SEEK_PACKETS):
                packets = self._packets_from(part.begin)
            waiting = deque(part.numbers)
            before: _Numbered | None = None
            for decoded in self._decoded_part(part, packets):
                while waiting and waiting[0] <= decoded[0]:
                    number = waiting.popleft()
                    yield number, self._nearest(number, before, decoded)
                before = decoded
                if not waiting and not self._is_dense:
                    break
            is_end = self._table.has_end and part.until == len(self._table.ticks) - 1
            for number in waiting:
                if before is None or not (self._is_fast and is_end):
                    raise SparseError(f"the packet at {self._starts_s[number]:.2f} s gives no frame")
                yield number, before[1]

    def _packets(self) -> "Iterator[tuple[av.Packet, bool]]":
        checked = checked_packets(self._container, self._stream)
        return ((packet, is_lost) for packet, is_lost in checked if packet.size)

    def _packets_from(self, begin: int) -> "Iterator[tuple[av.Packet, bool]]":
        """Seeks, and returns the packets from a packet of the table on that is no later than number ``begin``."""
        self._container.seek(int(self._table.seek_ticks[begin]), stream=self._stream)
        packets = self._packets()
        for packet, is_lost in packets:
            self._on_packet()
            found = self._number_of(packet)
            if found is None:
                continue  # The container went back to before the table.
            self._packet = int(self._order[found])
            if self._packet > begin:
                raise SparseError("seeking does not find the packet that it was asked for")
            return itertools.chain([(packet, is_lost)], packets)
        raise SparseError("the packets have changed")

    def _number_of(self, item: "av.Packet | av.VideoFrame") -> int | None:
        """Returns the number, in order of presentation, of the frame with the time of a packet or frame."""
        ticks = self._table.ticks
        found = len(ticks) if item.pts is None else int(np.searchsorted(ticks, item.pts, sorter=self._order))
        return found if found < len(ticks) and ticks[self._order[found]] == item.pts else None

    def _nearest(self, number: int, before: "_Numbered | None", after: "_Numbered") -> av.VideoFrame:
        """Returns the decoded frame whose start is nearest to that of a frame; if two are equally near, the first."""
        if after[0] == number:
            return after[1]
        if not self._is_fast or before is None:
            raise SparseError(f"the packet at {self._starts_s[number]:.2f} s gives no frame")
        middle_s = (self._starts_s[before[0]] + self._starts_s[after[0]]) / 2 + ROUNDING_S
        return before[1] if self._starts_s[number] <= middle_s else after[1]

    def _decoded_part(self, part: "_Part", packets: "Iterator[tuple[av.Packet, bool]]") -> Iterator["_Numbered"]:
        """Decodes a part of the video and yields its frames with their numbers."""
        decoder, ticks = self._stream.codec_context, self._table.ticks
        log = ErrorLog()
        last = -1

        def numbered(frames: "list[av.VideoFrame]") -> Iterator[_Numbered]:
            nonlocal last
            for frame in frames:
                found = self._number_of(frame)
                if found is None or found <= last:
                    raise SparseError("a frame has an unexpected time")
                if frame.is_corrupt or log.has_new_damage():
                    raise SparseError(f"the frame at {self._starts_s[found]:.2f} s is damaged")
                last = found
                yield found, frame

        try:
            for packet, is_lost in packets:
                number, self._packet = self._packet, self._packet + 1
                self._on_packet()
                if packet.pts != ticks[number]:
                    raise SparseError("the packets have changed")
                # Frames that are stored after the entry point but shown before it may refer to older ones.
                if number >= part.begin and packet.pts >= ticks[part.begin] and self._is_decoded[number]:
                    if is_lost:
                        raise SparseError("its data are damaged")
                    yield from numbered(decoder.decode(packet))
                if number == part.until:
                    break
            yield from numbered(decoder.decode(None))
        except (av.error.FFmpegError, ValueError) as error:
            raise SparseError(f"decoding of a part failed ({ffmpeg_reason(error)})") from error
        finally:
            decoder.flush_buffers()


_Numbered = tuple[int, av.VideoFrame]
"""A frame with its number in order of presentation."""


@dataclass
class _Part:
    """A part of a video that is decoded: its first and last packet, and the numbers of its needed frames."""

    begin: int
    until: int
    numbers: list[int]


def _placed(table: PacketTable, order: np.ndarray, container: str) -> tuple[np.ndarray, float]:
    """Returns the starts of all frames in seconds, ``[frames] float64``, and the end of the last, by the same clock."""
    clock = Clock(container, table.rate)
    tick_s = table.time_base
    clock.begin(table.origin * tick_s.numerator / tick_s.denominator)
    times = [
        (ticks * tick_s.numerator / tick_s.denominator, duration * tick_s.numerator / tick_s.denominator or None)
        for ticks, duration in zip(table.ticks[order].tolist(), table.durations[order].tolist(), strict=True)
    ]
    starts_s = np.array([clock.start_s(time_s, duration_s, is_key=False) for time_s, duration_s in times])
    return starts_s, clock.end_s()


def _parts(
    table: PacketTable, order: np.ndarray, needed: Sequence[int], path: Path, *, past_next_entry: bool
) -> list[_Part]:
    """Returns the parts of a video that must be decoded for the ``needed`` frames.

    A part begins at the last entry point that is stored, and shown, no later than its first needed frame. With
    ``past_next_entry`` it goes on to the next entry point, so that the decoded frames on both sides of a needed one
    are there.
    """
    ticks = table.ticks
    entries = np.flatnonzero(table.entries)
    if not table.entries[0]:
        raise VideoError("damaged", f"{path}: decoding cannot begin at its first frame")
    parts: list[_Part] = []
    for number in needed:
        packet = int(order[number])
        at = int(np.searchsorted(entries, packet, side="right")) - 1
        while at and ticks[entries[at]] > ticks[packet]:
            at -= 1
        begin, until = int(entries[at]), packet
        if past_next_entry and packet != begin:
            until = _until_next_entry(ticks, entries, packet)
        if parts and begin <= parts[-1].until + 1:
            if begin < parts[-1].begin:
                raise VideoError("damaged", f"{path}: its frames are stored in an unusual order")
            parts[-1].until = max(parts[-1].until, until)
            parts[-1].numbers.append(number)
        else:
            parts.append(_Part(begin, until, [number]))
    return parts


def _until_next_entry(ticks: np.ndarray, entries: np.ndarray, packet: int) -> int:
    """Returns the number of the last packet whose frame is shown up to the next entry point after ``packet``."""
    at = int(np.searchsorted(entries, packet, side="right"))
    while at < len(entries) and ticks[entries[at]] <= ticks[packet]:
        at += 1
    if at == len(entries):
        return len(ticks) - 1
    until = entry = int(entries[at])
    while until + 1 < len(ticks) and ticks[until + 1] < ticks[entry]:
        until += 1
    return until
