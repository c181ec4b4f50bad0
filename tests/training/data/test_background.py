"""Unlabelled footage becomes the class ``background``, and its videos are divided among the parts of a split."""

import shutil
from pathlib import Path

import pytest
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st

from jobs.cli import main
from tagger.errors import DataSetError
from tests.click_runner import CliRunner
from tests.training.trees import ucf101_tree, write_clip
from training.data.background import MAX_WHOLE_S, PIECE_S, PIECES, pieces
from training.data.data_set import PARTS
from training.data.splits import Split
from training.data.training_plan import plan_training, read_labelled


def vtag(*arguments: object) -> Result:
    return CliRunner().invoke(
        main, [str(argument) for argument in arguments], terminal_width=120, env={"COLUMNS": "120"}
    )


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ucf101_tree(tmp_path_factory.mktemp("ucf101"), groups=4)


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four videos, of which one is in a sub-folder, a broken video and a text file."""
    folder = tmp_path_factory.mktemp("footage")
    for number, name in enumerate(("a.mp4", "b.mp4", "c.mp4", "more/d.mp4")):
        write_clip(folder / name, "Down", 900 + number, frames=6)
    (folder / "broken.mp4").write_bytes(b"not a video")
    (folder / "notes.txt").write_text("not a video either")
    return folder


def background_in(split: Split) -> dict[str, set[str]]:
    """Returns the names of the background videos of each part."""
    return {part: {c.path.name for c in getattr(split, part) if c.label == "background"} for part in PARTS}


@given(st.floats(MAX_WHOLE_S, 1e5, exclude_min=True))
def test_a_long_video_gives_six_evenly_spaced_pieces_that_do_not_overlap(duration_s: float) -> None:
    found = pieces(duration_s)
    assert len(found) == PIECES
    before_s = 0.0
    for start_s, end_s in found:
        assert end_s is not None
        assert start_s >= before_s - 1e-3 and end_s - start_s == pytest.approx(PIECE_S, abs=2e-3)
        before_s = end_s
    assert before_s <= duration_s
    assert found[0][0] == pytest.approx(duration_s - before_s, abs=2e-3), (
        "the time before the first piece equals that after the last"
    )


def test_a_short_video_is_one_clip_and_one_of_unknown_duration_gives_its_beginning() -> None:
    assert pieces(MAX_WHOLE_S) == pieces(0.5) == [(0.0, None)]
    assert pieces(0.0) == [(0.0, PIECE_S)]


def test_a_long_video_gives_several_clips_of_one_group(tree: Path, tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        write_clip(tmp_path / name, "Down", 1, frames=6)
    write_clip(tmp_path / "long.mp4", "Down", 2, frames=61 * 30)
    clips = [clip for clip in read_labelled(tree, background=tmp_path).clips if clip.label == "background"]
    of_long = [clip for clip in clips if clip.path.name == "long.mp4"]
    assert len(clips) == 2 + PIECES and len(of_long) == PIECES
    assert {clip.group for clip in of_long} == {"long.mp4"}


def test_each_background_video_is_in_one_part_also_when_groups_are_named(tree: Path, footage: Path) -> None:
    data = read_labelled(tree, background=footage)
    assert data.labels == ("Across", "Down", "background")
    for groups in ({}, {"val_groups": ("03",), "test_groups": ("04",)}, {"test_groups": ("04",)}):
        split = plan_training(data, "holdout", **groups).split  # type: ignore[arg-type]
        assert split is not None
        parts = background_in(split)
        assert all(parts.values())
        assert sorted(name for names in parts.values() for name in names) == [
            *("a.mp4", "b.mp4", "broken.mp4", "c.mp4", "d.mp4")
        ]
        if groups.get("val_groups"):
            assert {clip.group for clip in split.val if clip.label != "background"} == {"03"}


def test_background_videos_are_drawn_when_lists_or_a_manifest_define_the_split(
    tree: Path, footage: Path, tmp_path: Path
) -> None:
    names = [f"{label}/v_{label}_g{group:02}_c01.avi" for group in range(1, 5) for label in ("Across", "Down")]
    (tmp_path / "testlist01.txt").write_text("\n".join(names[:2]))
    (tmp_path / "trainlist01.txt").write_text("\n".join(f"{name} 1" for name in names[2:]))
    manifest = tmp_path / "clips.csv"
    lines = [
        f"{tree / name.replace('.avi', '.mp4')},{name.split('/')[0]},{'test' if i < 2 else 'train'}"
        for i, name in enumerate(names)
    ]
    manifest.write_text("\n".join(["path,label,split", *lines]))
    for root, how in ((tree, tmp_path / "testlist01.txt"), (manifest, None)):
        split = plan_training(read_labelled(root, background=footage), how).split
        assert split is not None and not split.unlisted
        assert all(background_in(split).values())
        assert len([clip for clip in split.test if clip.label != "background"]) == 2


def test_a_dry_run_shows_the_background_and_names_unreadable_videos(tree: Path, footage: Path) -> None:
    result = vtag("train", tree, "--dry-run", "--background", footage)
    assert result.exit_code == 0, result.output
    assert "5 clips are background, without a label: each video is a group of its own." in result.output
    assert f"{footage / 'broken.mp4'}" in result.output and "1 clip cannot be read" in result.output
    (row,) = [line.split() for line in result.output.splitlines() if line.strip().startswith("background")]
    assert row[1:3] == ["5", "5"]


def test_invalid_background_is_refused_in_one_line(tree: Path, footage: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "few").mkdir()
    shutil.copy(footage / "a.mp4", tmp_path / "few")
    shutil.copy(footage / "broken.mp4", tmp_path / "few")
    shutil.copytree(tree, tmp_path / "tree")
    shutil.copytree(footage, tmp_path / "tree" / "background")
    for data, folder, message in (
        (tree, tmp_path / "empty", "there are no videos in"),
        (tree, tmp_path / "few", "at least three that can be read are needed"),
        (tree, tree / "Down", "has a label in"),
        (tmp_path / "tree", footage, "has a class background already"),
    ):
        result = vtag("train", data, "--dry-run", "--background", folder)
        assert result.exit_code == 1
        assert message in result.output and len(result.output.splitlines()) == 1
    with pytest.raises(DataSetError, match="--background has none of them"):
        plan_training(read_labelled(tree, background=footage), "logo")


def test_classes_that_are_left_out_are_in_no_part(tree: Path, tmp_path: Path) -> None:
    shutil.copytree(tree, tmp_path / "tree")
    shutil.copytree(tree / "Down", tmp_path / "tree" / "Third")
    result = vtag("train", tmp_path / "tree", "--dry-run", "--leave-out", "Down, Third,", "--split", "holdout")
    assert result.exit_code == 1 and "clips of one class only (Across)" in result.output
    result = vtag("train", tmp_path / "tree", "--dry-run", "--leave-out", "Down")
    assert result.exit_code == 0, result.output
    assert "8 clips of 2 classes" in result.output and "Down" not in result.output
    (tmp_path / "tree" / "Third").rename(tmp_path / "tree" / "Background")
    result = vtag("train", tmp_path / "tree", "--dry-run", "--leave-out", "Background")
    assert result.exit_code == 0, result.output
    assert "background" not in result.output


@pytest.mark.parametrize(
    ("classes", "message"),
    [("Up", "has no class 'Up' to leave out; it has Across, Down"), ("Across,Down", "all classes")],
)
def test_classes_that_cannot_be_left_out_are_named(tree: Path, classes: str, message: str) -> None:
    result = vtag("train", tree, "--dry-run", "--leave-out", classes)
    assert result.exit_code == 1
    assert message in result.output and len(result.output.splitlines()) == 1
