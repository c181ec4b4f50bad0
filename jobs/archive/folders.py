"""The folders that a listing went through: those that it listed, and those that it could not list."""

from dataclasses import dataclass, field


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
    """

    listed: set[str] = field(default_factory=set)
    problems: list[FolderProblem] = field(default_factory=list)
