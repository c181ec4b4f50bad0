"""The names whose rows leave a result: those of gone videos, with ``--prune``, and the old names of moved videos."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import pyarrow as pa

from jobs.archive.folders import Folders
from jobs.archive.gone import find_absent, find_gone, still_gone


@dataclass(frozen=True)
class Pruning:
    """The names whose rows leave a result.

    ``gone`` are the names of the videos that ``--prune`` removes, and ``moved`` the old names of moved videos.
    ``unknown`` is the number of videos that are not in the inputs and stay, because they are not certainly gone (see
    ``jobs.archive.gone``). ``undecided`` are names of videos that have been moved or are certainly gone.
    """

    gone: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()
    unknown: int = 0
    undecided: tuple[str, ...] = ()

    def again(self) -> "Pruning":
        """Returns the same without the videos that came back: tagging may take days."""
        gone, moved = tuple(still_gone(self.gone)), tuple(find_absent(self.moved))
        return Pruning(gone, moved, self.unknown + len(self.gone) - len(gone))

    def settled(self, moved: Collection[str], gone_count: int) -> "Pruning":
        """Returns the same after it is known which videos were ``moved``.

        ``gone_count`` is that of ``find_pruning``, without the moved videos.
        """
        gone = tuple(sorted({*self.gone, *self.undecided}.difference(moved)))
        return Pruning(gone, (*self.moved, *moved), gone_count - len(gone))

    @property
    def drop(self) -> pa.Array:
        """The names whose rows leave the result, sorted."""
        return pa.array(sorted({*self.gone, *self.moved}), pa.string())


def find_pruning(
    not_listed: Iterable[str], undecided: Iterable[str], moved: Iterable[str], gone_count: int, folders: Folders
) -> Pruning:
    """Returns the names that leave a result when gone videos are removed.

    ``not_listed`` are the recorded names that are not in the inputs, without the ``undecided`` ones, which may have
    been moved, and the ``moved`` ones. ``gone_count`` is the number of recorded videos that are not at their places, or
    not in the inputs. ``folders`` are the folders that were listed.
    """
    gone = tuple(find_gone(sorted(not_listed), folders))
    return Pruning(gone, tuple(moved), gone_count - len(gone), tuple(find_gone(undecided, folders)))
