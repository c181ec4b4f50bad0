"""Leave-one-group-out: each group is the test set of a model that is trained on the others.

This is the protocol of UCF-11, which has 25 groups.
"""

from dataclasses import dataclass

from tagger.errors import DataSetError
from training.data.data_set import DataSet
from training.data.scenes import find_folds
from training.data.splits import Split, split_by_group


@dataclass(frozen=True)
class Fold:
    """The names of the groups that are left out, and the split.

    These groups are the test set. The validation groups are drawn from the others. Folds are numbered from 1.
    """

    number: int
    groups: tuple[str, ...]
    split: Split

    @property
    def name(self) -> str:
        """The names of the groups, joined by ``+``."""
        return "+".join(self.groups)


def leave_one_group_out(data: DataSet, *, seed: int = 0) -> tuple[Fold, ...]:
    """Returns the folds of ``data``. Groups of the same name in different classes are left out together.

    Raises DataSetError when the clips have no group information, and when a fold leaves a class without groups for
    training and validation.
    """
    if set(data.grouped_by) == {"file"}:
        raise DataSetError(f"{data.root} has no groups to leave out: nothing tells which of its clips belong together")
    return tuple(
        Fold(number, groups, split_by_group(data, seed=seed, test_groups=groups, every_class_tested=False))
        for number, groups in enumerate(find_folds(data), 1)
    )
