"""Splits never divide a group, and give every class its share."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagger import DataSetError
from training import DataSet, LabelledClip, split_as_given, split_at_random, split_by_group
from training.data.data_set import GroupedBy, Part
from training.data.splits import select_groups


def data_of(sizes: dict[str, list[int]]) -> DataSet:
    """Makes a data set with ``sizes[label][g]`` clips in group ``g`` of each label."""
    clips = tuple(
        LabelledClip(Path(f"/{label}/{group:02}/{clip}.mp4"), label, f"{group:02}", "folder")
        for label, groups in sizes.items()
        for group, count in enumerate(groups)
        for clip in range(count)
    )
    return DataSet(Path("/"), clips)


sizes = st.dictionaries(
    st.sampled_from("abcdef"), st.lists(st.integers(1, 4), min_size=3, max_size=12), min_size=2, max_size=5
)


@given(sizes, st.integers(0, 1000), st.floats(0.05, 0.4), st.floats(0.05, 0.4))
def test_every_clip_is_in_one_part_and_no_group_in_two(
    sizes: dict[str, list[int]], seed: int, val_share: float, test_share: float
) -> None:
    data = data_of(sizes)
    split = split_by_group(data, seed=seed, val_share=val_share, test_share=test_share)
    assert sorted([*split.train, *split.val, *split.test], key=str) == sorted(data.clips, key=str)
    parts = [{(clip.label, clip.group) for clip in part} for part in (split.train, split.val, split.test)]
    assert sum(map(len, parts)) == len(set.union(*parts))
    for part in (split.train, split.val, split.test):
        assert {clip.label for clip in part} == set(data.labels)


@given(sizes, st.integers(0, 1000))
def test_the_same_seed_gives_the_same_split(sizes: dict[str, list[int]], seed: int) -> None:
    assert split_by_group(data_of(sizes), seed=seed) == split_by_group(data_of(sizes), seed=seed)


def test_another_seed_gives_another_split() -> None:
    data = data_of({"a": [1] * 25, "b": [1] * 25})
    assert len({split_by_group(data, seed=seed).test for seed in range(5)}) > 1


def test_named_groups_go_where_they_were_named() -> None:
    split = split_by_group(data_of({"a": [2] * 6, "b": [1] * 6}), val_groups=["03"], test_groups=["04", "05"])
    assert split.groups("val") == {"a": ["03"], "b": ["03"]}
    assert split.groups("test") == {"a": ["04", "05"], "b": ["04", "05"]}
    assert split.groups("train") == {"a": ["00", "01", "02"], "b": ["00", "01", "02"]}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), min_size=20, max_size=60), st.integers(0, 99))
def test_groups_that_a_manifest_names_in_several_classes_are_never_divided(
    drawn: list[tuple[str, int]], seed: int
) -> None:
    clips = [LabelledClip(Path(f"{i}.mp4"), label, str(group), "manifest") for i, (label, group) in enumerate(drawn)]
    data = DataSet(Path("clips.csv"), tuple(clips))
    try:
        split = split_by_group(data, seed=seed)
    except DataSetError as error:
        assert "has no clips left for" in str(error)
        return
    parts = [{clip.group for clip in part} for part in (split.train, split.val, split.test)]
    assert sum(map(len, parts)) == len(set.union(*parts))
    assert len(split.train) + len(split.val) + len(split.test) == len(clips)


@given(
    st.dictionaries(
        st.tuples(st.sampled_from("abc"), st.integers(0, 9)),
        st.sampled_from(["train", "train", "val", "test"]),
        min_size=4,
    ),
    st.booleans(),
    st.integers(0, 99),
)
def test_a_given_split_never_trains_on_its_test_and_never_divides_a_group(
    part_of: dict[tuple[str, int], Part], shared: bool, seed: int
) -> None:
    """With ``shared``, groups of the same number show one scene, whatever their class."""
    by: GroupedBy = "manifest" if shared else "folder"
    parts = {LabelledClip(Path(f"{label}{n}.mp4"), label, str(n), by): part for (label, n), part in part_of.items()}
    data = DataSet(Path("clips"), tuple(parts))
    try:
        split = split_as_given(data, parts, seed=seed)
    except DataSetError as error:
        assert any(text in str(error) for text in ("none for train", "no clips for", "no clips left for"))
        return
    assert set(split.test) >= {clip for clip, part in parts.items() if part == "test"}
    assert not {clip for clip, part in parts.items() if part != "train"}.intersection(split.train)
    assert sorted([*split.train, *split.val, *split.test], key=str) == sorted(parts, key=str)
    assert {clip.label for clip in split.train} == set(data.labels)
    if shared and split.drawn == ("test", "val"):
        groups = [{clip.group for clip in part} for part in (split.train, split.val, split.test)]
        assert sum(map(len, groups)) == len(set.union(*groups))


def test_classes_that_share_all_groups_share_the_split() -> None:
    clips = [LabelledClip(Path(f"{g}.mp4"), label, f"{g:02}", "manifest") for label in "abc" for g in range(10)]
    split = split_by_group(DataSet(Path("clips.csv"), tuple(clips)))
    assert {len(groups) for groups in split.groups("test").values()} == {2}
    assert {len(groups) for groups in split.groups("val").values()} == {2}


def test_a_split_at_random_divides_groups_and_gives_each_class_its_share() -> None:
    data = data_of({"a": [10] * 5, "b": [4] * 5})
    split = split_at_random(data, seed=1)
    assert sorted([*split.train, *split.val, *split.test], key=str) == sorted(data.clips, key=str)
    assert [sum(clip.label == label for clip in split.test) for label in "ab"] == [10, 4]
    assert {clip.key for clip in split.train} & {clip.key for clip in split.test}
    assert split == split_at_random(data, seed=1) != split_at_random(data, seed=2)


def test_the_groups_for_a_model_file_select_the_same_clips_again() -> None:
    data = data_of({"a": [2] * 6, "b": [1] * 6})
    split = split_by_group(data)
    assert select_groups(data, split.groups("test")) == split.test


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test_groups": ["09"]}, "no groups 09"),
        ({"test_groups": ["01"], "val_groups": ["01"]}, "both validation and test"),
        ({"test_groups": ["00", "01", "02"]}, "no clips left for"),
    ],
)
def test_impossible_groups_are_refused(options: dict[str, list[str]], message: str) -> None:
    with pytest.raises(DataSetError, match=message):
        split_by_group(data_of({"a": [1] * 3, "b": [1] * 3}), **options)


def test_two_groups_are_too_few_for_three_parts() -> None:
    with pytest.raises(DataSetError, match="'b' has no clips left for"):
        split_by_group(data_of({"a": [1] * 3, "b": [1] * 2}))
