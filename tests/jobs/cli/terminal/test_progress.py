"""The views of a running job, with hand-made snapshots."""

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console, RenderableType

from jobs.archive.video import Failure
from jobs.cli.terminal.progress import JsonView, LineView, LiveView, Pace, PaceMeter, SilentView, draw
from jobs.tagging.summary import Progress

BAD = Failure("/v/bad [1].mp4", "failed", "empty", "/v/bad [1].mp4 is empty (0 bytes)")
AT_10_S = Progress("tagging", 964, videos_kept=100, videos_done=12, video_s=100, windows=50, elapsed_s=10)
AT_110_S = Progress(
    "tagging",
    964,
    videos_kept=100,
    videos_done=312,
    videos_failed=2,
    video_s=6732,
    windows=1470,
    elapsed_s=110,
    decode_busy=0.45,
    predict_busy=0.98,
    last_failure=BAD,
)


def pace(*snapshots: Progress) -> Pace | None:
    meter = PaceMeter()
    for progress in snapshots[:-1]:
        meter(progress)
    return meter(snapshots[-1])


def test_the_pace_is_measured_from_the_first_windows_that_came_back() -> None:
    starting = Progress("starting", 964, elapsed_s=1)
    measured = pace(starting, AT_10_S, AT_110_S)
    assert measured is not None
    assert measured.windows_per_s == pytest.approx(14.2)
    assert measured.realtime == pytest.approx(66.32)
    # 300 videos took 100 s; 964 - 100 - 312 are left.
    assert measured.left_s == pytest.approx(552 / 3)


def test_there_is_no_pace_until_enough_time_is_measured() -> None:
    assert pace(Progress("starting", 5)) is None
    assert pace(Progress("tagging", 5, elapsed_s=1), Progress("tagging", 5, elapsed_s=60)) is None
    assert pace(AT_10_S) is None
    assert pace(AT_10_S, replace(AT_10_S, windows=90, elapsed_s=10.5)) is None


def test_the_time_left_is_unknown_until_a_video_is_finished() -> None:
    measured = pace(AT_10_S, replace(AT_10_S, windows=90, elapsed_s=30))
    assert measured is not None
    assert measured.windows_per_s == pytest.approx(2)
    assert measured.left_s is None


def test_plain_lines_come_every_ten_seconds_and_at_each_phase() -> None:
    stream = io.StringIO()
    with LineView(stream) as view:
        view(Progress("starting", 964, videos_kept=100))
        view(Progress("starting", 964, videos_kept=100, elapsed_s=30))
        view(replace(AT_10_S, elapsed_s=40))
        view(replace(AT_10_S, elapsed_s=49.9))
        view(replace(AT_110_S, elapsed_s=140))
        view(replace(AT_110_S, elapsed_s=151, windows=1626, videos_done=345))
        view(Progress("publishing", 964, elapsed_s=152))
    assert stream.getvalue().splitlines() == [
        "vtag: starting, 964 videos, 100 kept from an earlier run",
        "vtag: 112 of 964 videos (12 %), 1.67 min of video",
        "vtag: 412 of 964 videos (43 %), 3:04 left, 1.87 h of video, 14.2 windows/s, 66.3× real time, "
        "decoding 45 %, model 98 %",
        "vtag: 2 failed, the last: bad [1].mp4 is empty (0 bytes)",
        "vtag: 445 of 964 videos (46 %), 2:53 left, 1.87 h of video, 14.2 windows/s, 59.7× real time, "
        "decoding 45 %, model 98 %",
        "vtag: writing the result",
    ]


def rendered(picture: RenderableType, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    console.print(picture)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 120])
def test_the_picture_shows_everything_in_three_lines_that_fit(width: int) -> None:
    bar, measures, failures = rendered(draw(AT_110_S, Pace(14.2, 26.8, 444)), width)
    assert bar.endswith("412 of 964 videos  43 %  7:24 left")
    assert measures == "1.87 h of video · 14.2 windows/s · 26.8× real time · decoding 45 % · model 98 %"
    assert failures == "2 failed, the last: bad [1].mp4 is empty (0 bytes)"
    assert max(map(len, (bar, measures, failures))) <= width


def test_a_long_reason_does_not_break_the_picture() -> None:
    long = replace(BAD, reason=f"{BAD.path} {'x' * 300}")
    assert len(rendered(draw(replace(AT_110_S, last_failure=long), None), 80)) == 3


@pytest.mark.parametrize("path", ["/v/\x1b[2J\udcff.mp4", "/v/\x1b[2J\\udcff.mp4"])
def test_control_characters_in_a_file_name_are_escaped(path: str) -> None:
    evil = Failure("/v/\x1b[2J\udcff.mp4", "failed", "empty", f"{path} is empty")
    line = rendered(draw(replace(AT_110_S, last_failure=evil), None), 80)[2]
    assert line == r"2 failed, the last: \x1b[2J\udcff.mp4 is empty"


def test_the_live_view_clears_its_lines_at_the_end() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    with LiveView(console) as view:
        view(AT_10_S)
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert "112 of 964 videos" in shown
    assert shown.endswith("\x1b[2K")


def test_json_events_parse_and_no_failure_is_left_out() -> None:
    stream = io.StringIO()
    with JsonView(stream) as view:
        view(Progress("starting", 3))
        for i in range(3):
            failure = replace(BAD, path=f"/v/{i}.mp4")
            view(Progress("tagging", 3, videos_done=i + 1, elapsed_s=5 + i / 10, last_failure=failure))
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [event["event"] for event in events] == ["progress", "failure", "progress", "failure", "failure"]
    assert [event["path"] for event in events if event["event"] == "failure"] == ["/v/0.mp4", "/v/1.mp4", "/v/2.mp4"]
    assert events[2]["videos_done"] == 1


def test_a_long_comparison_is_shown_as_it_goes_on() -> None:
    stream = io.StringIO()
    comparing = Progress("comparing", 5000, videos_unsure=4000)
    with LineView(stream) as view:
        for done, elapsed_s in ((0, 0), (10, 1), (2500, 10.5)):
            view(replace(comparing, videos_compared=done, elapsed_s=elapsed_s))
    assert stream.getvalue().splitlines() == [
        "vtag: comparing the content of 4,000 videos with another time or place, 0 done",
        "vtag: comparing the content of 4,000 videos with another time or place, 2,500 done",
    ]
    assert "Comparing the content of 4,000 videos" in rendered(draw(comparing, None), 120)[0]


def test_the_silent_view_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    with SilentView() as view:
        view(AT_110_S)
    assert capfd.readouterr() == ("", "")
