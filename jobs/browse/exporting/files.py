"""Writes exports: one file, or a file for each video. A video whose file cannot be written does not stop the others."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jobs.archive.video import video_path
from jobs.browse.exporting.exported import ExportedVideo
from jobs.browse.exporting.places import Mirror
from jobs.errors import reason
from jobs.storage.address import is_address
from jobs.storage.location import Location, locate
from jobs.storage.room import FULL
from tagger.errors import OutputError, VideoError

REPLACE = "--overwrite replaces it"


@dataclass(frozen=True)
class Written:
    """A file that was written, with a number of ``spans``."""

    file: Path
    spans: int


@dataclass(frozen=True)
class Unwritten:
    """A video without a file, and why."""

    video: str
    reason: str


Write = Callable[[ExportedVideo, Path, str], None]
"""Writes the file of a video, with an ending such as ``.srt``, to a path that is put in place afterwards. Raises
VideoError."""


def write_text(text: Callable[[ExportedVideo], str]) -> Write:
    """Returns the function that writes the text of a video."""

    def write(video: ExportedVideo, path: Path, ending: str) -> None:
        path.write_text(text(video), "utf-8", newline="")

    return write


def write_one(out: Location, parts: Iterable[str], *, overwrite: bool) -> None:
    """Writes a text in parts to one file, atomically. A file that is there is replaced only with ``overwrite``.

    Raises OutputError.
    """
    if out.name.endswith(".parquet"):
        raise OutputError(f"--out {out} has the name of a result of vtag run; choose another name")
    if out.is_local and Path(out.path).is_dir():
        raise OutputError(f"--out {out} is a folder; give a file")
    if out.is_local and Path(out.path).exists() and not Path(out.path).is_file():
        raise OutputError(f"--out {out} is a device, a pipe or a socket; give a file, or omit --out to print the text")
    try:
        # The name of a local file may be no UTF-8.
        if not overwrite and (Path(out.path).exists() if out.is_local else out.is_file()):
            raise OutputError(f"--out {out} is there already; {REPLACE}")
        with out.atomic_write() as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            file.writelines(parts)
    except OSError as error:
        raise OutputError(f"--out {out} cannot be written: {reason(error)}") from error


def make_folder(folder: Path) -> None:
    """Creates a folder for files of videos. Raises OutputError."""
    if folder.is_file():
        raise OutputError(f"--out {folder} is a file; give a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"--out {folder} cannot be written: {reason(error)}") from error


def write_each(
    videos: Iterable[ExportedVideo], write: Write, place: Callable[[str], Path], *, overwrite: bool
) -> Iterator[Written | Unwritten]:
    """Writes the file of each video to its ``place``, atomically, and yields what became of it.

    A file that is there stays without ``overwrite``; a video is never replaced by its own copy. Raises OutputError when
    the disk is full, and JobError as ``write``.
    """
    for video in videos:
        target = None
        try:
            target = place(video.video)
            source = Path(video_path(video.video))
            if target.exists() and source.exists() and target.samefile(source):
                raise VideoError("unsupported", f"{target} is the video itself; choose another --out")
            if target.exists() and not overwrite:
                raise VideoError("unsupported", f"{target} is there already; {REPLACE}")
            target.parent.mkdir(parents=True, exist_ok=True)
            with locate(target).atomic_write() as temporary:
                write(video, temporary, target.suffix)
            yield Written(target, len(video.spans))
        except VideoError as error:
            yield Unwritten(video.video, str(error).removeprefix(f"{video.video}: ").removeprefix(f"{video.video} "))
        except OSError as error:
            if error.errno in FULL:
                raise OutputError(f"{error.filename or target} cannot be written: {reason(error)}") from error
            what = f"{video.video} cannot be reached" if target is None else f"{target} cannot be written"
            yield Unwritten(video.video, f"{what}: {reason(error)}")


def place_in(folder: Path, mirror: Mirror, ending: str | None, *, keeps_name: bool = False) -> Callable[[str], Path]:
    """Returns the function from a video to its file in ``folder``, which mirrors the folders of the archive.

    Without an ``ending``, the file has the name of the video.
    """
    if ending is None:
        return lambda video: folder / mirror.inside(video)
    return lambda video: folder / mirror.target(video, ending, keeps_name=keeps_name)


def place_beside(mirror: Mirror, ending: str, *, keeps_name: bool = False) -> Callable[[str], Path]:
    """Returns the function from a video to its file in the same folder.

    The function raises VideoError for an object in a bucket, and for a video that is not there: the disk of its folder
    may be one that is not mounted.
    """

    def beside(video: str) -> Path:
        path = video_path(video)
        if is_address(path):
            raise VideoError("unsupported", f"{video} is in a bucket, where nothing is written; use --out FOLDER")
        if not Path(path).exists():
            raise VideoError("missing", f"{video} does not exist")
        return Path(path).with_name(mirror.target(video, ending, keeps_name=keeps_name).name)

    return beside
