import io
import os
import sys
import threading
from pathlib import Path

import pytest

from jobs.archive import listing, local
from jobs.archive.listing import find_videos
from jobs.archive.video import Video
from jobs.storage.location import locate
from tagger.errors import InputError
from tests.jobs.s3_server import Bucket, S3Server


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


def test_a_folder_is_searched_recursively_and_its_videos_are_sorted_without_hidden_ones(archive: Path) -> None:
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


def test_a_broken_link_is_kept_so_that_the_job_reports_it(archive: Path) -> None:
    (archive / "deep/lost.mp4").symlink_to("nowhere.mp4")
    assert names("deep") == ["deep/d.avi", "deep/er/c.mkv", "deep/lost.mp4"]


def test_a_loop_of_links_gives_each_video_once_by_its_real_path(archive: Path) -> None:
    (archive / "deep/again").symlink_to("..")
    (archive / "a_link").symlink_to("deep")
    assert names(".") == names("**") == ["a.MOV", "b.mp4", "deep/d.avi", "deep/er/c.mkv"]


def test_a_linked_folder_is_followed(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "far.mp4").touch()
    (archive / "deep/far").symlink_to(elsewhere)
    assert "deep/far/far.mp4" in names("deep")


def test_a_video_named_twice_is_listed_once(archive: Path) -> None:
    assert names("deep", "deep/d.avi", "./deep/../deep/d.avi") == ["deep/d.avi", "deep/er/c.mkv"]


def test_pipes_are_not_videos(archive: Path) -> None:
    os.mkfifo(archive / "deep/pipe.mp4")
    assert "deep/pipe.mp4" not in names("deep")
    with pytest.raises(InputError, match="neither a file nor a folder"):
        find_videos(["deep/pipe.mp4"])


@pytest.mark.parametrize("text", ["gone.mp4", "*.webm", ".git/*.mkv", "@gone.txt", "@empty.txt", "empty"])
def test_an_input_without_videos_is_an_error_of_one_line_that_names_it(archive: Path, text: str) -> None:
    (archive / "empty").mkdir()
    (archive / "empty.txt").write_text("# nothing\n")
    with pytest.raises(InputError) as caught:
        find_videos(["b.mp4", text])
    assert text.removeprefix("@") in str(caught.value)
    assert "\n" not in str(caught.value)


BUCKET_KEYS = ("b.mp4", "a.MOV", "notes.txt", "deep/er/c.mkv", "deep/d.avi", ".hidden.mp4", ".git/e.mp4", "odd.bin")


def keys(bucket: Bucket, *inputs: str, extensions: tuple[str, ...] = ()) -> list[str]:
    """The keys of the videos that are found."""
    addresses = [f"{bucket.address}/{text}".rstrip("/") for text in inputs]
    return [video.path.removeprefix(f"{bucket.address}/") for video in find_videos(addresses, extensions)]


@pytest.fixture(scope="module")
def filled_once(s3: S3Server) -> Bucket:
    bucket = s3.bucket()
    for key in BUCKET_KEYS:
        bucket.put(key, b"x" * len(key))
    bucket.put("empty/", b"")
    return bucket


@pytest.fixture
def filled(filled_once: Bucket, bucket: Bucket) -> Bucket:
    """A bucket with the same files as the folder. No test changes it; a test may change ``bucket``."""
    return filled_once


@pytest.mark.parametrize(
    "text",
    [
        "",
        "deep",
        "deep/d.avi",
        "odd.bin",
        "*.mp4",
        "*",
        "d*p",
        "*/*",
        ".git/*.mp4",
        ".*.mp4",
        "deep/*/c.mkv",
        "**/*.mkv",
        "**",
        "deep/**/*",
        "**/er/[a-c].*",
    ],
)
def test_a_bucket_gives_what_a_folder_of_the_same_files_gives(filled: Bucket, archive: Path, text: str) -> None:
    found = keys(filled, text)
    assert found == names(text or ".")
    assert found


def test_objects_carry_their_address_size_and_time_in_whole_seconds(filled: Bucket) -> None:
    (video,) = find_videos([f"{filled.address}/b.mp4"])
    assert (video.path, video.size) == (f"{filled.address}/b.mp4", 5)
    assert video.mtime_ns > 0
    assert video.mtime_ns % 10**9 == 0
    assert list(find_videos([f"{filled.address}/*.mp4"])) == [video], "however it was found"


def test_more_endings_can_be_searched_for_in_a_bucket(filled: Bucket) -> None:
    assert "odd.bin" in keys(filled, "", extensions=("bin",))


ODD_KEYS = [
    "50% off.mp4",
    "a+b=c&d.mp4",
    "#1?.mp4",
    "%41%2F.mp4",
    "café 日本 🎬.mp4",
    'it\'s "so".mp4',
    "[1]*.mp4",
    "~{}|^`\\.mp4",
]


@pytest.mark.parametrize("key", ODD_KEYS)
def test_a_key_may_hold_any_character(bucket: Bucket, key: str) -> None:
    bucket.put(f"in here/{key}")
    assert keys(bucket, "") == keys(bucket, f"in here/{key}") == [f"in here/{key}"]


def test_a_key_may_hold_a_line_end() -> None:
    # moto's server refuses such a key, S3 does not.
    file = locate("memory://listing/a\nb.mp4")
    file.write_text("x")
    assert [video.path for video in find_videos(["memory://listing"])] == ["memory://listing/a\nb.mp4"]
    file.delete()


def test_a_key_with_an_empty_part_is_found_so_that_the_job_reports_it(bucket: Bucket) -> None:
    for key in ("/a.mp4", "deep//b.mp4", "deep/c.mp4"):
        bucket.put(key)
    assert keys(bucket, "") == ["/a.mp4", "deep//b.mp4", "deep/c.mp4"]


def test_markers_of_folders_are_not_videos(bucket: Bucket) -> None:
    bucket.put("folder.mp4/", b"")
    bucket.put("folder.mp4/a.mp4")
    bucket.put("empty/", b"")
    assert keys(bucket, "") == ["folder.mp4/a.mp4"]


def test_a_name_of_both_an_object_and_a_folder_means_the_folder_only_with_a_slash(bucket: Bucket) -> None:
    bucket.put("a.mp4")
    bucket.put("a.mp4/b.mp4")
    assert keys(bucket, "a.mp4") == ["a.mp4"]
    assert [video.path for video in find_videos([f"{bucket.address}/a.mp4/"])] == [f"{bucket.address}/a.mp4/b.mp4"]
    assert keys(bucket, "") == ["a.mp4", "a.mp4/b.mp4"]


def test_a_list_mixes_paths_and_addresses_and_may_be_in_a_bucket(filled: Bucket, bucket: Bucket, archive: Path) -> None:
    lines = f"# mine\nb.mp4\n{filled.address}/deep\n\n{filled.address}/gone.mp4\n{filled.address}/odd.bin\nfile://{archive}/a.MOV\n"
    (archive / "list.txt").write_text(lines)
    bucket.put("list.txt", lines.encode())
    expected = [str(archive / "a.MOV"), str(archive / "b.mp4")]
    expected += [f"{filled.address}/{key}" for key in ("deep/d.avi", "deep/er/c.mkv", "gone.mp4", "odd.bin")]
    for text in ("@list.txt", f"@{bucket.address}/list.txt"):
        found = find_videos([text])
        assert [video.path for video in found] == expected
        assert [video.path for video in found if video.size == 0] == [f"{filled.address}/gone.mp4"]


def test_a_bucket_of_several_pages_is_listed_to_its_end_with_progress_reports(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "REPORT_EVERY", 2)
    monkeypatch.setattr(bucket.server, "page", 2)
    paths = ["1.mp4", "2.mp4", "3.mp4", "4.mp4", "more/1.mp4"]
    for key in paths:
        bucket.put(key)
    reports: list[int] = []
    assert len(find_videos([bucket.address], on_found=reports.append)) == 5
    assert reports == [2, 4, 5]
    assert sum("GET" in request for request in bucket.server.requests if bucket.name in request) >= 4, "pages of two"


def test_a_folder_may_be_empty_when_more_videos_are_waited_for(tmp_path: Path) -> None:
    assert len(find_videos([str(tmp_path)], may_be_empty=True)) == 0
    with pytest.raises(InputError, match="cannot be read"):
        find_videos([str(tmp_path / "missing")], may_be_empty=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gone.mp4", "gone.mp4 cannot be read: no such file"),
        ("none/*.mp4", "no such file"),
        ("*.webm", "holds no videos"),
        ("empty", "holds no videos"),
        ("@gone.txt", "gone.txt cannot be read: no such file"),
    ],
)
def test_an_address_without_videos_is_an_error_of_one_line_that_names_it(
    filled: Bucket, text: str, message: str
) -> None:
    address = f"@{filled.address}/{text[1:]}" if text.startswith("@") else f"{filled.address}/{text}"
    with pytest.raises(InputError, match=message) as caught:
        find_videos([f"{filled.address}/b.mp4", address])
    assert address.removeprefix("@") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("s3://no-such-bucket/a", "there is no bucket no-such-bucket"),
        ("s3://no-such-bucket/*", "there is no bucket no-such-bucket"),
        ("s3://no-such-bucket", "there is no bucket no-such-bucket"),
        ("s3://*/a", "a bucket is called by its name"),
        ("what://a/b", "the scheme what:// is unknown"),
    ],
)
def test_a_missing_bucket_is_an_error(bucket: Bucket, address: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_videos([address])


@pytest.mark.parametrize("text", ["", "b.mp4", "*.mp4"])
def test_missing_credentials_are_an_error_of_one_line(
    filled: Bucket, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(InputError, match="access is denied, and there are no credentials in AWS_ACCESS_KEY_ID"):
        keys(filled, text)


def test_a_page_that_fails_twice_is_requested_again(filled: Bucket) -> None:
    filled.server.fail(2)
    assert len(keys(filled, "")) == 4


def test_files_of_a_large_folder_are_looked_at_by_several_threads_and_stay_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{number:03d}.mp4" for number in range(4 * local.PATHS_PER_CALL)]
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    video_of = local._video
    # Each of the four threads waits until all four look at a file.
    together = threading.Barrier(4, timeout=60)
    first_names = set(names[:: local.PATHS_PER_CALL])

    def look(path: str) -> Video:
        if Path(path).name in first_names:
            together.wait()
        return video_of(path)

    monkeypatch.setattr(local, "_video", look)
    found = find_videos([str(tmp_path)])
    assert [Path(video.path).name for video in found] == names
    assert {video.size for video in found} == {1}
