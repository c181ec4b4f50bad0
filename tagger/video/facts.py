"""What a video says about itself, read without decoding it."""

import errno
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av

from tagger.errors import VideoError


@dataclass(frozen=True)
class VideoFacts:
    """Facts from the container and the first video stream.

    ``width`` and ``height`` are those of the upright picture; ``rotation`` is the clockwise turn in degrees that makes
    it upright. ``duration_s`` is what the file declares, None when it does not, and is replaced by what was found once
    the video has been read. ``frames`` is the declared frame count, 0 when unknown. ``time_base_s``
    is one tick of the stream's clock. ``is_truncated`` tells that the index points past the end of the file.
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
        with path.open("rb") as file:
            if not file.read(1):
                raise VideoError("empty", f"{path} is empty (0 bytes)")
    except FileNotFoundError:
        raise VideoError("missing", f"{path} does not exist") from None
    except PermissionError:
        raise VideoError("permission", f"{path} cannot be opened: permission denied") from None
    except OSError as error:
        kind = "missing" if error.errno in (errno.ENOENT, errno.ENOTDIR) else "damaged"
        raise VideoError(kind, f"{path} cannot be read: {error.strerror}") from error


def open_container(path: Path) -> "av.container.InputContainer":
    """Opens ``path`` with PyAV and returns a container that has a video stream; raises VideoError."""
    check_file(path)
    try:
        # Metadata may be in any encoding; only local files are ever opened.
        container = av.open(str(path), metadata_errors="replace", options={"protocol_whitelist": "file"})
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise VideoError("not_video", f"{path} is not a video that FFmpeg recognises ({_reason(error)})") from error
    if not container.streams.video:
        container.close()
        raise VideoError("no_video_stream", f"{path} has no video stream")
    return container


def probe(path: str | Path) -> VideoFacts:
    """Reads the facts of a video: opens it and decodes one frame. Raises VideoError."""
    path = Path(path)
    with open_container(path) as container:
        stream = container.streams.video[0]
        codec = stream.codec_context
        rotation = _rotation(container, stream, path)
        width, height = (codec.height, codec.width) if rotation in (90, 270) else (codec.width, codec.height)
        time_base: Fraction = stream.time_base or Fraction(1, av.time_base)
        if stream.duration is not None:
            duration_s = float(stream.duration * time_base)
        elif container.duration is not None:
            duration_s = container.duration / av.time_base
        else:
            duration_s = None
        return VideoFacts(
            container=_container_name(container.format.name, path),
            codec=codec.name,
            width=width,
            height=height,
            fps=float(stream.average_rate) if stream.average_rate else None,
            duration_s=duration_s,
            frames=stream.frames,
            start_s=float((stream.start_time or 0) * time_base),
            time_base_s=float(time_base),
            rotation=rotation,
            is_truncated=_is_truncated(stream, container.size),
        )


def _rotation(container: "av.container.InputContainer", stream: "av.video.stream.VideoStream", path: Path) -> int:
    """Clockwise degrees that make the picture upright. Only a decoded frame tells."""
    try:
        for frame in container.decode(stream):
            # FFmpeg's display matrix counts counter-clockwise turns.
            return -frame.rotation % 360
    except av.error.FFmpegError as error:
        if isinstance(error, av.error.DecoderNotFoundError):
            raise VideoError("unsupported", f"{path}: no decoder for its codec") from error
        raise VideoError("damaged", f"{path} cannot be decoded ({_reason(error)})") from error
    raise VideoError("damaged", f"{path} has a video stream but no frame can be decoded from it")


def _is_truncated(stream: "av.video.stream.VideoStream", size: int) -> bool:
    entries = stream.index_entries
    # Samples lie in file order, so the last few entries tell.
    tail = [entries[i] for i in range(max(0, len(entries) - 8), len(entries))]
    return any(entry.pos + entry.size > size for entry in tail)


def _container_name(names: str, path: Path) -> str:
    """``mp4`` out of FFmpeg's ``mov,mp4,m4a,3gp,3g2,mj2``: the file's own ending when it is one of them."""
    known = names.split(",")
    ending = path.suffix.lower().lstrip(".").replace("mkv", "matroska")
    return ending if ending in known else known[0]


def _reason(error: Exception) -> str:
    """FFmpeg's own words for an error, without the path."""
    return (getattr(error, "strerror", None) or str(error)).rstrip(".").lower()
