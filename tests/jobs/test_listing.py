import io
import os
import sys
from pathlib import Path

import pytest

from jobs.listing import find_videos
from tagger.errors import InputError


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b.mp4", "a.MOV", "notes.txt", "deep/er/c.mkv", "deep/d.avi", ".hidden.mp4", ".git/e.mp4", "odd.bin"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * len(name))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*inputs: str, extensions: tuple[str, ...] = ()) -> list[str]:
    return [os.path.relpath(video.path) for video in find_videos(inputs, extensions)]


def test_a_folder_gives_its_videos_to_the_bottom_sorted_without_hidden_ones(archive: Path) -> None:
    assert names(".") == ["a.MOV", "b.mp4", "deep/d.avi", "deep/er/c.mkv"]


def test_paths_are_absolute_and_carry_size_and_time(archive: Path) -> None:
    (video,) = find_videos(["b.mp4"])
    assert video.path == str(archive / "b.mp4")
    assert (video.size, video.mtime_ns) == (5, (archive / "b.mp4").stat().st_mtime_ns)


def test_a_file_named_explicitly_is_taken_whatever_its_ending(archive: Path) -> None:
    assert names("odd.bin", ".hidden.mp4") == [".hidden.mp4", "odd.bin"]


def test_more_endings_can_be_searched_for_with_or_without_dot(archive: Path) -> None:
    assert "odd.bin" in names(".", extensions=("bin",))
    assert "odd.bin" in names(".", extensions=(".BIN",))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.mp4", ["b.mp4"]),
        ("*", ["a.MOV", "b.mp4", "deep/d.avi", "deep/er/c.mkv"]),
        ("d*p", ["deep/d.avi", "deep/er/c.mkv"]),
        ("**/*.mkv", ["deep/er/c.mkv"]),
        ("**", ["a.MOV", "b.mp4", "deep/d.avi", "deep/er/c.mkv"]),
        ("deep/**/*", ["deep/d.avi", "deep/er/c.mkv"]),
        ("**/er/[a-c].*", ["deep/er/c.mkv"]),
    ],
)
def test_globs_match_files_and_folders(archive: Path, pattern: str, expected: list[str]) -> None:
    assert names(pattern) == expected
    assert names(str(archive / pattern)) == expected


def test_a_file_whose_name_looks_like_a_glob_is_that_file(archive: Path) -> None:
    (archive / "clip[1].mp4").touch()
    assert names("clip[1].mp4") == ["clip[1].mp4"]


def test_a_list_gives_its_paths_and_skips_comments_and_blank_lines(archive: Path) -> None:
    (archive / "list.txt").write_text("# mine\nodd.bin\n\n  b.mp4  \ndeep\n")
    assert names("@list.txt") == ["b.mp4", "deep/d.avi", "deep/er/c.mkv", "odd.bin"]


def test_a_list_on_standard_input_keeps_names_that_are_not_text(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (archive / os.fsdecode(b"caf\xe9.mp4")).touch()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9.mp4\nb.mp4\n")))
    assert names("-") == ["b.mp4", os.fsdecode(b"caf\xe9.mp4")]


def test_a_listed_path_that_is_gone_is_kept_so_that_the_job_reports_it(archive: Path) -> None:
    (archive / "list.txt").write_text("gone.mp4\nb.mp4\n")
    assert [(Path(video.path).name, video.size) for video in find_videos(["@list.txt"])] == [
        ("b.mp4", 5),
        ("gone.mp4", 0),
    ]


def test_a_link_that_leads_nowhere_is_kept_so_that_the_job_reports_it(archive: Path) -> None:
    (archive / "deep/lost.mp4").symlink_to("nowhere.mp4")
    assert names("deep") == ["deep/d.avi", "deep/er/c.mkv", "deep/lost.mp4"]


def test_links_in_a_circle_end_and_give_each_video_once_by_its_real_path(archive: Path) -> None:
    (archive / "deep/again").symlink_to("..")
    (archive / "a_link").symlink_to("deep")
    assert names(".") == names("**") == ["a.MOV", "b.mp4", "deep/d.avi", "deep/er/c.mkv"]


def test_a_linked_folder_is_followed(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "far.mp4").touch()
    (archive / "deep/far").symlink_to(elsewhere)
    assert "deep/far/far.mp4" in names("deep")


def test_a_video_named_twice_comes_once(archive: Path) -> None:
    assert names("deep", "deep/d.avi", "./deep/../deep/d.avi") == ["deep/d.avi", "deep/er/c.mkv"]


def test_pipes_are_not_videos(archive: Path) -> None:
    os.mkfifo(archive / "deep/pipe.mp4")
    assert "deep/pipe.mp4" not in names("deep")
    with pytest.raises(InputError, match="neither a file nor a folder"):
        find_videos(["deep/pipe.mp4"])


@pytest.mark.parametrize("text", ["gone.mp4", "*.webm", ".git/*.mkv", "@gone.txt", "@empty.txt", "empty"])
def test_an_input_that_gives_nothing_is_an_error_of_one_line_that_names_it(archive: Path, text: str) -> None:
    (archive / "empty").mkdir()
    (archive / "empty.txt").write_text("# nothing\n")
    with pytest.raises(InputError) as caught:
        find_videos(["b.mp4", text])
    assert text.removeprefix("@") in str(caught.value)
    assert "\n" not in str(caught.value)
