"""The loop of a watched folder, with a made-up folder, clock and job."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from jobs.archive.folders import Folders
from jobs.archive.listing import Listing
from jobs.archive.video import Video
from jobs.archive.videos import Videos
from jobs.errors import JobError
from jobs.watching.arrivals import Arrivals
from jobs.watching.folder import MAX_PAUSE_S, RETRY_S, Event, Note, Watching, disk_of, keep_watching, pause_s
from jobs.watching.job_runner import JobDone, TryAgainError
from tagger.errors import InputError

SETTLE_S = 5.0


class EndOfTestError(Exception):
    """The made-up clock has reached the end of a test."""


@dataclass
class World:
    """A folder whose videos follow a script, a clock, and a job that takes ``job_s`` seconds.

    ``folder`` gives the names of the videos at a time, or an error. ``jobs`` are the times of the jobs and the names
    of their videos. ``job_errors`` are raised by the first jobs.
    """

    folder: Callable[[float], Sequence[str] | Exception]
    end_s: float = 60.0
    listing_s: float = 0.0
    job_s: float = 0.0
    job_errors: list[Exception] = field(default_factory=list)
    problems: Callable[[float], Sequence[str]] = lambda now_s: ()
    disk: Callable[[float], int | None] = lambda now_s: None
    at_s: float = 0.0
    looks: int = 0
    jobs: list[tuple[float, str]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def now_s(self) -> float:
        return self.at_s

    def since_1970_s(self) -> float:
        return 1e6 + self.at_s

    def sleep(self, seconds: float) -> None:
        self.at_s += seconds
        if self.at_s > self.end_s:
            raise EndOfTestError

    def look(self) -> Listing:
        self.looks += 1
        found = self.folder(self.at_s)
        folders = Folders()
        for path in self.problems(self.at_s):
            folders.fail(path, "permission denied")
        self.at_s += self.listing_s
        if isinstance(found, Exception):
            raise found
        return Listing(Videos.of(Video(f"/v/{name}", 1, 10**15) for name in found), folders)

    def run(self, listing: Listing) -> JobDone:
        self.jobs.append((self.at_s, " ".join(video.path.removeprefix("/v/") for video in listing.videos)))
        self.at_s += self.job_s
        if self.job_errors:
            raise self.job_errors.pop(0)
        return JobDone(cast(Any, None), len(listing.videos), ())

    def watch(self) -> "World":
        with pytest.raises(EndOfTestError):
            keep_watching(
                self.look,
                self.run,
                self.events.append,
                Arrivals(SETTLE_S),
                folder="/v",
                look_s=1.0,
                find_disk=lambda: self.disk(self.at_s),
                clock=self,
            )
        return self

    @property
    def notes(self) -> list[str]:
        return [event.words for event in self.events if isinstance(event, Note)]


def test_a_burst_is_one_job_and_the_watch_is_quiet_before_and_after_it() -> None:
    world = World(lambda now_s: "abc" if now_s >= 10 else "").watch()
    assert world.jobs == [(15.0, "a b c")]
    assert world.events == [Watching(0), JobDone(cast(Any, None), 3, ())]


def test_what_arrives_during_a_job_is_the_next_job() -> None:
    world = World(lambda now_s: "ab" if now_s >= 20 else "a", job_s=30.0).watch()
    assert world.jobs == [(5.0, "a"), (41.0, "a b")]


def test_a_folder_that_is_missing_at_the_start_ends_the_watch() -> None:
    world = World(lambda now_s: InputError("/v cannot be read: no such file or directory"))
    with pytest.raises(InputError, match="no such file"):
        keep_watching(world.look, world.run, world.events.append, Arrivals(5), folder="/v", look_s=1.0, clock=world)


def test_a_folder_that_goes_away_is_one_line_and_the_watch_goes_on() -> None:
    gone = InputError("/v cannot be read: no such file or directory")
    world = World(lambda now_s: "a" if now_s < 20 else gone if now_s < 40 else "ab").watch()
    assert world.notes == [f"{gone}; vtag waits until it is there again", "/v is there again"]
    assert [videos for _, videos in world.jobs] == ["a", "a b"]


def is_away(now_s: float) -> bool:
    return 20 <= now_s < 40


def test_a_folder_whose_disk_is_not_mounted_is_one_line() -> None:
    world = World(lambda now_s: "" if is_away(now_s) else "ab", disk=lambda now_s: 1 if is_away(now_s) else 2).watch()
    assert world.notes == [
        "/v is empty and on another disk than before, as when its disk is not mounted; all rows stay, and vtag waits "
        "until it is there again",
        "/v is there again",
    ]
    assert [videos for _, videos in world.jobs] == ["a b"]


def test_a_folder_that_was_emptied_is_not_worth_a_line() -> None:
    world = World(lambda now_s: "" if is_away(now_s) else "ab", disk=lambda now_s: 2).watch()
    assert world.notes == []


def test_a_folder_is_on_a_disk_and_an_address_is_not(tmp_path: Path) -> None:
    assert disk_of(str(tmp_path)) == tmp_path.stat().st_dev
    assert [disk_of(name) for name in (str(tmp_path / "missing"), "s3://bucket/videos")] == [None, None]


def test_a_folder_below_that_cannot_be_listed_is_one_line() -> None:
    world = World(lambda now_s: "a", problems=lambda now_s: ["/v/x"] if now_s > 10 else []).watch()
    assert world.notes == ["/v/x cannot be listed: permission denied"]


def test_a_job_that_may_succeed_later_is_given_again_after_growing_pauses_with_one_line() -> None:
    busy = [TryAgainError("tags is being written by another vtag run") for _ in range(3)]
    world = World(lambda now_s: "a", job_errors=list(busy), end_s=120.0).watch()
    first_s = SETTLE_S
    pauses = [RETRY_S * factor for factor in (0, 1, 3, 7)]
    assert [time_s for time_s, _ in world.jobs] == [first_s + pause for pause in pauses]
    assert world.notes == ["tags is being written by another vtag run; vtag tries again"]
    assert isinstance(world.events[-1], JobDone)


def test_any_other_error_of_a_job_ends_the_watch() -> None:
    world = World(lambda now_s: "a", job_errors=[JobError("no")])
    with pytest.raises(JobError, match="no"):
        keep_watching(world.look, world.run, world.events.append, Arrivals(5), folder="/v", look_s=1.0, clock=world)


def test_a_slow_listing_is_made_rarely() -> None:
    assert World(lambda now_s: "a", end_s=99.5).watch().looks == 100
    slow = World(lambda now_s: "a", end_s=999.0, listing_s=5.0).watch()
    assert slow.looks == 10
    pauses = [pause_s(listing_s, 1.0) for listing_s in (0.0, 0.01, 2.0, 1e4)]
    assert pauses == [1.0, 1.0, pytest.approx(38), MAX_PAUSE_S]
