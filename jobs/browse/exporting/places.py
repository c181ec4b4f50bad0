"""Where the file of each video goes: in a folder that mirrors the folders of the archive, or beside the video."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from jobs.archive.video import video_path
from jobs.storage.address import is_address


@dataclass(frozen=True)
class Mirror:
    """The folders of an archive, below the deepest one that has all its videos.

    ``root`` are the parts of that folder. ``names`` are the paths below it that two videos could claim: with an ending
    of their own, ``a.mp4`` and ``a.mkv`` would both become ``a.srt``.
    """

    root: tuple[str, ...]
    names: Counter[str] = field(repr=False)

    def inside(self, video: str) -> PurePosixPath:
        """Returns the path of a video below the common folder."""
        return PurePosixPath(*_parts(video)[len(self.root) :])

    def target(self, video: str, ending: str, *, keeps_name: bool = False) -> PurePosixPath:
        """Returns the path of the file of a video, such as ``2024/a.srt`` for ``2024/a.mp4``.

        It is ``2024/a.mp4.srt`` with ``keeps_name``, or if another video could claim the shorter name.
        """
        path = self.inside(video)
        is_shared = self.names[str(path.parent / _stem(path.name))] > 1
        return path.with_name((path.name if keeps_name or is_shared else _stem(path.name)) + ending)


def mirror_of(videos: Iterable[str]) -> Mirror:
    """Returns the mirror of an archive with these videos, named as in a result."""
    root: tuple[str, ...] | None = None
    names: Counter[str] = Counter()
    for video in videos:
        parts = _parts(video)
        root = parts[:-1] if root is None else _shared(root, parts[:-1])
        path = PurePosixPath(*parts)
        names.update({str(path), str(path.parent / _stem(path.name))})
    start = len(root or ())
    below = Counter({str(PurePosixPath(*PurePosixPath(name).parts[start:])): n for name, n in names.items() if n > 1})
    return Mirror(root or (), below)


def _parts(video: str) -> tuple[str, ...]:
    """Returns the folders and the name of a video. Parts of an address that are no names of folders get a ``_``."""
    path = video_path(video)
    if not is_address(path):
        return PurePosixPath(path.lstrip("/")).parts
    scheme, _, rest = path.partition("://")
    return (scheme, *(f"_{part}" if part in ("", ".", "..") else part for part in rest.split("/")))


def _stem(name: str) -> str:
    """Returns the name of a file without its ending; the whole name if it is ``..a``, which would become ``.``."""
    stem = PurePosixPath(name).stem
    return name if stem in (".", "..") else stem


def _shared(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    for number, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return first[:number]
    return min(first, second, key=len)
