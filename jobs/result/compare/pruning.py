"""The names whose rows leave a result: those of gone videos, with ``--prune``, and the old names of moved videos."""

from dataclasses import dataclass, field

import pyarrow as pa

from jobs.archive.folders import Folders
from jobs.archive.gone import chosen_names, find_absent, find_gone, still_gone
from jobs.result.compare.runs import find_names, joined_names, no_names, sorted_names


@dataclass(frozen=True)
class Pruning:
    """The names whose rows leave a result, as large_string arrays.

    ``gone`` are the names of the videos that ``--prune`` removes, sorted, and ``moved`` the old names of moved videos.
    ``unknown`` is the number of videos that are not in the inputs and stay, because they are not certainly gone (see
    ``jobs.archive.gone``). ``undecided`` are names of videos that have been moved or are certainly gone.
    """

    gone: pa.Array = field(default_factory=no_names)
    moved: pa.Array = field(default_factory=no_names)
    unknown: int = 0
    undecided: pa.Array = field(default_factory=no_names)

    def again(self) -> "Pruning":
        """Returns the same without the videos that came back: tagging may take days."""
        gone, moved = chosen_names(self.gone, still_gone), chosen_names(self.moved, find_absent)
        return Pruning(gone, moved, self.unknown + len(self.gone) - len(gone))

    def settled(self, moved: pa.Array, gone_count: int) -> "Pruning":
        """Returns the same after it is known which videos were ``moved``.

        ``gone_count`` is that of ``find_pruning``, without the moved videos.
        """
        undecided = sorted_names(self.undecided)
        are_left = find_names(undecided, [sorted_names(moved)]) < 0
        gone = sorted_names(self.gone, undecided.filter(pa.array(are_left)))
        return Pruning(gone, joined_names(self.moved, moved), gone_count - len(gone))

    @property
    def drop(self) -> pa.Array:
        """The names whose rows leave the result, sorted."""
        return sorted_names(self.gone, self.moved)


def find_pruning(
    not_listed: pa.Array, undecided: pa.Array, moved: pa.Array, gone_count: int, folders: Folders
) -> Pruning:
    """Returns the names that leave a result when gone videos are removed.

    ``not_listed`` are the recorded names that are not in the inputs, without the ``undecided`` ones, which may have
    been moved, and the ``moved`` ones. ``gone_count`` is the number of recorded videos that are not at their places, or
    not in the inputs. ``folders`` are the folders that were listed.
    """

    def are_gone(names: list[str]) -> list[str]:
        return find_gone(names, folders)

    gone = chosen_names(sorted_names(not_listed), are_gone)
    return Pruning(gone, moved, gone_count - len(gone), chosen_names(undecided, are_gone))
