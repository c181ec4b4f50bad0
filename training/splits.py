"""Splits of a data set into training, validation and test: by group, never by clip."""

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from tagger.errors import DataSetError
from training.data_set import DataSet, LabelledClip


@dataclass(frozen=True)
class Split:
    """Three sets of clips that share no group."""

    train: tuple[LabelledClip, ...]
    val: tuple[LabelledClip, ...]
    test: tuple[LabelledClip, ...]

    def groups(self, part: str) -> dict[str, list[str]]:
        """The groups of ``part`` ("train", "val" or "test") for each label: what a model file remembers."""
        clips: tuple[LabelledClip, ...] = getattr(self, part)
        labels = sorted({clip.label for clip in clips})
        return {label: sorted({clip.group for clip in clips if clip.label == label}) for label in labels}


def split_by_group(
    data: DataSet,
    *,
    seed: int = 0,
    val_share: float = 0.15,
    test_share: float = 0.2,
    val_groups: Collection[str] | None = None,
    test_groups: Collection[str] | None = None,
) -> Split:
    """Splits the groups of every class, so that each class has its share in each part.

    ``val_groups`` and ``test_groups`` name groups explicitly, the same for all classes (UCF numbers them); the shares
    then do not apply to that part. Raises DataSetError when a class would be missing from a part.
    """
    named = {*(val_groups or ()), *(test_groups or ())}
    both = set(val_groups or ()) & set(test_groups or ())
    if both:
        raise DataSetError(f"groups {', '.join(sorted(both))} are named for both validation and test; choose one")
    unknown = named - {clip.group for clip in data.clips}
    if unknown:
        raise DataSetError(f"there are no groups {', '.join(sorted(unknown))} in {data.root}")
    part_of: dict[tuple[str, str], str] = {}
    for label in data.labels:
        groups = sorted({clip.group for clip in data.clips if clip.label == label})
        # Each class has its own stream of random numbers: adding a class leaves the others as they were.
        random.Random(f"{seed}/{label}").shuffle(groups)
        free = [group for group in groups if group not in named]
        test = _part(free, test_groups, groups, test_share, leave=2 if val_groups is None else 1)
        free = [group for group in free if group not in test]
        val = _part(free, val_groups, groups, val_share, leave=1)
        for group in groups:
            part_of[label, group] = "test" if group in test else "val" if group in val else "train"
    parts: dict[str, list[LabelledClip]] = {"train": [], "val": [], "test": []}
    for clip in data.clips:
        parts[part_of[clip.label, clip.group]].append(clip)
    split = Split(tuple(parts["train"]), tuple(parts["val"]), tuple(parts["test"]))
    for name, clips in parts.items():
        missing = set(data.labels) - {clip.label for clip in clips}
        if missing:
            raise DataSetError(
                f"class {sorted(missing)[0]!r} has no clips left for {name}: it needs at least one group each for "
                "training, validation and test; add clips or name the groups with --val-groups and --test-groups"
            )
    return split


def select_groups(data: DataSet, groups: Mapping[str, Sequence[str]]) -> tuple[LabelledClip, ...]:
    """The clips of ``data`` that belong to the given groups of each label, as a model file remembers them."""
    wanted = {(label, group) for label, names in groups.items() for group in names}
    return tuple(clip for clip in data.clips if (clip.label, clip.group) in wanted)


def _part(free: list[str], named: Collection[str] | None, groups: list[str], share: float, leave: int) -> set[str]:
    """The named groups, or a share of all groups out of the free ones, of which at least ``leave`` must be left."""
    if named is not None:
        return {group for group in groups if group in named}
    return set(free[: max(1, min(round(len(groups) * share), len(free) - leave))])
