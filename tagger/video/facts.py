"""What a video says about itself, read from its headers and its first frame."""

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

import av

from tagger.errors import ErrorKind, VideoError
from tagger.video.playlists import REFERRING_FORMATS, playlist_name
from tagger.video.truncation import is_truncated

HEAD_BYTES = 4096
"""How much of the start of a file is looked at to tell what it is."""

MAX_PIXELS = 2**26
"""Pixels of the largest picture that is decoded, 8192 × 8192; a frame takes 100 MB and a decoder holds several."""

MAX_ASPECT = 100
"""How many times longer than wide a picture may be: its shorter side becomes the size that the model wants."""

MAX_STREAMS = 250
"""Streams of the richest file that is opened; a recording of a whole television channel has some fifty."""

USUAL_PIXEL_ASPECTS = (Fraction(1, 4), Fraction(4))
"""The shapes of a pixel that are believed; anything beyond is a broken header."""


@dataclass(frozen=True)
class VideoFacts:
    """Facts from the container and the first video stream that is no attached picture.

    ``width`` and ``height`` are those of the stored picture, turned upright; ``rotation`` is the clockwise turn in
    degrees that makes it upright. ``pixel_aspect`` is the width of an upright pixel over its height. ``duration_s`` is
    what the file declares, None when it does not, and is replaced by what was found once the video has been read.
    ``frames`` is the declared frame count, 0 when unknown. ``time_base_s`` is one tick of the stream's clock.
    ``is_truncated`` tells that the file ends before the end that it declares. ``video_streams`` counts attached
    pictures, too.
    """

    container: str
    codec: str
    width: int
    height: int
    fps: float | None
    duration_s: float | None
    frames: int
    start_s: float
    time_base_s: float
    rotation: int
    is_truncated: bool
    pixel_aspect: float = 1.0
    video_streams: int = 1

    @property
    def display_size(self) -> tuple[float, float]:
        """Width and height of the upright picture with its pixels made square."""
        return self.width * self.pixel_aspect, float(self.height)


def open_file(path: Path) -> tuple[int, bytes]:
    """Opens a regular file and returns its descriptor and its first bytes; raises VideoError for anything else."""
    try:
        # Asked first, because opening a device may do something, and opening a pipe waits for its writer.
        if not stat.S_ISREG(path.stat().st_mode):
            raise VideoError("not_video", f"{path} is not a regular file")
        # Should it have become a pipe since, O_NONBLOCK does not wait.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise VideoError("missing", f"{path} does not exist") from None
    except ValueError as error:
        raise VideoError("missing", f"{path!r} is no path of a file ({error})") from error
    except PermissionError:
        raise VideoError("permission", f"{path} cannot be opened: permission denied") from None
    except OSError as error:
        is_missing = error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)
        kind: ErrorKind = "missing" if is_missing else "damaged"
        raise VideoError(kind, f"{path} cannot be read: {error.strerror}") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise VideoError("not_video", f"{path} is not a regular file")
        head = os.pread(descriptor, HEAD_BYTES, 0)
        if not head:
            raise VideoError("empty", f"{path} is empty (0 bytes)")
    except OSError as error:
        os.close(descriptor)
        raise VideoError("damaged", f"{path} cannot be read: {error.strerror}") from error
    except VideoError:
        os.close(descriptor)
        raise
    return descriptor, head


def open_container(path: Path) -> "tuple[av.container.InputContainer, av.video.stream.VideoStream, bytes]":
    """Opens ``path`` with PyAV; returns the container, its first video stream and the first bytes of the file.

    Raises VideoError. Nothing but the file itself is ever opened: FFmpeg gets it as an open descriptor, so it sees no
    name to make a protocol (``12:30.mp4``) or a row of pictures (``%03d.jpg``) of, and what is opened from there may be
    of the protocols ``data`` and ``crypto`` only. Formats that refer to other files are refused besides.
    """
    descriptor, head = open_file(path)
    try:
        container = _open_descriptor(path, descriptor, head)
    finally:
        os.close(descriptor)  # FFmpeg has made its own copy.
    try:
        return container, _video_stream(container, path), head
    except VideoError:
        container.close()
        raise


def _open_descriptor(path: Path, descriptor: int, head: bytes) -> "av.container.InputContainer":
    playlist = playlist_name(head)
    if playlist:
        raise VideoError("not_video", f"{path} is {playlist}, which refers to other files; tag those instead")
    options = {
        "fd": str(descriptor),
        "format_whitelist": _formats(),
        "max_streams": str(MAX_STREAMS),
        "max_pixels": str(MAX_PIXELS),
    }
    try:
        # Metadata may be in any encoding.
        return av.open("fd:", options=options, metadata_errors="replace")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        if getattr(error, "errno", None) == errno.ENOMEM:
            reason = f"{path} declares more than can be read, {MAX_STREAMS} streams or {MAX_PIXELS:,} pixels say"
            raise VideoError("unsupported", reason) from None
        raise VideoError(
            "not_video", f"{path} is not a video that FFmpeg recognises ({ffmpeg_reason(error)})"
        ) from error


@cache
def _formats() -> str:
    """All formats that FFmpeg reads but those that refer to other files."""
    return ",".join(sorted({name for names in av.formats_available for name in names.split(",")} - REFERRING_FORMATS))


def _video_stream(container: "av.container.InputContainer", path: Path) -> "av.video.stream.VideoStream":
    is_picture = container.format.name.endswith("_pipe")
    # The cover of a piece of music is a video stream, too.
    streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if is_picture or not streams:
        raise VideoError("no_video_stream", f"{path} {'is a picture' if is_picture else 'has no video stream'}")
    stream = streams[0]
    if stream.codec_context is None:
        raise VideoError("unsupported", f"{path}: FFmpeg has no decoder for its codec")
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > MAX_PIXELS:
        raise VideoError("unsupported", f"{path} declares {width}×{height} pixels; vtag reads up to {MAX_PIXELS:,}")
    if max(width, height) > MAX_ASPECT * max(1, min(width, height)):
        raise VideoError("unsupported", f"{path} declares {width}×{height} pixels, a shape that no model reads")
    stream.codec_context.options = {
        # A later header may declare a larger picture.
        "max_pixels": str(MAX_PIXELS),
        # What a decoder notices of a damage ends the video; left alone, it would fill in what is missing.
        "err_detect": "crccheck+bitstream+buffer+explode",
    }
    # The job runs one decoder per core; more threads only add switching.
    stream.codec_context.thread_count = 1
    return stream


def probe(path: str | Path) -> VideoFacts:
    """Reads the facts of a video: opens it and decodes one frame. Raises VideoError."""
    path = Path(path)
    container, stream, head = open_container(path)
    with container:
        frame = _first_frame(container, stream, path)
        # FFmpeg's display matrix counts counter-clockwise turns.
        rotation = -frame.rotation % 360
        width, height = (frame.height, frame.width) if rotation in (90, 270) else (frame.width, frame.height)
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
        # Samples lie in file order, so the last few entries tell.
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
            start_s=float((stream.start_time or 0) * time_base),
            time_base_s=float(time_base),
            rotation=rotation,
            is_truncated=is_truncated(head, index_tail, container.size),
            pixel_aspect=float(1 / aspect if rotation in (90, 270) else aspect),
            video_streams=len(container.streams.video),
        )


def _first_frame(
    container: "av.container.InputContainer", stream: "av.video.stream.VideoStream", path: Path
) -> "av.VideoFrame":
    for frame in decoded_frames(container, stream, path):
        return frame
    raise VideoError("damaged", f"{path} has a video stream but no frame can be decoded from it")


def decoded_frames(
    container: "av.container.InputContainer", stream: "av.video.stream.VideoStream", path: Path
) -> "Iterator[av.VideoFrame]":
    """All frames of a stream in presentation order, up to the first sign of damage, which raises VideoError.

    What comes before the first frame is no damage: a recording may start in the middle of a group of pictures. Decoders
    that check little notice little: in VP8, VP9, HEVC, MJPEG and GIF a damage may give wrong pixels and no sign at all.
    """
    has_frames = False
    first_s: float | None = None
    last_s = 0.0
    # A gap in the numbers of packets marks the next one as corrupt, also where two recordings were joined; what is
    # really missing the decoder notices.
    trusts_mark = container.format.name != "mpegts"
    failure: av.error.FFmpegError | ValueError | None = None
    try:
        for packet in container.demux(stream):
            if packet.is_corrupt and has_frames and trusts_mark:
                raise VideoError("damaged", f"{path}: its data are damaged after {last_s:.2f} s")
            try:
                frames = packet.decode()
            except (av.error.FFmpegError, ValueError) as error:
                if has_frames:
                    raise
                failure = error
                continue
            for frame in frames:
                if frame.is_corrupt:
                    if has_frames:
                        raise VideoError("damaged", f"{path}: a frame is damaged after {last_s:.2f} s")
                    continue
                has_frames = True
                first_s = frame.time if first_s is None else first_s
                last_s = (frame.time or 0.0) - (first_s or 0.0)
                yield frame
    except (av.error.FFmpegError, ValueError) as error:
        if has_frames:
            reason = f"{path}: decoding failed after {last_s:.2f} s ({ffmpeg_reason(error)})"
            raise VideoError("damaged", reason) from error
        failure = error
    if isinstance(failure, av.error.DecoderNotFoundError):
        raise VideoError("unsupported", f"{path}: FFmpeg has no decoder for its codec") from failure
    if failure is not None and not has_frames and not stream.codec_context.width:
        reason = f"{path} declares no size of its pictures, or one beyond the {MAX_PIXELS:,} pixels that vtag reads"
        raise VideoError("unsupported", reason) from failure
    if failure is not None and not has_frames:
        raise VideoError("damaged", f"{path} cannot be decoded ({ffmpeg_reason(failure)})") from failure


def _container_name(names: str, path: Path) -> str:
    """``mp4`` out of FFmpeg's ``mov,mp4,m4a,3gp,3g2,mj2``: the file's own ending when it is one of them."""
    known = names.split(",")
    ending = path.suffix.lower().lstrip(".").replace("mkv", "matroska")
    return ending if ending in known else known[0]


def ffmpeg_reason(error: Exception) -> str:
    """FFmpeg's own words for an error, without the path."""
    return (getattr(error, "strerror", None) or str(error)).rstrip(".").lower()
