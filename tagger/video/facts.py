"""The facts of a video, read from its headers and its first frame."""

import contextlib
import gc
import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.sidedata.sidedata import SideData

from tagger.errors import VideoError
from tagger.video.container import open_container
from tagger.video.damage import Damage
from tagger.video.frames import decoded_frames
from tagger.video.truncation import is_truncated

USUAL_PIXEL_ASPECTS = (Fraction(1, 4), Fraction(4))
"""The range of plausible pixel aspect ratios. A value outside of it is a broken header, and pixels are taken as
square."""


@dataclass(frozen=True)
class VideoFacts:
    """Facts from the container and from the first video stream that is not an attached picture.

    ``width`` and ``height`` are the size of the stored picture after rotation. ``rotation`` is the clockwise rotation
    in degrees, a multiple of 90, that makes the picture upright. If it ``is_mirrored``, the stored picture is first
    mirrored left to right. ``stream`` is the number of the stream in the file. ``pixel_aspect`` is the width of an
    upright pixel divided by its height. ``duration_s`` is the declared duration, None if there is none; after a video
    was read it is the actual duration. ``frames`` is the declared frame count, 0 when unknown. ``stream_start_s`` is
    the time of the first frame as players and FFmpeg's ``-ss`` count: in seconds from the start of the container, which
    is the earliest start of its streams. It is 0 unless the video begins after the audio, and in a file without times.
    ``time_base_s`` is one tick of the stream's clock in seconds. ``is_truncated`` is true when the file is shorter than
    it declares. ``video_streams`` includes attached pictures.
    """

    container: str
    codec: str
    width: int
    height: int
    fps: float | None
    duration_s: float | None
    frames: int
    stream_start_s: float
    time_base_s: float
    rotation: int
    is_truncated: bool
    pixel_aspect: float = 1.0
    video_streams: int = 1
    is_mirrored: bool = False
    stream: int = 0

    @property
    def display_size(self) -> tuple[float, float]:
        """Width and height of the upright picture in square pixels."""
        return self.width * self.pixel_aspect, float(self.height)


def probe(path: str | Path) -> VideoFacts:
    """Reads the facts of a video: opens it and decodes one frame. Raises VideoError.

    If the first video stream has no frame, the next one is tried.
    """
    path = Path(path)
    container, stream, head = open_container(path)
    with container:
        others = [other.index for other in container.streams.video if other.index != stream.index]
        try:
            return _facts(container, stream, head, path)
        except VideoError as error:
            failure = error
    for number in others if failure.kind == "damaged" else []:
        with contextlib.suppress(VideoError):
            container, stream, head = open_container(path, number=number)
            with container:
                return _facts(container, stream, head, path)
    raise failure


def _facts(
    container: "av.container.InputContainer", stream: "av.video.stream.VideoStream", head: bytes, path: Path
) -> VideoFacts:
    width, height, rotation, is_mirrored, first_s = _first_picture(container, stream, path)
    # A frame whose side data were read refers to itself. Python would free it, and up to 12 MB of 4K, much later.
    gc.collect(0)
    width, height = (height, width) if rotation in (90, 270) else (width, height)
    aspect = stream.sample_aspect_ratio or Fraction(1)
    if not USUAL_PIXEL_ASPECTS[0] <= aspect <= USUAL_PIXEL_ASPECTS[1]:
        aspect = Fraction(1)
    time_base: Fraction = stream.time_base or Fraction(1, av.time_base)
    if stream.duration is not None:
        duration_s = float(stream.duration * time_base)
    elif container.duration is not None:
        duration_s = container.duration / av.time_base
    else:
        duration_s = None
    # Samples are in file order, so the last few entries are enough to detect truncation.
    entries = stream.index_entries
    index_tail = [entries[i] for i in range(max(0, len(entries) - 8), len(entries))]
    return VideoFacts(
        container=_container_name(container.format.name, path),
        codec=stream.codec_context.codec.canonical_name,
        width=width,
        height=height,
        fps=float(stream.average_rate) if stream.average_rate else None,
        duration_s=duration_s,
        frames=stream.frames,
        stream_start_s=_stream_start_s(container, first_s),
        time_base_s=float(time_base),
        rotation=rotation,
        is_mirrored=is_mirrored,
        is_truncated=is_truncated(head, index_tail, container.size),
        pixel_aspect=float(1 / aspect if rotation in (90, 270) else aspect),
        video_streams=len(container.streams.video),
        stream=stream.index,
    )


def orientation(frame: "av.VideoFrame") -> tuple[int, bool]:
    """Returns how a stored picture is made upright: clockwise rotation in degrees, and whether it is mirrored before.

    The display matrix of a file (ISO/IEC 14496-12, 8.2.2) turns a picture by any angle, which is rounded to 90 degrees.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if not isinstance(matrix, SideData):
        return 0, False
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32, 5).tolist()
    is_mirrored = a * d - b * c < 0
    # Mirrored left to right, a point (x, y) goes to (-x, y).
    turn = math.degrees(math.atan2(-b, -a) if is_mirrored else math.atan2(b, a))
    return round(turn / 90) * 90 % 360, is_mirrored


def _first_picture(
    container: "av.container.InputContainer", stream: "av.video.stream.VideoStream", path: Path
) -> tuple[int, int, int, bool, Fraction | None]:
    """Returns width and height of the first frame as stored, its orientation, and the time at which the video begins.

    The time is that of the first frame, or of the first packet if the frames of more than a second cannot be decoded.
    It is in seconds of the file's own clock; None if the file has no times.
    """
    first: av.Packet | None = None
    for frame in decoded_frames(container, stream, path):
        if isinstance(frame, Damage):
            first = first or frame.first_packet
            continue
        begin = first or frame
        # The times of presentation that FFmpeg computes for an AVI are out of order.
        ticks = begin.dts if container.format.name == "avi" else begin.pts
        first_s = None if ticks is None or begin.time_base is None else ticks * begin.time_base
        return frame.width, frame.height, *orientation(frame), first_s
    raise VideoError("damaged", f"{path} has a video stream but no frame can be decoded from it")


def _stream_start_s(container: "av.container.InputContainer", first_s: Fraction | None) -> float:
    """Returns the time of the first frame in seconds from the start of the container, in whole microseconds.

    FFmpeg rounds the start of a container to microseconds.
    """
    if first_s is None or container.start_time is None:
        return 0.0
    return (round(first_s * av.time_base) - container.start_time) / av.time_base


def _container_name(names: str, path: Path) -> str:
    """Picks one of FFmpeg's names, such as ``mov,mp4,m4a,3gp,3g2,mj2``: the file's extension, else the first name."""
    known = names.split(",")
    ending = path.suffix.lower().lstrip(".").replace("mkv", "matroska")
    return ending if ending in known else known[0]
