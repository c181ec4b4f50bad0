"""Leave one group out: a model for each group, trained on the others. UCF-11's own protocol, with its 25 groups."""

from dataclasses import dataclass

from tagger.errors import DataSetError
from training.data.data_set import DataSet
from training.data.scenes import find_folds
from training.data.splits import Split, split_by_group


@dataclass(frozen=True)
class Fold:
    """The groups that are left out, by name, and the split: they are the test; validation is taken from the others.

    Folds are numbered from 1.
    """

    number: int
    groups: tuple[str, ...]
    split: Split

    @property
    def name(self) -> str:
        """The groups in one word."""
        return "+".join(self.groups)


def leave_one_group_out(data: DataSet, *, seed: int = 0) -> tuple[Fold, ...]:
    """The folds of ``data``: groups of the same name in all classes are left out together.

    Raises DataSetError when nothing tells which clips belong together, and when a fold leaves a class without groups
    for training and validation.
    """
    if set(data.grouped_by) == {"file"}:
        raise DataSetError(f"{data.root} has no groups to leave out: nothing tells which of its clips belong together")
    return tuple(
        Fold(number, groups, split_by_group(data, seed=seed, test_groups=groups, every_class_tested=False))
        for number, groups in enumerate(find_folds(data), 1)
    )
