"""``--prune`` removes videos that are certainly gone, and never more than ``--max-prune`` allows."""

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs.archive.folders import FolderProblem
from jobs.tagging.dry_run import dry_run
from jobs.tagging.plan import make_plan
from jobs.tagging.run import run_job
from jobs.tagging.run_config import MaxPrune, RunConfig
from jobs.tagging.summary import Summary
from tagger.errors import OutputError
from tests.jobs.tagging.killed import DriverWithoutRay

VIDEOS = 20


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twenty videos in two folders, of which Ray would make a segment for each byte."""
    monkeypatch.setattr("jobs.tagging.run.RayDriver", DriverWithoutRay)
    for number in range(VIDEOS):
        path = tmp_path / "videos" / ("disk" if number < VIDEOS // 2 else "other") / f"{number:02d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("ab")
    return tmp_path / "videos"


@pytest.fixture(params=["tags.parquet", "tags"])
def done(request: pytest.FixtureRequest, archive: Path, tmp_path: Path) -> RunConfig:
    """A job whose result has all videos."""
    config = RunConfig((str(archive),), tmp_path / request.param, prune=True)
    assert run_job(make_plan(config)).videos == VIDEOS
    return config


def recorded(summary: Summary) -> list[str]:
    return sorted(Path(name).name for name in pq.read_table(summary.videos_out)["video"].to_pylist())


def counts(summary: Summary) -> dict[str, int]:
    return {name: getattr(summary, name) for name in ("videos", "gone", "pruned", "unknown")}


def test_deleted_videos_are_removed_from_the_result(done: RunConfig, archive: Path) -> None:
    (archive / "disk/03.mp4").unlink()
    (archive / "other/12.mp4").unlink()
    assert vars(dry_run(make_plan(done))).items() >= {"gone": 2, "pruned": 2, "unknown": 0}.items()
    summary = run_job(make_plan(done))
    assert counts(summary) == {"videos": VIDEOS - 2, "gone": 2, "pruned": 2, "unknown": 0}
    assert summary.segments == 2 * (VIDEOS - 2)
    assert counts(run_job(make_plan(done))) == {"videos": VIDEOS - 2, "gone": 0, "pruned": 0, "unknown": 0}


def test_without_prune_deleted_videos_stay(done: RunConfig, archive: Path) -> None:
    (archive / "disk/03.mp4").unlink()
    summary = run_job(make_plan(replace(done, prune=False)))
    assert counts(summary) == {"videos": VIDEOS, "gone": 1, "pruned": 0, "unknown": 0}


def test_videos_of_a_disk_that_is_not_mounted_stay(done: RunConfig, archive: Path) -> None:
    for path in (archive / "disk").iterdir():
        path.unlink()
    summary = run_job(make_plan(done))
    assert counts(summary) == {"videos": VIDEOS, "gone": 10, "pruned": 0, "unknown": 10}
    assert len(recorded(summary)) == VIDEOS


def test_videos_behind_links_to_a_disk_that_is_not_mounted_stay(archive: Path, tmp_path: Path) -> None:
    links = tmp_path / "links"
    links.mkdir()
    for path in (archive / "disk").iterdir():
        (links / path.name).symlink_to(path)
    config = RunConfig((str(links),), tmp_path / "tags.parquet", prune=True)
    assert run_job(make_plan(config)).videos == 10
    (archive / "disk").rename(tmp_path / "unmounted")
    summary = run_job(make_plan(config))
    assert counts(summary) == {"videos": 10, "gone": 10, "pruned": 0, "unknown": 10}


def test_a_prune_of_more_than_a_tenth_stops_and_names_the_way_to_allow_it(done: RunConfig, archive: Path) -> None:
    for number in (3, 4, 5):
        (archive / f"disk/{number:02d}.mp4").unlink()
    names = ", ".join(str(archive / f"disk/{number:02d}.mp4") for number in (3, 4, 5))
    message = rf"--prune would remove 3 of 20 videos from .*, more than 10% of them: {names}; .*--max-prune 3$"
    with pytest.raises(OutputError, match=message):
        make_plan(done)
    assert counts(run_job(make_plan(replace(done, max_prune=MaxPrune(videos=3)))))["pruned"] == 3


def test_a_prune_that_is_too_large_stops_before_any_content_is_compared(done: RunConfig, archive: Path) -> None:
    (archive / "disk/06.mp4").write_text("longer")
    run_job(make_plan(done))
    for number in (3, 4, 5):
        (archive / f"disk/{number:02d}.mp4").unlink()
    (archive / "disk/06.mp4").rename(archive / "disk/new name.mp4")
    with pytest.raises(OutputError, match=r"--prune would remove 3 and up to 1 more of 20 .*--max-prune 4$"):
        make_plan(done)
    assert not done.out.with_name(f"{done.out.name}.run").exists()


def test_a_video_that_comes_back_before_the_result_is_published_stays(done: RunConfig, archive: Path) -> None:
    for name in ("disk/03.mp4", "other/12.mp4"):
        (archive / name).rename(archive.parent / Path(name).name)
    plan = make_plan(done)
    assert len(plan.pruning.gone) == 2
    (archive.parent / "03.mp4").rename(archive / "disk/03.mp4")
    summary = run_job(plan)
    assert counts(summary) == {"videos": VIDEOS - 1, "gone": 2, "pruned": 1, "unknown": 1}
    assert "03.mp4" in recorded(summary)


def test_the_limit_of_a_prune_is_a_number_or_a_share() -> None:
    assert not MaxPrune().is_exceeded(2, 20)
    assert MaxPrune().is_exceeded(3, 20)
    assert not MaxPrune(videos=5, share=None).is_exceeded(5, 6)
    assert MaxPrune(videos=5, share=None).is_exceeded(6, 100_000)
    assert MaxPrune(share=0.0).is_exceeded(1, 100)
    assert not any(MaxPrune(share=percent / 100).is_exceeded(percent, 100) for percent in range(101))
    assert (str(MaxPrune()), str(MaxPrune(7, None)), str(MaxPrune(share=0.5))) == ("10%", "7", "50%")


def test_a_folder_that_cannot_be_listed_is_named_and_its_videos_stay(
    done: RunConfig, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jobs.archive import local

    scandir = local.os.scandir

    def scan(path: str) -> object:
        if path == str(archive / "disk"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(local.os, "scandir", scan)
    (archive / "other/12.mp4").unlink()
    summary = run_job(make_plan(done))
    assert counts(summary) == {"videos": VIDEOS - 1, "gone": 11, "pruned": 1, "unknown": 10}
    assert summary.unlisted == (FolderProblem(str(archive / "disk"), "permission denied"),)
