"""The folders that a listing went through: those that it listed, and those that it could not list."""

from collections import Counter
from dataclasses import dataclass, field

from jobs.archive.rules import extension_of


@dataclass(frozen=True)
class FolderProblem:
    """A folder that could not be listed, and the reason."""

    path: str
    reason: str


@dataclass
class Folders:
    """A record that a listing fills: the folders below its inputs.

    ``listed`` are the folders that were listed without an error and are not empty. An empty folder is left out, because
    it may be the mount point of a disk that is not mounted. ``problems`` are the folders that could not be listed.
    ``left_out`` counts the files that were left out because of their extension, by extension.
    """

    listed: set[str] = field(default_factory=set)
    problems: list[FolderProblem] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def leave_out(self, name: str) -> None:
        """Counts a file that is left out because of its extension."""
        self.left_out[extension_of(name)] += 1
