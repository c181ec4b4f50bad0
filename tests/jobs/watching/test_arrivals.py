"""Which videos of two or more listings are complete, and when a job begins with them. The clock is made up."""

import math
from collections.abc import Sequence

from jobs.archive.video import Video
from jobs.archive.videos import Videos
from jobs.watching.arrivals import BURST_SETTLES, OPEN_SETTLES, Arrivals

SETTLE_S = 5.0

NOON_S = 1_000_000.0
"""The time on the wall when the made-up clock is at 0."""


def video(name: str, size: int = 1, *, changed_s: float = 0.0) -> Video:
    """A video that was changed at ``changed_s`` on the made-up clock."""
    return Video(f"/v/{name}", size, round((NOON_S + changed_s) * 1e9))


def names(videos: Sequence[Video]) -> str:
    return " ".join(video.path.removeprefix("/v/") for video in videos)


class Folder:
    """Arrivals with a made-up clock. ``open`` are the names of files that a program writes to."""

    def __init__(self, *first: Video):
        self.open: set[str] = set()
        self.arrivals = Arrivals(SETTLE_S, lambda path: path.removeprefix("/v/") in self.open)
        self.arrivals.look(Videos.of(first), 0.0, NOON_S)

    def due(self, now_s: float, *videos: Video) -> str:
        """Lists ``videos`` at ``now_s``, and returns the names of those for a job."""
        listed = Videos.of(videos)
        self.arrivals.look(listed, now_s, NOON_S + now_s)
        return names(self.arrivals.due(listed, now_s))

    def tagged(self, *videos: Video) -> None:
        self.arrivals.tagged(Videos.of(videos))


def test_a_new_video_is_complete_when_it_has_not_changed_for_the_settle_time() -> None:
    folder, a = Folder(), video("a")
    assert [folder.due(now_s, a) for now_s in (1.0, 3.0, 5.9, 6.0)] == ["", "", "", "a"]


def test_a_video_that_grows_is_not_complete() -> None:
    folder = Folder()
    for now_s in range(1, 3600):
        assert folder.due(now_s, video("a", size=now_s)) == ""
    assert folder.due(3603.9, video("a", size=3599)) == ""
    assert folder.due(3604.0, video("a", size=3599)) == "a"


def test_a_change_of_the_time_alone_is_a_change() -> None:
    folder = Folder()
    folder.due(1.0, video("a"))
    assert folder.due(6.0, video("a", changed_s=6.0)) == ""


def test_a_video_that_is_there_at_the_start_is_complete_at_once_when_it_is_old_enough() -> None:
    old, young, future = video("a", changed_s=-5.0), video("b", changed_s=-4.0), video("c", changed_s=900.0)
    assert names(Folder(old).arrivals.due(Videos.of([old]), 0.0)) == "a"
    assert [Folder(young).due(now_s, young) for now_s in (0.9, 1.0)] == ["", "b"]
    assert [Folder(future).due(now_s, future) for now_s in (4.9, 5.0)] == ["", "c"]


def test_a_video_that_arrives_later_with_an_old_time_must_settle() -> None:
    folder, old = Folder(), video("a", changed_s=-9e5)
    assert [folder.due(now_s, old) for now_s in (1.0, 6.0)] == ["", "a"]


def test_a_tagged_video_is_left_alone_until_it_changes() -> None:
    a = video("a", changed_s=-60.0)
    folder = Folder(a)
    folder.tagged(a)
    assert folder.due(100.0, a) == ""
    changed = video("a", 2)
    assert [folder.due(now_s, changed) for now_s in (101.0, 106.0)] == ["", "a"]


def test_a_job_gets_all_videos_without_the_incomplete_ones() -> None:
    a, b, growing = video("a", changed_s=-60.0), video("b"), video("c")
    folder = Folder(a)
    folder.tagged(a)
    folder.due(1.0, a, b, growing)
    assert folder.due(6.0, a, b, video("c", 2)) == "a b"
    folder.tagged(a, b)
    assert folder.due(7.0, a, b, video("c", 2)) == ""
    assert folder.due(11.0, a, b, video("c", 2)) == "a b c"


def test_a_tagged_video_that_is_written_anew_is_left_out_of_jobs() -> None:
    a = video("a", changed_s=-60.0)
    folder = Folder(a)
    folder.tagged(a)
    folder.due(1.0, a, video("b"))
    assert folder.due(6.0, video("a", 2), video("b")) == "b"


def test_complete_videos_wait_for_those_that_arrive_with_them() -> None:
    folder = Folder()
    arriving = [video(f"{number}") for number in range(4)]
    for number in range(4):
        assert folder.due(1.0 + 2 * number, *arriving[: number + 1]) == ""
    assert folder.due(11.9, *arriving) == ""
    assert folder.due(12.0, *arriving) == "0 1 2 3"


def test_complete_videos_do_not_wait_for_a_burst_without_an_end() -> None:
    folder = Folder()
    arriving: list[Video] = []
    first_job_s = math.inf
    for second in range(60):
        arriving.append(video(f"{second:02}"))
        if folder.due(second, *arriving):
            first_job_s = min(first_job_s, second)
    assert first_job_s == SETTLE_S + BURST_SETTLES * SETTLE_S


def test_a_video_that_grows_for_long_does_not_delay_the_others() -> None:
    folder = Folder()
    folder.due(1.0, video("growing", 1))
    folder.due(100.0, video("a"), video("growing", 100))
    assert folder.due(105.0, video("a"), video("growing", 105)) == "a"


def test_a_file_that_a_program_has_open_for_writing_is_not_complete() -> None:
    folder, a = Folder(), video("a")
    folder.open = {"a"}
    assert [folder.due(now_s, a) for now_s in (1.0, 6.0, 30.0)] == ["", "", ""]
    folder.open = set()
    assert folder.due(31.0, a) == "a"


def test_a_file_that_stays_open_is_complete_after_a_long_time_without_a_change() -> None:
    folder, a = Folder(), video("a")
    folder.open = {"a"}
    folder.due(1.0, a)
    end_s = 1.0 + OPEN_SETTLES * SETTLE_S
    assert [folder.due(now_s, a) for now_s in (end_s - 0.1, end_s)] == ["", "a"]


def test_videos_of_a_disk_that_was_away_are_not_new() -> None:
    a = video("a", changed_s=-60.0)
    folder = Folder(a)
    folder.tagged(a)
    assert [folder.due(now_s, *there) for now_s, there in ((1.0, ()), (50.0, (a,)), (60.0, (a,)))] == ["", "", ""]
