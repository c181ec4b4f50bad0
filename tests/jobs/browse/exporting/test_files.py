"""The files of exports: whole, in their places, and never instead of something else."""

import errno
import os
from pathlib import Path
from typing import NoReturn

import pytest

from jobs.browse.exporting.exported import ExportedVideo
from jobs.browse.exporting.files import Unwritten, Written, place_beside, place_in, write_each, write_one, write_text
from jobs.browse.exporting.places import mirror_of
from jobs.storage.location import locate
from tagger.errors import OutputError, VideoError
from tests.jobs.browse.exporting.made_up import video

A, B = video((0.0, 1.0, "a"), name="/v/x/a.mp4"), video((0.0, 1.0, "b"), (2.0, 3.0, "b"), name="/v/y/a.mp4")

MIRROR = mirror_of([A.video, B.video])

LABELS = write_text(lambda found: ",".join(found.labels))


def files(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_each_video_has_its_file(tmp_path: Path) -> None:
    done = list(write_each([A, B], LABELS, place_in(tmp_path, MIRROR, ".txt"), overwrite=False))
    assert done == [Written(tmp_path / "x/a.txt", 1), Written(tmp_path / "y/a.txt", 2)]
    assert files(tmp_path) == {"x/a.txt": "a", "y/a.txt": "b"}


def test_a_file_that_is_there_stays_until_it_may_be_overwritten(tmp_path: Path) -> None:
    place = place_in(tmp_path, MIRROR, ".txt")
    (tmp_path / "x").mkdir()
    (tmp_path / "x/a.txt").write_text("mine")
    (kept, written) = write_each([A, B], LABELS, place, overwrite=False)
    assert kept == Unwritten(A.video, f"{tmp_path}/x/a.txt is there already; --overwrite replaces it")
    assert isinstance(written, Written)
    assert files(tmp_path) == {"x/a.txt": "mine", "y/a.txt": "b"}
    list(write_each([A, B], LABELS, place, overwrite=True))
    assert files(tmp_path) == {"x/a.txt": "a", "y/a.txt": "b"}


def test_a_video_that_fails_does_not_stop_the_others_and_leaves_nothing(tmp_path: Path) -> None:
    def write(found: ExportedVideo, path: Path, ending: str) -> None:
        path.write_text("half")
        if found is A:
            raise VideoError("damaged", f"{A.video}: it is damaged")

    (failed, written) = write_each([A, B], write, place_in(tmp_path, MIRROR, ".txt"), overwrite=False)
    assert failed == Unwritten(A.video, "it is damaged")
    assert isinstance(written, Written)
    assert [path.name for path in (tmp_path / "x").iterdir()] == []


def test_a_folder_that_cannot_be_made_is_told_for_its_video(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("a file")
    (failed, written) = write_each([A, B], LABELS, place_in(tmp_path, MIRROR, ".txt"), overwrite=False)
    assert isinstance(failed, Unwritten) and failed.reason.startswith(f"{tmp_path}/x/a.txt cannot be written: ")
    assert isinstance(written, Written)


def test_a_video_that_cannot_be_looked_at_does_not_stop_the_others(tmp_path: Path) -> None:
    (tmp_path / "b.mp4").touch()
    found = [video((0.0, 1.0, "a"), name=f"{tmp_path}/{name}.mp4") for name in ("a" * 300, "b")]
    place = place_beside(mirror_of([each.video for each in found]), ".txt")
    (failed, written) = write_each(found, LABELS, place, overwrite=False)
    assert failed == Unwritten(found[0].video, f"{found[0].video} cannot be reached: file name too long")
    assert written == Written(tmp_path / "b.txt", 1)


def test_a_full_disk_ends_the_export(tmp_path: Path) -> None:
    def write(found: ExportedVideo, path: Path, ending: str) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with pytest.raises(OutputError, match="no space left on device"):
        list(write_each([A, B], write, place_in(tmp_path, MIRROR, ".txt"), overwrite=False))


def test_a_video_is_never_replaced_by_its_copy(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_text("the video")
    found = video((0.0, 1.0, "a"), name=str(path))
    mirror = mirror_of([found.video])
    (failed,) = write_each([found], LABELS, place_in(tmp_path, mirror, None), overwrite=True)
    assert failed == Unwritten(found.video, "is the video itself; choose another --out")
    assert path.read_text() == "the video"


def test_files_beside_videos(tmp_path: Path) -> None:
    found = video((0.0, 1.0, "a"), name=str(tmp_path / "a.mp4"))
    stored = video((0.0, 1.0, "a"), name="s3://bucket/a.mp4")
    gone = video((0.0, 1.0, "a"), name=str(tmp_path / "unmounted" / "b.mp4"))
    Path(found.video).write_text("the video")
    place = place_beside(mirror_of([found.video, gone.video, stored.video]), ".nfo")
    (written, missing, refused) = write_each([found, gone, stored], LABELS, place, overwrite=False)
    assert written == Written(tmp_path / "a.nfo", 1)
    assert missing == Unwritten(gone.video, "does not exist")
    assert not (tmp_path / "unmounted").exists()
    assert refused == Unwritten(stored.video, "is in a bucket, where nothing is written; use --out FOLDER")


def test_one_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    out = locate(tmp_path / "a.csv")
    write_one(out, ["a\n", "ه\r\n"], overwrite=False)
    assert Path(out.path).read_bytes() == "a\nه\r\n".encode()
    with pytest.raises(OutputError, match=r"a\.csv is there already; --overwrite replaces it"):
        write_one(out, ["b"], overwrite=False)

    def broken() -> NoReturn:
        raise OutputError("the result is damaged")

    with pytest.raises(OutputError, match="damaged"):
        write_one(out, (broken() for _ in range(1)), overwrite=True)
    assert files(tmp_path) == {"a.csv": "a\nه\n"}
    with pytest.raises(OutputError, match=r"a\.parquet has the name of a result of vtag run; choose another name"):
        write_one(locate(tmp_path / "a.parquet"), ["b"], overwrite=True)
    with pytest.raises(OutputError, match="cannot be written: "):
        write_one(locate(tmp_path / "missing" / "a.csv"), ["b"], overwrite=True)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_pipe_is_never_replaced(overwrite: bool, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="is a device, a pipe or a socket"):
        write_one(locate(str(tmp_path / "pipe")), ["text"], overwrite=overwrite)
    assert (tmp_path / "pipe").is_fifo()
