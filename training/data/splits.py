"""Splits of a data set into training, validation and test: by group, by a given list, or at random."""

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tagger.errors import DataSetError
from training.data.data_set import PARTS, DataSet, GroupKey, LabelledClip, Part
from training.data.scenes import Scene, find_scenes

VAL_SHARE, TEST_SHARE = 0.15, 0.2
"""Default shares of the groups for validation and test."""


@dataclass(frozen=True)
class Split:
    """The clips for training, validation and test. They share no group, except in a split at random.

    ``dropped_copies`` are clips that were left out of training or validation, because the file or a copy of it is also
    in validation or test. ``unlisted`` clips are in none of the lists that define the split. ``drawn`` are the parts
    for which a given split had no clips, so that some groups for training were drawn.
    """

    train: tuple[LabelledClip, ...]
    val: tuple[LabelledClip, ...]
    test: tuple[LabelledClip, ...]
    dropped_copies: tuple[LabelledClip, ...] = ()
    unlisted: tuple[LabelledClip, ...] = ()
    drawn: tuple[Part, ...] = ()

    def groups(self, part: str) -> dict[str, list[str]]:
        """Returns the groups of ``part`` ("train", "val" or "test") by label, as a model file stores them."""
        clips: tuple[LabelledClip, ...] = getattr(self, part)
        labels = sorted({clip.label for clip in clips})
        return {label: sorted({clip.group for clip in clips if clip.label == label}) for label in labels}


def split_by_group(
    data: DataSet,
    *,
    seed: int = 0,
    val_share: float = VAL_SHARE,
    test_share: float = TEST_SHARE,
    val_groups: Collection[str] | None = None,
    test_groups: Collection[str] | None = None,
    every_class_tested: bool = True,
) -> Split:
    """Splits the groups of every class, so that each class has its share in each part.

    Groups that belong together (see ``find_scenes``) stay together. ``val_groups`` and ``test_groups`` name groups
    explicitly, the same for all classes (UCF numbers them). The share of that part then applies only to videos that
    were added as background. Raises DataSetError when a class would be missing from a part; without
    ``every_class_tested`` it may be missing from the test.
    """
    named = {*(val_groups or ()), *(test_groups or ())}
    both = set(val_groups or ()) & set(test_groups or ())
    if both:
        raise DataSetError(f"groups {', '.join(sorted(both))} are named for both validation and test; choose one")
    unknown = named - {clip.group for clip in data.clips}
    if unknown:
        raise DataSetError(f"there are no groups {', '.join(sorted(unknown))} in {data.root}")
    part_of: dict[GroupKey, Part] = {
        clip.key: "test" if clip.group in (test_groups or ()) else "val" for clip in data.clips if clip.group in named
    }
    scenes = _scenes_by_label(data, find_scenes(data, assigned=part_of), seed)
    background = {clip.key for clip in data.clips if clip.grouped_by == "background"}
    for label_scenes in scenes:
        is_background = all(background.intersection(scene) for scene in label_scenes)
        draws_test, draws_val = test_groups is None or is_background, val_groups is None or is_background
        if draws_test:
            _assign(part_of, label_scenes, "test", test_share, reserve=2 if draws_val else 1)
        if draws_val:
            _assign(part_of, label_scenes, "val", val_share, reserve=1)
    required: tuple[Part, ...] = PARTS if every_class_tested else ("train", "val")
    return _split(data, {clip: part_of.get(clip.key, "train") for clip in data.clips}, required)


def split_as_given(
    data: DataSet,
    parts: Mapping[LabelledClip, Part],
    *,
    seed: int = 0,
    val_share: float = VAL_SHARE,
    test_share: float = TEST_SHARE,
) -> Split:
    """Splits by ``parts``, which comes from a manifest, folders or official lists; all other clips are ``unlisted``.

    When ``parts`` has no validation or no test clips beside the background, a share of the training groups becomes that
    part. Raises DataSetError when ``parts`` divides a group, when a part has no clips, or when a class has no clips for
    training.
    """
    part_of: dict[GroupKey, Part] = {}
    trained = {clip.label for clip, part in parts.items() if part == "train"}
    for clip, part in parts.items():
        if clip.label not in trained:
            raise DataSetError(
                f"class {clip.label!r} has clips for {part}, but none for train; add some, or leave the class out with "
                "--leave-out"
            )
        before = part_of.setdefault(clip.key, part)
        if part != before:
            raise DataSetError(
                f"the split divides group {clip.group} of {clip.label} between {before} and {part}; keep each group in "
                "one part, or draw another split with --split holdout"
            )
    labelled = {clip: part for clip, part in parts.items() if clip.grouped_by != "background"}
    shares: dict[Part, float] = {"test": test_share, "val": val_share}
    drawn = tuple(part for part in shares if part not in labelled.values())
    part_of = {key: part for key, part in part_of.items() if part != "train"}
    training_data = replace(data, clips=tuple(clip for clip in data.clips if labelled.get(clip) == "train"))
    for label_scenes in _scenes_by_label(training_data, find_scenes(training_data), seed):
        for reserve, part in zip(range(len(drawn), 0, -1), drawn, strict=True):
            # A class with few groups keeps them for training.
            if sum(scene[0] not in part_of for scene in label_scenes) > reserve:
                _assign(part_of, label_scenes, part, shares[part], reserve=reserve)
    clips = {clip: part_of.get(clip.key, "train") for clip in data.clips if clip in parts}
    return replace(_split(data, clips, PARTS[:1]), drawn=drawn)


def split_at_random(
    data: DataSet, *, seed: int = 0, val_share: float = VAL_SHARE, test_share: float = TEST_SHARE
) -> Split:
    """Splits the clips of every class at random and ignores their groups, so that training and test share scenes.

    Used to show by how much a random split overstates the scores. Raises DataSetError when a class has fewer than three
    clips.
    """
    parts: dict[LabelledClip, Part] = {}
    for label in data.labels:
        clips = [clip for clip in data.clips if clip.label == label]
        random.Random(f"{seed}/{label}").shuffle(clips)
        test = _quota(len(clips), test_share, len(clips), reserve=2)
        val = _quota(len(clips), val_share, len(clips) - test, reserve=1)
        parts |= {clip: "test" if i < test else "val" if i < test + val else "train" for i, clip in enumerate(clips)}
    chosen = {part: tuple(clip for clip in data.clips if parts[clip] == part) for part in PARTS}
    _check(data, chosen, PARTS, unit="clip")
    return Split(train=chosen["train"], val=chosen["val"], test=chosen["test"])


def select_groups(data: DataSet, groups: Mapping[str, Sequence[str]]) -> tuple[LabelledClip, ...]:
    """Returns the clips of ``data`` in the given groups of each label, as a model file stores them."""
    wanted = {(label, group) for label, names in groups.items() for group in names}
    return tuple(clip for clip in data.clips if (clip.label, clip.group) in wanted)


def _scenes_by_label(data: DataSet, scenes: Mapping[GroupKey, Scene], seed: int) -> list[list[Scene]]:
    """Returns the scenes of each label, shuffled.

    Labels with few scenes come first, so that labels with many do not use up the scenes that both share.
    """
    by_label = []
    for label in data.labels:
        groups = sorted({clip.group for clip in data.clips if clip.label == label})
        # Each class has its own stream of random numbers: adding a class does not change the split of the others.
        random.Random(f"{seed}/{label}").shuffle(groups)
        by_label.append(list(dict.fromkeys(scenes[label, group] for group in groups)))
    return sorted(by_label, key=len)


def _assign(part_of: dict[GroupKey, Part], scenes: Sequence[Scene], part: Part, share: float, *, reserve: int) -> None:
    """Assigns scenes of a label to ``part`` until it has its share, counting those that it has already."""
    free = [scene for scene in scenes if scene[0] not in part_of]
    has = sum(part_of.get(scene[0]) == part for scene in scenes)
    for scene in free[: max(0, _quota(len(scenes), share, has + len(free), reserve) - has)]:
        part_of.update(dict.fromkeys(scene, part))


def _quota(total: int, share: float, available: int, reserve: int) -> int:
    """Returns a share of ``total``. Leaves ``reserve`` of the available ones, but returns at least one."""
    return max(1, min(round(total * share), available - reserve))


def _split(data: DataSet, parts: Mapping[LabelledClip, Part], required: Collection[Part]) -> Split:
    """Builds the split of ``parts``.

    Leaves out training clips whose file is also in validation or test, and validation clips whose file is also in test.
    A copy counts as the same file.
    """
    copies_of = {path: paths for paths in data.identical for path in paths}
    # The files of each part, and their copies.
    copies: dict[Part, set[Path]] = {}
    for part in PARTS:
        files = {clip.path for clip, where in parts.items() if where == part}
        copies[part] = files | {copy for path in files for copy in copies_of.get(path, ())}
    excluded = {"train": copies["val"] | copies["test"], "val": copies["test"], "test": set()}
    chosen = {
        part: tuple(c for c in data.clips if parts.get(c) == part and c.path not in excluded[part]) for part in PARTS
    }
    _check(data, chosen, required)
    return Split(
        train=chosen["train"],
        val=chosen["val"],
        test=chosen["test"],
        dropped_copies=tuple(clip for clip, part in parts.items() if clip.path in excluded[part]),
        unlisted=tuple(clip for clip in data.clips if clip not in parts),
    )


def _check(
    data: DataSet, chosen: Mapping[Part, Sequence[LabelledClip]], required: Collection[Part], *, unit: str = "group"
) -> None:
    """Raises DataSetError when a part has no clips, or when one of the ``required`` parts lacks a class."""
    for part, clips in chosen.items():
        missing = set(data.labels) - {clip.label for clip in clips}
        if missing and part in required:
            raise DataSetError(
                f"class {sorted(missing)[0]!r} has no clips left for {part}: it needs at least one {unit} each for "
                "training, validation and test; add clips, or leave the class out with --leave-out"
            )
        if not clips:
            raise DataSetError(f"the split leaves no clips for {part}")
