"""Opening a video file, and nothing else than that file."""

import errno
import os
import stat
from functools import cache
from pathlib import Path

import av
from av.codec.hwaccel import HWAccel

from tagger.errors import ErrorKind, VideoError
from tagger.video.playlists import REFERRING_FORMATS, playlist_name
from tagger.video.pyav_versions import TOLERANT

HEAD_BYTES = 16384
"""How much of the start of a file is looked at to tell what it is; in AVI the first frame comes after 6 KB or so."""

MAX_PIXELS = 2**26
"""Pixels of the largest picture that is decoded, 8192 × 8192; a frame takes 100 MB and a decoder holds several."""

MAX_ASPECT = 100
"""How many times longer than wide a picture may be: its shorter side becomes the size that the model wants."""

MAX_STREAMS = 250
"""Streams of the richest file that is opened; a recording of a whole television channel has some fifty."""


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


def open_container(
    path: Path, hwaccel: HWAccel | None = None
) -> "tuple[av.container.InputContainer, av.video.stream.VideoStream, bytes]":
    """Opens ``path`` with PyAV; returns the container, its first video stream and the first bytes of the file.

    Raises VideoError. Nothing but the file itself is ever opened: FFmpeg gets it as an open descriptor, so it sees no
    name to make a protocol (``12:30.mp4``) or a row of pictures (``%03d.jpg``) of, and what is opened from there may be
    of the protocols ``data`` and ``crypto`` only. Formats that refer to other files are refused besides. ``hwaccel`` is
    the device that decodes, if it is not a core of this machine.
    """
    descriptor, head = open_file(path)
    try:
        container = _open_descriptor(path, descriptor, head, hwaccel)
    finally:
        os.close(descriptor)  # FFmpeg has made its own copy.
    try:
        return container, _video_stream(container, path), head
    except VideoError:
        container.close()
        raise


def _open_descriptor(
    path: Path, descriptor: int, head: bytes, hwaccel: HWAccel | None
) -> "av.container.InputContainer":
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
        return _open(options, head, hwaccel)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        if getattr(error, "errno", None) == errno.ENOMEM:
            reason = f"{path} declares more than can be read, {MAX_STREAMS} streams or {MAX_PIXELS:,} pixels say"
            raise VideoError("unsupported", reason) from None
        raise VideoError(
            "not_video", f"{path} is not a video that FFmpeg recognises ({ffmpeg_reason(error)})"
        ) from error


def _open(options: dict[str, str], head: bytes, hwaccel: HWAccel | None) -> "av.container.InputContainer":
    try:
        return av.open("fd:", options=options, hwaccel=hwaccel, **TOLERANT)
    except av.error.FFmpegError:
        if b"moof" not in head:
            raise
    os.lseek(int(options["fd"]), 0, os.SEEK_SET)
    # A fragmented MP4 whose last fragment is cut off is refused for it, unless fragments are met one by one.
    return av.open("fd:", options=options | {"fflags": "ignidx"}, hwaccel=hwaccel, **TOLERANT)


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
        # Damage that a decoder notices ends the video; left alone, it would fill in what is missing.
        "err_detect": "crccheck+bitstream+buffer+explode",
    }
    # The job runs one decoder per core; more threads only add switching.
    stream.codec_context.thread_count = 1
    return stream


def ffmpeg_reason(error: Exception) -> str:
    """FFmpeg's own words for an error, without the path."""
    return (getattr(error, "strerror", None) or str(error)).rstrip(".").lower()
