"""Plans the splits of a data set before training."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tagger.errors import DataSetError
from training.data.background import add_background
from training.data.data_set import PARTS, DataSet, LabelledClip, Part, leave_out
from training.data.duplicates import find_identical
from training.data.folds import Fold, leave_one_group_out
from training.data.reading import read_data_set
from training.data.splits import Split, split_as_given, split_at_random, split_by_group
from training.data.ucf import read_split_lists

SplitName = Literal["holdout", "logo", "random"]
"""``holdout`` draws groups, ``logo`` leaves one group out in each fold, ``random`` ignores groups."""


@dataclass(frozen=True)
class TrainingPlan:
    """The splits of a training.

    ``split`` is the split on which the model file is trained. It is None when there are ``folds`` instead, with a model
    for each, or when no model is trained. ``given_split`` is the file or the folders that define the split, None when
    groups were drawn; ``absent`` is the number of clips in the file that are not in the data set. ``leaking`` is a
    split at random, whose scores are shown beside those of ``split``.
    """

    data: DataSet
    split: Split | None = None
    given_split: str | None = None
    absent: int = 0
    leaking: Split | None = None
    folds: tuple[Fold, ...] = ()


def read_labelled(root: Path, *, without: Collection[str] = (), background: Path | None = None) -> DataSet:
    """Reads the data set at ``root`` and finds copies among its files.

    Leaves out the classes ``without``. Adds the videos in the folder ``background`` as a class of that name. Raises
    DataSetError.
    """
    # Absolute paths, because other machines and decoder processes have another current folder.
    data = read_data_set(root.absolute())
    if without:
        data = leave_out(data, without)
    if background is not None:
        data = add_background(data, background.absolute())
    return find_identical(data)


def plan_training(
    data: DataSet,
    split: SplitName | Path | None = None,
    *,
    seed: int = 0,
    val_groups: Collection[str] | None = None,
    test_groups: Collection[str] | None = None,
) -> TrainingPlan:
    """Plans the splits of ``data``.

    ``split`` is a name, or the path of an official list (see ``read_split_lists``). None is the split of the manifest
    or of the folders, or ``holdout`` when there is none. These and the lists do not have the videos that were added as
    background: their parts are drawn. Raises DataSetError.
    """
    if isinstance(split, Path):
        listed = read_split_lists(split, data)
        given = split_as_given(data, {**listed.parts, **_background_parts(data, seed)}, seed=seed)
        return TrainingPlan(data, given, split.name, listed.absent)
    if split == "logo":
        if "background" in data.grouped_by:
            raise DataSetError("--split logo leaves out groups of the classes of DATA; --background has none of them")
        return TrainingPlan(data, folds=leave_one_group_out(data, seed=seed))
    if split is None and data.given_split:
        if val_groups or test_groups:
            raise DataSetError(
                f"{data.root} is split already, as in {data.given_split}; --val-groups and --test-groups are for "
                "--split holdout, which draws another split"
            )
        parts = {clip: clip.part for clip in data.clips if clip.part}
        given = split_as_given(data, {**parts, **_background_parts(data, seed)}, seed=seed)
        return TrainingPlan(data, given, data.given_split)
    leaking = split_at_random(data, seed=seed) if split == "random" else None
    by_group = split_by_group(data, seed=seed, val_groups=val_groups, test_groups=test_groups)
    return TrainingPlan(data, by_group, leaking=leaking)


def _background_parts(data: DataSet, seed: int) -> dict[LabelledClip, Part]:
    """Draws the parts of the videos that were added as background, which lists and manifests do not have."""
    clips = tuple(clip for clip in data.clips if clip.grouped_by == "background")
    if not clips:
        return {}
    split = split_by_group(replace(data, clips=clips), seed=seed)
    return {clip: part for part in PARTS for clip in getattr(split, part)}
