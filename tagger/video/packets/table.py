"""Reads the presentation times of frames from packets, without decoding."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tagger.errors import VideoError
from tagger.video.appended import next_video
from tagger.video.container import ffmpeg_reason, open_container
from tagger.video.damage import hole_check
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


@dataclass(frozen=True)
class PacketTable:
    """The packets of a video that a decoder turns into one frame each, in stored order.

    ``ticks`` are their presentation times, ``[frames] int64``, in units of ``time_base``, and ``durations`` their
    declared durations, 0 where there is none. ``entries``, ``[frames] bool``, are the packets at which decoding can
    begin, and ``references``, ``[frames] bool``, those whose frame others may refer to. ``rate`` is the declared number
    of frames per second.
    """

    ticks: np.ndarray
    durations: np.ndarray
    entries: np.ndarray
    references: np.ndarray
    time_base: Fraction
    rate: float


def read_packets(
    path: Path, on_packet: Callable[[], None] = lambda: None, number: int | None = None, *, with_kinds: bool = False
) -> PacketTable:
    """Reads the packets of a video, of the stream ``number`` if it is given, and calls ``on_packet`` for each.

    Reads the whole file, which may take long. ``entries`` and ``references`` are only found ``with_kinds``. Raises
    VideoError when a decoder would not return one frame for each packet: packets have no times, are marked as damaged,
    are encrypted, have a hole, are cut out by an edit list, or come before the first key frame, or another video is
    appended to the file.
    """
    container, stream, _ = open_container(path, number=number)
    ticks: list[int] = []
    durations: list[int] = []
    found: list[PacketKind] = []
    # Equal kinds are one object, because a long video has millions of packets.
    known: dict[PacketKind, PacketKind] = {}
    problem: str | None = None
    last_packet = 0
    with container:
        has_hole = hole_check(stream.codec_context)
        kinds = PacketKinds(stream.codec_context) if with_kinds else None
        if container.format.name == "avi" and stream.codec_context.has_b_frames:
            problem = "AVI has no times for B-frames"
        elif kinds is not None and not kinds.is_known:
            problem = f"where decoding of {stream.codec_context.name} can begin is not known"
        try:
            for packet in container.demux(stream):
                on_packet()
                if problem:
                    break
                if not packet.size:
                    continue  # The last packet, which flushes decoders, or an empty AVI packet, which repeats a frame.
                last_packet = packet.pos or last_packet
                content = bytes(packet)
                if has_hole(content):
                    problem = "a packet has a hole"
                    break
                problem = _packet_problem(packet, first_ticks=ticks[0] if ticks else None)
                if packet.pts is not None:
                    ticks.append(packet.pts)
                    durations.append(packet.duration or 0)
                    kind = kinds.kind_of(packet, content) if kinds is not None else PacketKind()
                    found.append(known.setdefault(kind, kind))
        except (av.error.FFmpegError, ValueError) as error:
            problem = ffmpeg_reason(error)
        if not problem and next_video(path, container, 0, last_packet, on_packet) is not None:
            problem = "another video is appended to it"
        time_base, rate = stream.time_base or Fraction(1), float(stream.average_rate or 25)
    if not problem and not ticks:
        problem = "there are no packets"
    if not problem and len(set(ticks)) < len(ticks):
        problem = "two frames have the same time"
    if problem:
        raise VideoError("damaged", f"{path}: {problem}")
    entries = np.array([kind.can_begin for kind in found])
    top_layer = max(kind.layer for kind in found)
    references = np.array([kind.is_reference or kind.layer < top_layer for kind in found])
    return PacketTable(np.array(ticks), np.array(durations), entries, references, time_base, rate)


def packet_times(path: Path, on_packet: Callable[[], None] = lambda: None) -> np.ndarray:
    """Returns start and end in seconds of every frame of a video, ``[frames, 2] float64``, in presentation order.

    Reads the whole file; ``on_packet`` and errors are those of ``read_packets``.
    """
    table = read_packets(path, on_packet)
    order = np.argsort(table.ticks)
    starts_s = table.ticks[order] * float(table.time_base)
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
