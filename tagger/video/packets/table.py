"""Reads the presentation times of frames from packets, without decoding."""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tagger.errors import VideoError
from tagger.video.appended import next_video
from tagger.video.container import ffmpeg_reason, open_container
from tagger.video.damage import ErrorLog, hole_check
from tagger.video.packets.kinds import PacketKind, PacketKinds

RATE_PACKETS = 1000
RATE_BYTES = 64 * 2**20
"""Limits of reading for ``rate_varies``: RATE_PACKETS packets or RATE_BYTES bytes, whichever is reached first."""

RATE_TOLERANCE_S = 2.1e-3
"""Maximum difference in seconds between two frame intervals at a constant rate. Each time may be rounded to
milliseconds."""


def rate_varies(path: Path) -> bool | None:
    """Checks whether the first frames of a video have a variable rate (up to RATE_PACKETS or RATE_BYTES).

    Returns None when this is not known. Raises VideoError when the file cannot be opened.
    """
    container, stream, _ = open_container(path)
    ticks: set[int] = set()
    read_bytes = 0
    tick_s = float(stream.time_base or 0)
    with container, contextlib.suppress(av.error.FFmpegError, ValueError):
        for packet in container.demux(stream):
            if packet.pts is not None and packet.size:
                ticks.add(packet.pts)
            read_bytes += packet.size
            if len(ticks) == RATE_PACKETS or read_bytes > RATE_BYTES:
                break
    if len(ticks) < 3 or not tick_s:
        return None
    steps_s = np.diff(sorted(ticks)) * tick_s
    # The last steps are left out: frames that are stored later but shown earlier are missing there.
    steps_s = steps_s[: max(2, len(steps_s) - 16)]
    return bool(steps_s.max() - steps_s.min() > max(RATE_TOLERANCE_S, 2.1 * tick_s))


MAX_LEAD_S = 60.0
"""Maximum time in seconds from the last packet at which decoding can begin to the first frame that is needed."""


@dataclass(frozen=True)
class Stretch:
    """The stretch of a video whose frames are needed, in seconds from the first frame. ``until_s`` may be inf."""

    from_s: float = 0.0
    until_s: float = math.inf

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole video."""
        return self.from_s <= 0 and math.isinf(self.until_s)


WHOLE = Stretch()


@dataclass(frozen=True)
class PacketTable:
    """The packets of a video, or of a stretch of it, that a decoder turns into one frame each, in stored order.

    ``ticks`` are their presentation times, ``[frames] int64``, in units of ``time_base``, and ``durations`` their
    declared durations, 0 where there is none. ``seek_ticks``, ``[frames] int64``, are the times by which a container
    finds them. ``entries``, ``[frames] bool``, are the packets at which decoding can begin, and ``references``,
    ``[frames] bool``, those whose frame others may refer to. ``origin`` is the presentation time of the first frame of
    the video. ``rate`` is the declared number of frames per second. ``has_start`` and ``has_end``: the first packet of
    the video is in the table, and the last one. ``positions`` are those of the first and last packet in the file.
    """

    ticks: np.ndarray
    durations: np.ndarray
    seek_ticks: np.ndarray
    entries: np.ndarray
    references: np.ndarray
    origin: int
    time_base: Fraction
    rate: float
    has_start: bool
    has_end: bool
    positions: tuple[int, int]


def read_packets(
    path: Path,
    on_packet: Callable[[], None] = lambda: None,
    number: int | None = None,
    *,
    with_kinds: bool = False,
    stretch: Stretch = WHOLE,
) -> PacketTable:
    """Reads the packets of a video, of the stream ``number`` if it is given, and calls ``on_packet`` for each.

    Reads the whole file, which may take long, or with a ``stretch`` the packets from an entry before it to a later
    frame than its last. ``entries`` and ``references`` are only found ``with_kinds``, which a stretch needs. Raises
    VideoError when a decoder would not return one frame for each packet: packets have no times, are marked as damaged,
    are encrypted, have a hole, are cut out by an edit list, or come before the first key frame, or another video is
    appended to the file; when frames are stored in an unusual order; and when decoding cannot begin before the stretch.
    """
    container, stream, _ = open_container(path, number=number)
    with container:
        time_base, rate = stream.time_base or Fraction(1), float(stream.average_rate or 25)
        reading = _Reading(container, stream, stretch, with_kinds, on_packet)
        has_end = True
        problem = reading.problem
        try:
            packets = container.demux(stream)
            if not problem and stretch.from_s > 0:
                packets = reading.packets_of_stretch(packets)
            log = ErrorLog()
            for packet in packets:
                if not problem and packet.size:
                    problem = "the container is damaged" if log.has_new_damage() else reading.add(packet)
                if problem or reading.is_complete:
                    has_end = False
                    break
        except (av.error.FFmpegError, ValueError) as error:
            problem = ffmpeg_reason(error)
        except VideoError as error:
            problem = str(error)
        if not problem and has_end and next_video(path, container, 0, reading.last_position, on_packet) is not None:
            problem = "another video is appended to it"
    problem = problem or reading.problem_of_all()
    if problem:
        raise VideoError("damaged", f"{path}: {problem}")
    assert reading.origin is not None
    entries = np.array([kind.can_begin for kind in reading.found])
    top_layer = max(kind.layer for kind in reading.found)
    references = np.array([kind.is_reference or kind.layer < top_layer for kind in reading.found])
    return PacketTable(
        np.array(reading.ticks),
        np.array(reading.durations),
        np.array(reading.seek_ticks),
        entries,
        references,
        reading.origin,
        time_base,
        rate,
        has_start=reading.ticks[0] == reading.origin,
        has_end=has_end,
        positions=(reading.first_position or 0, reading.last_position),
    )


class _Reading:
    """The state of ``read_packets``: the columns of the table, up to the packet that was read last."""

    def __init__(
        self,
        container: "av.container.InputContainer",
        stream: "av.video.stream.VideoStream",
        stretch: Stretch,
        with_kinds: bool,
        on_packet: Callable[[], None],
    ):
        decoder = stream.codec_context
        self.ticks: list[int] = []
        self.durations: list[int] = []
        self.seek_ticks: list[int] = []
        self.found: list[PacketKind] = []
        self.origin: int | None = None
        self.first_position: int | None = None
        self.last_position = 0
        self.problem: str | None = None
        self._container, self._stream, self._stretch, self._on_packet = container, stream, stretch, on_packet
        self._tick_s = float(stream.time_base or 1)
        self._has_hole = hole_check(decoder)
        self._kinds = PacketKinds(decoder) if with_kinds else None
        # Equal kinds are one object, because a long video has millions of packets.
        self._known: dict[PacketKind, PacketKind] = {}
        self._entry_after: int | None = None
        self._latest = self._entry = self._earliest = -math.inf
        if container.format.name == "avi" and decoder.has_b_frames:
            self.problem = "AVI has no times for B-frames"
        elif self._kinds is not None and not self._kinds.is_known:
            self.problem = f"where decoding of {decoder.name} can begin is not known"

    def add(self, packet: "av.Packet") -> str | None:
        """Takes a packet of the table. Returns why the table would be wrong; None if it would not."""
        self._on_packet()
        self.last_position = packet.pos or self.last_position
        if self.first_position is None:
            self.first_position = packet.pos
        problem, kind = self._kind_of(packet)
        if problem is None and self._is_out_of_order(packet.pts or 0, is_entry=kind.can_begin):
            problem = "its frames are stored in an unusual order"
        if problem is None and packet.pts is not None:
            self.ticks.append(packet.pts)
            self.durations.append(packet.duration or 0)
            self.seek_ticks.append(packet.pts if packet.dts is None else min(packet.dts, packet.pts))
            self.found.append(self._known.setdefault(kind, kind))
            if kind.can_begin and self._entry_after is None and self._start_s(packet.pts) > self._stretch.until_s:
                self._entry_after = packet.pts
        return problem

    def _is_out_of_order(self, ticks: int, *, is_entry: bool) -> bool:
        """Checks whether the clock jumps back at the packet that is read next.

        Frames that are stored before an entry are shown before it. Those that are stored after it are shown after it,
        but the first of them may be shown between the entry before and this one.
        """
        is_late = is_entry and self._latest >= ticks
        if is_entry:
            self._earliest, self._entry = self._entry, ticks
        elif ticks > self._entry:
            self._earliest = self._entry
        self._latest = max(self._latest, ticks)
        return is_late or ticks < self._earliest

    def _kind_of(self, packet: "av.Packet") -> tuple[str | None, PacketKind]:
        content = bytes(packet)
        if self._has_hole(content):
            return "a packet has a hole", PacketKind()
        problem = _packet_problem(packet, self.origin)
        if self.origin is None:
            self.origin = packet.pts
        return problem, self._kinds.kind_of(packet, content) if self._kinds is not None else PacketKind()

    def _start_s(self, ticks: int) -> float:
        assert self.origin is not None
        return (ticks - self.origin) * self._tick_s

    def packets_of_stretch(self, packets: "Iterator[av.Packet]") -> "Iterator[av.Packet]":
        """Seeks the last packet at which decoding can begin and whose frame is shown no later than the stretch begins.

        Returns the packets from there on. ``packets`` are those of the whole video. Raises VideoError when the packet
        is more than MAX_LEAD_S earlier.
        """
        first = next((packet for packet in packets if packet.size), None)
        problem = "there are no packets" if first is None else self._kind_of(first)[0]
        if problem or first is None or self.origin is None:
            raise VideoError("damaged", problem or "frames have no times")
        target = self.origin + math.floor(self._stretch.from_s / self._tick_s)
        earliest = target - math.ceil(MAX_LEAD_S / self._tick_s)
        before = target
        while before > self.origin:
            self._on_packet()
            self._container.seek(before, stream=self._stream)
            packets = self._container.demux(self._stream)
            found = next((packet for packet in packets if packet.size), None)
            if found is None or found.pts is None:
                raise VideoError("damaged", "seeking finds no frame")
            if found.pts <= target and self._kind_of(found)[1].can_begin:
                break
            before = min(before, found.pts if found.dts is None else found.dts) - 1
            if before < earliest:
                from_s = self._stretch.from_s
                raise VideoError(
                    "damaged", f"decoding can begin at no frame of the {MAX_LEAD_S:g} s before {from_s:g} s"
                )
        self._container.seek(before, stream=self._stream)
        return self._container.demux(self._stream)

    @property
    def is_complete(self) -> bool:
        """Whether all frames up to an entry after the stretch have been read.

        Frames that are stored after an entry but shown before it are stored before all others.
        """
        return self._entry_after is not None and self.ticks[-1] > self._entry_after

    def problem_of_all(self) -> str | None:
        """Returns why the whole table would be wrong; None if it would not."""
        if not self.ticks:
            return "there are no packets"
        if self._start_s(self.ticks[0]) > self._stretch.from_s:
            return "seeking does not find the packet that it was asked for"
        if self.first_position is None and not self._stretch.is_whole:
            return "the positions of its packets are not known"
        return "two frames have the same time" if len(set(self.ticks)) < len(self.ticks) else None


def packet_times(path: Path, on_packet: Callable[[], None] = lambda: None) -> np.ndarray:
    """Returns start and end in seconds of every frame of a video, ``[frames, 2] float64``, in presentation order.

    Reads the whole file; ``on_packet`` and errors are those of ``read_packets``.
    """
    table = read_packets(path, on_packet)
    order = np.argsort(table.ticks)
    # The same floating-point numbers as those of decoded frames.
    starts_s = table.ticks[order] * table.time_base.numerator / table.time_base.denominator
    step_s = starts_s[-1] - starts_s[-2] if len(starts_s) > 1 else 1 / table.rate
    last_s = table.durations[order[-1]] * float(table.time_base) or step_s
    return np.stack([starts_s, np.append(starts_s[1:], starts_s[-1] + last_s)], axis=-1)


def _packet_problem(packet: "av.Packet", first_ticks: int | None) -> str | None:
    """Returns why a decoder would not return one frame for each packet; None if it would.

    ``first_ticks`` is the time of the first packet; None when this is the first.
    """
    if packet.pts is None:
        return "frames have no times"
    if packet.is_corrupt:
        return "a packet is marked as damaged"
    if packet.has_sidedata("encryption_info"):
        return "a packet is encrypted"
    if packet.is_discard:
        return "an edit list cuts frames out"
    if first_ticks is None and not packet.is_keyframe:
        return "the first frame is no key frame"
    if first_ticks is not None and packet.pts < first_ticks:
        return "frames are shown before the first key frame"
    return None
