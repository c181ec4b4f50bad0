"""What a video says about itself, read from its headers and its first frame."""

import errno
import stat
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av

from tagger.errors import ErrorKind, VideoError
from tagger.video.truncation import is_truncated


@dataclass(frozen=True)
class VideoFacts:
    """Facts from the container and the first video stream.

    ``width`` and ``height`` are those of the upright picture; ``rotation`` is the clockwise turn in degrees that makes
    it upright. ``duration_s`` is what the file declares, None when it does not, and is replaced by what was found once
    the video has been read. ``frames`` is the declared frame count, 0 when unknown. ``time_base_s``
    is one tick of the stream's clock. ``is_truncated`` tells that the file ends before the end that it declares.
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


def check_file(path: Path) -> None:
    """Raises VideoError for a path that cannot be read as a file at all."""
    try:
        # Asked first, because opening a pipe waits for its writer.
        if not stat.S_ISREG(path.stat().st_mode):
            raise VideoError("not_video", f"{path} is not a regular file")
        with path.open("rb") as file:
            if not file.read(1):
                raise VideoError("empty", f"{path} is empty (0 bytes)")
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


def open_container(path: Path) -> "tuple[av.container.InputContainer, av.video.stream.VideoStream]":
    """Opens ``path`` with PyAV and returns the container and its first video stream; raises VideoError."""
    check_file(path)
    try:
        # An absolute path, because FFmpeg takes ``12:30.mp4`` for a protocol called 12. Metadata may be in any
        # encoding. FFmpeg itself keeps a playlist in a file from opening anything but files; saying so again with the
        # option protocol_whitelist makes PyAV 17.0 crash on MPEG streams.
        container = av.open(str(path.absolute()), metadata_errors="replace")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise VideoError(
            "not_video", f"{path} is not a video that FFmpeg recognises ({ffmpeg_reason(error)})"
        ) from error
    is_picture = container.format.name.endswith("_pipe") or container.format.name == "image2"
    # The cover of a piece of music is a video stream, too.
    streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    problem: VideoError | None = None
    if is_picture or not streams:
        problem = VideoError("no_video_stream", f"{path} {'is a picture' if is_picture else 'has no video stream'}")
    elif streams[0].codec_context is None:
        problem = VideoError("unsupported", f"{path}: FFmpeg has no decoder for its codec")
    if problem is not None:
        container.close()
        raise problem
    # The job runs one decoder per core; more threads only add switching.
    streams[0].codec_context.thread_count = 1
    return container, streams[0]


def probe(path: str | Path) -> VideoFacts:
    """Reads the facts of a video: opens it and decodes one frame. Raises VideoError."""
    path = Path(path)
    container, stream = open_container(path)
    with container:
        frame = _first_frame(container, stream, path)
        # FFmpeg's display matrix counts counter-clockwise turns.
        rotation = -frame.rotation % 360
        width, height = (frame.height, frame.width) if rotation in (90, 270) else (frame.width, frame.height)
        time_base: Fraction = stream.time_base or Fraction(1, av.time_base)
        if stream.duration is not None:
            duration_s = float(stream.duration * time_base)
        elif container.duration is not None:
            duration_s = container.duration / av.time_base
        else:
            duration_s = None
        with path.open("rb") as file:
            head = file.read(64)
        # Samples lie in file order, so the last few entries tell.
        entries = stream.index_entries
        index_tail = [entries[i] for i in range(max(0, len(entries) - 8), len(entries))]
        return VideoFacts(
            container=_container_name(container.format.name, path),
            codec=stream.codec_context.name,
            width=width,
            height=height,
            fps=float(stream.average_rate) if stream.average_rate else None,
            duration_s=duration_s,
            frames=stream.frames,
            start_s=float((stream.start_time or 0) * time_base),
            time_base_s=float(time_base),
            rotation=rotation,
            is_truncated=is_truncated(head, index_tail, container.size),
        )


def _first_frame(
    container: "av.container.InputContainer", stream: "av.video.stream.VideoStream", path: Path
) -> "av.VideoFrame":
    try:
        for frame in container.decode(stream):
            return frame
    except (av.error.FFmpegError, ValueError) as error:
        if isinstance(error, av.error.DecoderNotFoundError):
            raise VideoError("unsupported", f"{path}: FFmpeg has no decoder for its codec") from error
        raise VideoError("damaged", f"{path} cannot be decoded ({ffmpeg_reason(error)})") from error
    raise VideoError("damaged", f"{path} has a video stream but no frame can be decoded from it")


def _container_name(names: str, path: Path) -> str:
    """``mp4`` out of FFmpeg's ``mov,mp4,m4a,3gp,3g2,mj2``: the file's own ending when it is one of them."""
    known = names.split(",")
    ending = path.suffix.lower().lstrip(".").replace("mkv", "matroska")
    return ending if ending in known else known[0]


def ffmpeg_reason(error: Exception) -> str:
    """FFmpeg's own words for an error, without the path."""
    return (getattr(error, "strerror", None) or str(error)).rstrip(".").lower()
