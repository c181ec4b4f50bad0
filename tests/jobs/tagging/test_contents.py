"""The content of touched and moved videos is read once: by Ray if there are many, also after an interruption."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, cast

import pytest

from jobs.archive.fingerprint import content_of, contents_of, fingerprint
from jobs.archive.video import Video
from jobs.archive.videos import Videos
from jobs.cluster.ray_driver import RayDriver
from jobs.result.ledger import Ledger, read_contents, remove
from jobs.result.output import choose_output
from jobs.tagging import contents
from jobs.tagging.contents import FEW_VIDEOS, fingerprint_on_ray, take_fingerprints
from tagger.errors import OutputError
from tests.jobs.result.finished import IDENTITY


class MadeUpDriver:
    """Replaces the Ray driver: sends made-up fingerprints, those of the last videos first."""

    def __init__(self, *, fails_after: int | None = None):
        self.asked: list[str] = []
        self.fails_after = fails_after

    def events(self, work: object, paths: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
        assert work is fingerprint_on_ray
        self.asked += paths
        for number, start in enumerate(reversed(range(0, len(paths), 10))):
            if number == self.fails_after:
                raise KeyboardInterrupt
            yield start, [f"s1:{path}" for path in paths[start : start + 10]]


def not_needed() -> NoReturn:
    raise AssertionError("Ray need not be started")


def driver_of(driver: MadeUpDriver) -> Callable[[], RayDriver]:
    return lambda: cast(RayDriver, driver)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(choose_output(tmp_path / "t.parquet").run_folder, IDENTITY)


def many(count: int = FEW_VIDEOS + 36) -> Videos:
    return Videos.of(Video(f"/v/{number:03d}.mp4", 5, 7) for number in range(count))


def test_a_few_videos_are_read_without_ray(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("content")
    videos = Videos.of([Video(str(tmp_path / "a.mp4"), 7, 1), Video(str(tmp_path / "gone.mp4"), 7, 1)])
    found = take_fingerprints(videos, ledger, not_needed)
    assert found.equals(contents_of([fingerprint(tmp_path / "a.mp4"), None]))


def test_many_videos_are_read_by_ray_with_progress(ledger: Ledger) -> None:
    reports: list[int] = []
    found = take_fingerprints(many(), ledger, driver_of(MadeUpDriver()), reports.append)
    assert found.equals(contents_of(f"s1:{video.path}" for video in many()))
    assert reports == list(range(1, len(many()) + 1))


def test_what_was_read_before_an_interruption_is_not_read_again(ledger: Ledger) -> None:
    with pytest.raises(KeyboardInterrupt):
        take_fingerprints(many(), ledger, driver_of(MadeUpDriver(fails_after=9)))
    again = Ledger.open(ledger.folder, IDENTITY)
    found = take_fingerprints(many(), again, not_needed)
    assert found[99].as_py() == content_of("s1:/v/099.mp4")
    assert found.null_count == len(many()) - 90
    remove(ledger.folder)
    assert ledger.folder.names() == []


def test_fingerprints_are_noted_as_they_come(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "NOTE_S", 0.0)
    noted: list[int] = []

    def report(done: int) -> None:
        noted.append(len(read_contents(ledger.folder)))

    take_fingerprints(many(), ledger, driver_of(MadeUpDriver()), report)
    assert noted == list(range(len(many())))


@pytest.mark.parametrize("change", [{"size": 6}, {"mtime_ns": 8}])
def test_another_version_of_a_video_is_read(ledger: Ledger, change: dict[str, Any]) -> None:
    take_fingerprints(many(), ledger, driver_of(MadeUpDriver()))
    first, *others = many()
    driver = MadeUpDriver()
    changed = Video(**{"path": first.path, "size": first.size, "mtime_ns": first.mtime_ns, **change})
    assert take_fingerprints(Videos.of([changed, *others]), ledger, driver_of(driver)).null_count == 1


def test_damaged_fingerprints_are_named(ledger: Ledger) -> None:
    take_fingerprints(many(), ledger, driver_of(MadeUpDriver()))
    Path(ledger.folder.path, "contents-000000.parquet").write_bytes(b"PAR1")
    with pytest.raises(OutputError, match=r"contents-000000\.parquet cannot be read: .* if it is damaged, remove it"):
        read_contents(ledger.folder)
