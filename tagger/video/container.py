"""Opens a video file, and never any other file that it refers to."""

import errno
import os
import stat
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import av
from av.codec.hwaccel import HWAccel

from tagger.errors import ErrorKind, VideoError
from tagger.video.damage import STUFFED_CODECS
from tagger.video.fetched_file import fetched_file
from tagger.video.playlists import REFERRING_FORMATS, playlist_kind
from tagger.video.pyav_versions import TOLERANT_OPEN_OPTIONS
from tagger.video.truncation import mp4_end
from tagger.video.watched_file import WatchedFile

HEAD_BYTES = 16384
"""Bytes at the start of a file that are read to recognise its format. In AVI the first frame starts after about 6
KB."""

MAX_PIXELS = 2**26
"""Maximum number of pixels in a picture, 8192 × 8192. Such a frame takes 100 MB, and a decoder holds several."""

MAX_ASPECT = 100
"""Maximum ratio of the sides of a picture. The shorter side is scaled to the model's input, so the longer one would be
too long."""

DAMAGE_CHECKS = "crccheck+bitstream+buffer+explode"
"""What the decoder checks."""

MAX_STREAMS = 250
"""Maximum number of streams in a file. A recording of a whole television channel has about fifty."""


def open_file(path: Path, start: int = 0) -> tuple[int, bytes]:
    """Opens a regular file. Returns its descriptor and its first bytes, from the byte ``start`` on.

    Raises VideoError for anything else.
    """
    try:
        # Checked before opening: opening a device may have side effects, and opening a pipe waits for a writer.
        if not stat.S_ISREG(path.stat().st_mode):
            raise VideoError("not_video", f"{path} is not a regular file")
        # O_NONBLOCK prevents waiting if the file has been replaced by a pipe since the check.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise VideoError("missing", f"{path} does not exist") from None
    except ValueError as error:
        raise VideoError("missing", f"{path!r} is not a valid file path ({error})") from error
    except PermissionError:
        raise VideoError("permission", f"{path} cannot be opened: permission denied") from None
    except OSError as error:
        is_missing = error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)
        kind: ErrorKind = "missing" if is_missing else "io"
        raise VideoError(kind, f"{path} cannot be read: {error.strerror}") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise VideoError("not_video", f"{path} is not a regular file")
        fetched = fetched_file(path)
        head = os.pread(descriptor, HEAD_BYTES, start) if fetched is None else fetched.read(start, HEAD_BYTES)
        if not head:
            raise VideoError("empty", f"{path} is empty (0 bytes)")
    except OSError as error:
        os.close(descriptor)
        raise VideoError("io", f"{path} cannot be read: {error.strerror}") from error
    except VideoError:
        os.close(descriptor)
        raise
    return descriptor, head


def open_container(
    path: Path, hwaccel: HWAccel | None = None, number: int | None = None, start: int = 0
) -> "tuple[av.container.InputContainer, av.video.stream.VideoStream, bytes]":
    """Opens ``path`` with PyAV. Returns the container, its first video stream and the first bytes of the file.

    Raises VideoError. No other file is ever opened. FFmpeg gets an open file instead of a name, which it could take for
    a protocol (``12:30.mp4``) or an image sequence (``%03d.jpg``). It may use only the protocols ``data`` and
    ``crypto``. Formats that refer to other files are refused. ``number`` is that of the video stream; without it, the
    first one that has frames is returned. ``hwaccel`` is the device that decodes; None
    is the CPU. If several videos were appended to each other, ``start`` is the byte at which the wanted one begins.
    """
    descriptor, head = open_file(path, start)
    try:
        container = _open_descriptor(path, descriptor, head, hwaccel, start)
    finally:
        os.close(descriptor)  # WatchedFile has duplicated it.
    try:
        return container, _video_stream(container, path, number), head
    except VideoError:
        container.close()
        raise


def _open_descriptor(
    path: Path, descriptor: int, head: bytes, hwaccel: HWAccel | None, start: int
) -> "av.container.InputContainer":
    playlist = playlist_kind(head)
    if playlist:
        raise VideoError("not_video", f"{path} is {playlist}, which refers to other files; tag those instead")
    options = {
        "protocol_whitelist": "data,crypto",
        "format_whitelist": allowed_formats(),
        "max_streams": str(MAX_STREAMS),
        "max_pixels": str(MAX_PIXELS),
    }
    try:
        return _open(path, descriptor, options, head, hwaccel, start)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        if getattr(error, "errno", None) == errno.ENOMEM:
            reason = f"{path} declares too much, for example more than {MAX_STREAMS} streams or {MAX_PIXELS:,} pixels"
            raise VideoError("unsupported", reason) from None
        raise VideoError(
            "not_video", f"{path} is not a video that FFmpeg recognises ({ffmpeg_reason(error)})"
        ) from error


def _open(
    path: Path, descriptor: int, options: dict[str, str], head: bytes, hwaccel: HWAccel | None, start: int
) -> "av.container.InputContainer":
    # In an MP4 to which another is appended, FFmpeg would take fragments and positions of the second for the first.
    end = mp4_end(WatchedFile(path, descriptor, start)) if head[4:8] == b"ftyp" else None

    def opened(**more: str) -> "av.container.InputContainer":
        file = WatchedFile(path, descriptor, start, None if end is None else start + end)
        file.seek(0)
        try:
            return av.open(file, options=options | more, hwaccel=hwaccel, **TOLERANT_OPEN_OPTIONS)
        except BaseException:
            file.close()
            raise

    try:
        return opened()
    except av.error.FFmpegError:
        if b"moof" not in head:
            raise
    # FFmpeg refuses a fragmented MP4 whose last fragment is cut off. With ``ignidx`` it reads the fragments one by one.
    return opened(fflags="ignidx")


@cache
def allowed_formats(*more: str) -> str:
    """Returns all formats that FFmpeg reads, except those that refer to other files and are not among ``more``."""
    refused = REFERRING_FORMATS.difference(more)
    return ",".join(sorted({name for names in av.formats_available for name in names.split(",")} - refused))


def _video_stream(
    container: "av.container.InputContainer", path: Path, number: int | None
) -> "av.video.stream.VideoStream":
    is_picture = container.format.name.endswith("_pipe")
    # Cover art of music is also a video stream.
    streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if is_picture or not streams:
        raise VideoError("no_video_stream", f"{path} {'is a picture' if is_picture else 'has no video stream'}")
    stream = next((s for s in streams if s.index == number), None) or _first_with_frames(container, streams)
    check_stream(stream, str(path))
    return stream


def check_stream(stream: "av.video.stream.VideoStream", path: str) -> None:
    """Raises VideoError for a stream that vtag does not decode, and sets the limits of its decoder."""
    if stream.codec_context is None:
        raise VideoError("unsupported", f"{path}: FFmpeg has no decoder for its codec")
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > MAX_PIXELS:
        raise VideoError("unsupported", f"{path} declares {width}×{height} pixels; vtag reads up to {MAX_PIXELS:,}")
    if max(width, height) > MAX_ASPECT * max(1, min(width, height)):
        raise VideoError("unsupported", f"{path} declares {width}×{height} pixels, a shape that no model can use")
    # "bitstream" finds damage in MPEG-1 and MPEG-2, too, but also in the zeros that fill up a constant bit rate.
    checks = "crccheck+buffer+explode" if stream.codec_context.name in STUFFED_CODECS else DAMAGE_CHECKS
    stream.codec_context.options = {
        # Set for the decoder, too, because a later header may declare a larger picture.
        "max_pixels": str(MAX_PIXELS),
        # Damage that the decoder detects raises an error. By default the decoder would conceal it.
        "err_detect": checks,
    }
    # A job runs one decoder per core, so more threads would only add context switches. ThreadedReader sets more.
    stream.codec_context.thread_count = 1


def _first_with_frames(
    container: "av.container.InputContainer", streams: "Sequence[av.video.stream.VideoStream]"
) -> "av.video.stream.VideoStream":
    """Returns the first stream with more than one frame, as far as the index of the file tells; else the first one.

    The first stream of an MP4 may be empty, and that of an image sequence is a still picture.
    """
    if container.format.name.startswith("mov"):
        return next((s for s in streams if len(s.index_entries) > 1), streams[0])
    return streams[0]


REASONS = {
    errno.EAGAIN: "it ends in empty data",
    errno.EPERM: "it is protected",
    errno.EINVAL: "its data are invalid",
    errno.ENOENT: "a part of it is missing",
    errno.EDOM: "its numbers are out of range",
    errno.ERANGE: "its numbers are out of range",
}
"""Meanings for a file of the error numbers of the system that FFmpeg borrows."""


def ffmpeg_reason(error: Exception) -> str:
    """Returns FFmpeg's message for an error, without the path. It speaks of the file, not of the system."""
    number = getattr(error, "errno", None)
    if number in REASONS:
        return REASONS[number]
    return (getattr(error, "strerror", None) or str(error)).rstrip(".").lower()
