"""The folders that a listing went through: those that it listed, and those that it could not list."""

from collections import Counter
from dataclasses import dataclass, field

from jobs.archive.rules import extension_of


@dataclass(frozen=True)
class FolderProblem:
    """A folder, or an entry of one, that could not be looked at, and the reason."""

    path: str
    reason: str


@dataclass
class Folders:
    """A record that a listing fills: the folders below its inputs.

    ``with_videos`` are the folders that were listed without an error and gave a video. A folder without any video is
    left out, because it may be the mount point of a disk that is not mounted. ``left_out`` counts the files that are
    not videos, by extension.
    """

    with_videos: set[str] = field(default_factory=set)
    left_out: Counter[str] = field(default_factory=Counter)
    _problems: dict[str, str] = field(default_factory=dict)
    _entered: set[str] = field(default_factory=set)

    @property
    def problems(self) -> list[FolderProblem]:
        """The folders that could not be listed."""
        return [FolderProblem(path, reason) for path, reason in self._problems.items()]

    def enter(self, folder: str) -> bool:
        """Notes that a folder is listed. Returns whether it is for the first time: inputs may overlap."""
        is_first = folder not in self._entered
        self._entered.add(folder)
        return is_first

    def fail(self, path: str, reason: str) -> None:
        """Notes that a folder could not be listed."""
        self._problems.setdefault(path, reason)

    def leave_out(self, name: str) -> None:
        """Counts a file that is not a video."""
        self.left_out[extension_of(name)] += 1
