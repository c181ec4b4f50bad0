"""The names whose rows leave a result: those of gone videos, with ``--prune``, and the old names of moved videos."""

from collections.abc import Collection, Set
from dataclasses import dataclass

import pyarrow as pa

from jobs.archive.folders import Folders
from jobs.archive.gone import find_absent, find_gone, still_gone


@dataclass(frozen=True)
class Pruning:
    """The names whose rows leave a result.

    ``gone`` are the names of the videos that ``--prune`` removes, ``moved`` the old names of moved videos, and
    ``others`` all other names. ``unknown`` is the number of videos that are not in the inputs and stay, because they
    are not certainly gone (see ``jobs.archive.gone``).
    """

    gone: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()
    others: frozenset[str] = frozenset()
    unknown: int = 0

    def again(self) -> "Pruning":
        """Returns the same without the videos that came back: tagging may take days."""
        gone, moved = tuple(still_gone(self.gone)), tuple(find_absent(self.moved))
        others = self.others.union(self.gone, self.moved).difference(gone, moved)
        return Pruning(gone, moved, others, self.unknown + len(self.gone) - len(gone))

    @property
    def keep(self) -> pa.Array | None:
        """The names of the videos that stay in the result; None for all."""
        return pa.array(sorted(self.others), pa.string()) if self.gone or self.moved else None


def find_pruning(
    recorded: Set[str], listed: Set[str], moved: Collection[str], gone_count: int, folders: Folders
) -> Pruning:
    """Returns the names that leave a result of the ``recorded`` names.

    ``listed`` are the names in the inputs, and ``folders`` the folders that were listed. ``moved`` are the old names of
    moved videos. ``gone_count`` is the number of other recorded videos that are not at their places, or not in the
    inputs; 0 keeps all of them.
    """
    gone = find_gone(sorted(recorded - listed - frozenset(moved)), folders) if gone_count else []
    others = frozenset(listed | recorded).difference(gone, moved) if gone or moved else frozenset()
    return Pruning(tuple(gone), tuple(moved), others, gone_count - len(gone))
