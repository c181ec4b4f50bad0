"""The file of a clip while it is written, and the errors of writing it."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import av
from av.error import FFmpegError

from jobs.storage.room import FULL
from tagger.errors import VideoError
from tagger.video.container import ffmpeg_reason

if TYPE_CHECKING:
    from av.container import OutputContainer

FORMATS = {"mkv": "matroska"}
"""FFmpeg's names of formats that are not their usual endings."""


def open_clip(target: Path | BinaryIO, ending: str) -> "OutputContainer":
    """Opens a file for a clip. Its format is that of ``ending``, such as ``mp4``, whatever the name of ``target``."""
    file = str(target) if isinstance(target, Path) else target
    return av.open(file, "w", format=FORMATS.get(ending, ending))


@contextlib.contextmanager
def errors_of(path: Path, target: Path, work: str = "cut") -> Iterator[None]:
    """Turns errors of FFmpeg and of reading into VideoError, which says that ``path`` cannot be ``work``.

    That of a full disk stays an OSError, with the target.
    """
    try:
        yield
    except (FFmpegError, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise OSError(error.errno, os.strerror(error.errno), str(target)) from error
        raise VideoError("damaged", f"{path} cannot be {work} ({ffmpeg_reason(error)})") from error
