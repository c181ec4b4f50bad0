"""The page of a result in headless Chromium: load, filter, choose, mark, save, load again, play."""

import csv
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

from jobs.browse.marks import Mark, read_marks
from jobs.browse.report.assemble import make_page
from jobs.browse.report.gather import gather
from jobs.browse.report.page_data import Base
from jobs.browse.segments import open_result
from jobs.result.identity import RunIdentity
from jobs.tagging.finished.collector import FinishedVideo
from tagger import Sampling
from tests.jobs.browse.made_up import make_video, with_vectors
from tests.jobs.browse.report.browser import Page, browser, wait_for
from tests.jobs.result.finished import EMBEDDED, make_finished, publish_to, starting_at
from tests.videos import encode

BIKING, SWING, ODD, NOTHING = (
    {"Biking": 0.9, "Swing": 0.1},
    {"Swing": 0.6, "Biking": 0.4},
    {"</script><b>": 0.7, "Biking": 0.1},
    {"background": 0.8, "Biking": 0.2},
)

ODD_NAMES = ('a</script><b>"quoted" & 100%#?.mp4', "שלום 😀.mp4", "line\nbreak, with comma.mp4", " space .mp4")

IDENTITY = RunIdentity("actions38", "abc123", Sampling(15, 4).to_json(), 2)
"""Windows of two seconds, as those of the made-up videos."""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    encode(folder / "b.mp4", seconds=6)
    videos = [
        make_video(str(folder / "b.mp4"), [BIKING, SWING, SWING], ood_scores=[0.1, 0.5, 0.9]),
        make_video(str(folder / "c.mp4"), [NOTHING, NOTHING], ood_scores=[0.2, 0.2]),
        make_finished(str(folder / "broken.mp4"), ""),
        *(make_video(str(folder / name), [ODD, BIKING], ood_scores=[0.3, None]) for name in ODD_NAMES),
    ]
    publish_to(folder / "tags.parquet", videos, identity=IDENTITY)
    finished = open_result(str(folder / "tags.parquet"))
    (folder / "report.html").write_text(make_page(finished, gather(finished)), "utf-8")
    return folder / "report.html"


@pytest.fixture(scope="module")
def driver(report: Path) -> Iterator[Any]:
    """A browser that saves files beside the report."""
    with browser(report.parent) as driver:
        yield driver


def make_report(tags: Path, videos: list[FinishedVideo], identity: RunIdentity = IDENTITY) -> str:
    """Writes a result and its page, and returns the address of the page."""
    publish_to(tags, videos, identity=identity)
    finished = open_result(str(tags))
    page = tags.with_suffix(".html")
    page.write_text(make_page(finished, gather(finished)), "utf-8")
    return page.as_uri()


@pytest.fixture
def page(report: Path, driver: Any) -> Page:
    """The report in a browser without marks of earlier tests."""
    page = Page(driver, report.as_uri())
    page.js("localStorage.clear()")
    page.open(report.as_uri())
    page.errors()
    return page


def test_every_video_has_a_row_and_no_name_or_label_is_read_as_html(page: Page) -> None:
    assert page.videos() == [
        "space .mp4",
        'script><b>"quoted" & 100%#?.mp4',
        "b.mp4",
        "broken.mp4",
        "c.mp4",
        "line\\nbreak, with comma.mp4",
        "שלום 😀.mp4",
    ]
    assert page.js("return document.querySelectorAll('b b, .row b').length") == 0
    assert "</script><b>" in page.text("table")
    assert page.text("#count") == "7 videos · 11 segments · 0:22"
    assert page.errors() == []


def test_filters_choose_videos_and_are_in_the_address(page: Page, report: Path) -> None:
    page.fill("#f-label", "swing")
    assert (page.videos(), page.text("#chips")) == (["b.mp4"], "Swing ×")
    page.fill("#f-ood", "0.6")
    assert page.text("#count") == "1 of 7 videos · 1 segment · 0:02"
    address = page.js("return location.href")
    assert address.endswith("#label=Swing&ood=0.6")
    page.click("#f-reset")
    assert len(page.videos()) == 7
    page.fill("#f-show", "unread")
    assert page.videos() == ["broken.mp4"]
    page.open(address)
    assert page.text("#count") == "1 of 7 videos · 1 segment · 0:02"
    page.open(f"{report.as_uri()}#sort=best&min=0.65&q=.MP4&at=b.mp4%402")
    assert page.videos()[0] == "space .mp4" and len(page.videos()) == 5
    assert page.text("#inspector h2") == "Swing 0.60"


def test_a_path_reads_from_left_to_right_and_each_part_of_it_as_it_does_itself(page: Page, tmp_path: Path) -> None:
    names = ("/v/2025/שלום/עולם.mp4", "/v/b.mp4")
    address = make_report(tmp_path / "t.parquet", [make_video(name, [BIKING]) for name in names])
    page.open(f"{address}#at={quote('2025/שלום/עולם.mp4')}@0")
    for place, expected in (("#inspector .where", ["2025", "שלום", "עולם.mp4"]), (".row .folder", ["2025", "שלום"])):
        parts = "return [...document.querySelectorAll(`${arguments[0]} [dir=ltr] bdi`)]"
        assert page.js(f"{parts}.map((one) => one.innerText)", place) == expected
        lefts = page.js(f"{parts}.map((one) => one.offsetLeft)", place)
        assert lefts == sorted(set(lefts))


def test_dates_choose_videos(page: Page) -> None:
    # The files are of 14 November 2023.
    for field, day, shown in (
        ("#f-from", "2023-11-10", 7),
        ("#f-from", "2023-11-20", 0),
        ("#f-from", "", 7),
        ("#f-to", "2023-11-10", 0),
        ("#f-to", "2023-11-20", 7),
    ):
        page.fill(field, day)
        assert len(page.videos()) == shown
        assert (page.text("#none") == "No video matches the filters.") == (shown == 0)


@pytest.mark.parametrize(
    ("order", "names"),
    [
        ("name", ["a", "b", "c"]),
        ("length", ["c", "a", "b"]),
        ("date", ["b", "c", "a"]),
        ("best", ["b", "a", "c"]),
        ("time", ["a", "b", "c"]),
        ("doubt", ["c", "a", "b"]),
    ],
)
def test_videos_are_in_the_chosen_order(page: Page, tmp_path: Path, order: str, names: list[str]) -> None:
    shown = {
        "a": (1, [{"Biking": 0.7, "Swing": 0.2}] * 2),
        "b": (3, [{"Biking": 0.9, "Swing": 0.1}]),
        "c": (2, [{"Biking": 0.5, "Swing": 0.4}, *[NOTHING] * 3]),
    }
    videos = []
    for name, (day, confidences) in shown.items():
        video = make_video(f"/v/{name}.mp4", confidences)
        assert video.version is not None
        version = replace(video.version, mtime_ns=day * 86_400_000_000_000)
        videos.append(replace(video, video=replace(video.video, mtime_ns=version.mtime_ns), version=version))
    page.open(f"{make_report(tmp_path / 't.parquet', videos)}#sort={order}")
    assert page.videos() == [f"{name}.mp4" for name in names]


def test_keys_choose_and_mark_and_the_marks_are_saved_for_vtag_teach(page: Page, report: Path) -> None:
    from selenium.webdriver import Keys

    page.keys(Keys.ARROW_DOWN, "r", Keys.ARROW_RIGHT, "w")
    assert page.text("#marked") == "Marked: not Biking"
    page.keys(Keys.ARROW_DOWN, "x")
    wait_for(lambda: page.js("return document.activeElement.id === 'is'"))
    page.js("document.getElementById('is').value = arguments[0]", 'hand  stand, "new" ')
    page.js("document.querySelector('#inspector form').requestSubmit()")
    page.fill("#f-name", "b.mp4")
    page.keys(Keys.ARROW_DOWN, Keys.HOME)
    page.keys(Keys.END, shift=True)
    assert page.text("#inspector .where").startswith("0:00.0 – 0:06.0, 3 segments")
    page.keys("r")
    page.fill("#f-name", "line")
    page.keys(Keys.ARROW_DOWN, Keys.HOME, "r", "s")
    saved = report.parent / "marks.csv"
    wait_for(saved.exists)
    folder = report.parent
    marks = [(mark.video, mark.start_s, mark.end_s, mark.label, mark.is_denial) for mark in read_marks(saved)]
    assert sorted(marks) == sorted(
        [
            (f"{folder}/ space .mp4", 0.0, 2.0, "</script><b>", False),
            (f"{folder}/ space .mp4", 2.0, 4.0, "Biking", True),
            (f"{folder}/{ODD_NAMES[0]}", 2.0, 4.0, 'hand stand, "new"', False),
            (f"{folder}/b.mp4", 0.0, 2.0, "Biking", False),
            (f"{folder}/b.mp4", 2.0, 6.0, "Swing", False),
            (f"{folder}/{ODD_NAMES[2]}", 0.0, 2.0, "</script><b>", False),
        ]
    )
    assert page.text("#mark-count") == "6 marks in 4 videos"


def test_marks_stay_in_the_browser_and_are_loaded_from_a_file(page: Page, report: Path, tmp_path: Path) -> None:
    file = tmp_path / "some.csv"
    rows = [
        (report.parent / "b.mp4", 0, 6, "Biking"),
        (report.parent / "b.mp4", 2, 4, "not Swing"),
        (report.parent / "c.mp4", 0, 2, ""),
        ("/elsewhere.mp4", 1.5, 2, "Diving"),
    ]
    with file.open("w", newline="") as text:
        csv.writer(text).writerows([("Video", "start_s", "end_s", "label"), *rows])
    page.driver.find_element("id", "mark-file").send_keys(str(file))
    expected = "4 marks in 2 videos, 1 video not on this page, not saved as a file"
    wait_for(lambda: page.text("#mark-count") == expected)
    page.open(report.as_uri())
    assert page.text("#mark-count").startswith("4 marks in 2 videos")
    page.fill("#f-show", "marked")
    assert page.videos() == ["b.mp4"]
    page.keys("\ue015", "c")
    assert page.text("#mark-count").startswith("3 marks")


def test_marks_that_come_with_the_page_are_added_once_and_replace_none(page: Page, tmp_path: Path) -> None:
    publish_to(tmp_path / "t.parquet", [make_video("/v/a.mp4", [BIKING, SWING, SWING])], identity=IDENTITY)
    finished = open_result(str(tmp_path / "t.parquet"))

    def open_with(*marks: Mark) -> None:
        (tmp_path / "t.html").write_text(make_page(finished, gather(finished), marks=marks), "utf-8")
        page.open((tmp_path / "t.html").as_uri())

    first = Mark("", "/v/a.mp4", 0.0, 4.0, "Biking")
    open_with()
    page.keys("\ue015", "w")
    open_with(first, Mark("", "/v/a.mp4", 4.0, 6.0, "Biking", is_denial=True))
    kept = "video,start_s,end_s,label\n/v/a.mp4,0,2,not Biking\n/v/a.mp4,2,4,Biking\n/v/a.mp4,4,6,not Biking\n"
    assert (
        page.js("return localStorage.getItem(Object.keys(localStorage).find((key) => !key.endsWith(' given')))") == kept
    )
    assert page.text("#mark-count") == "3 marks in 1 video"
    page.keys("\ue015", "\ue014", "c")
    page.open((tmp_path / "t.html").as_uri())
    assert page.text("#mark-count") == "2 marks in 1 video"
    open_with(first)
    assert page.text("#mark-count") == "3 marks in 1 video"


def test_a_click_on_a_timeline_plays_the_video_from_there(page: Page) -> None:
    from selenium.webdriver import ActionChains

    page.fill("#f-name", "b.mp4")
    canvas = page.driver.find_element("css selector", ".row canvas")
    ActionChains(page.driver).move_to_element_with_offset(canvas, 0, 0).perform()
    assert page.text("#tip").startswith("0:02.0 – 0:04.0 · OOD 0.50\n\nSwing\n0.60")
    ActionChains(page.driver).move_to_element(canvas).click().perform()
    assert wait_for(lambda: page.js("return document.querySelector('video')?.currentTime")) >= 2
    assert page.errors() == []


def test_a_video_is_played_from_a_base_url(page: Page, tmp_path: Path) -> None:
    (tmp_path / "copies").mkdir()
    encode(tmp_path / "copies" / "100% #1?.mp4", seconds=2)
    publish_to(tmp_path / "t.parquet", [make_video("/nowhere/100% #1?.mp4", [BIKING])], identity=IDENTITY)
    finished = open_result(str(tmp_path / "t.parquet"))
    base = Base("/nowhere/", f"{(tmp_path / 'copies').as_uri()}/")
    (tmp_path / "t.html").write_text(make_page(finished, gather(finished), base=base), "utf-8")
    page.open((tmp_path / "t.html").as_uri())
    page.keys("\ue015", "\ue007")
    wait_for(lambda: page.js("return document.querySelector('video')?.videoWidth"))
    assert page.js("return document.querySelector('video').src") == (tmp_path / "copies/100% #1?.mp4").as_uri()


def test_a_result_with_embeddings_has_the_command_that_finds_more_like_a_moment(page: Page, tmp_path: Path) -> None:
    identity = replace(EMBEDDED, sampling=IDENTITY.sampling)
    video = with_vectors(make_video("/v/a b.mp4", [BIKING, SWING]), np.eye(2, 8))
    page.open(f"{make_report(tmp_path / 't.parquet', [video], identity)}#at=a%20b.mp4@2")
    assert page.text("#inspector code") == f"vtag search {tmp_path}/t.parquet --like '/v/a b.mp4@3' --all"


def test_labels_are_completed_old_and_new(page: Page) -> None:
    page.keys("\ue015", "x")
    page.js("document.getElementById('is').value = 'handstand'")
    page.js("document.querySelector('#inspector form').requestSubmit()")
    known = page.js("return [...document.querySelectorAll('#known option')].map((each) => each.value)")
    assert known == ["</script><b>", "Biking", "Swing", "background", "handstand"]
    assert page.js("return document.getElementById('is').getAttribute('list')") == "known"


def test_a_video_that_the_browser_cannot_play_gets_a_command(page: Page) -> None:
    page.fill("#f-name", "c.mp4")
    page.keys("\ue015", "\ue007")
    wait_for(lambda: "mpv --start=0" in page.text("#inspector .command"))


def test_players_start_where_the_file_starts(page: Page, tmp_path: Path) -> None:
    video = starting_at(0.5, make_video("/v/a.mp4", [BIKING, SWING]))
    address = make_report(tmp_path / "t.parquet", [video])
    page.open(f"{address}#at=a.mp4@2")
    assert page.text("#inspector code") == "mpv --start=2.5 /v/a.mp4"
    marks = tmp_path / "exported.csv"
    marks.write_text("video,start_s,end_s,label,stream_start_s\n/v/a.mp4,2.5,4.5,Swing,0.5\n")
    page.driver.find_element("id", "mark-file").send_keys(str(marks))
    wait_for(lambda: page.text("#marked") == "Marked: Swing")
    assert page.js("return Object.values(localStorage)[0]").endswith("/v/a.mp4,2,4,Swing\n")


def test_the_focus_stays_on_a_button_that_is_pressed_and_does_not_get_lost(page: Page) -> None:
    from selenium.webdriver import ActionChains, Keys

    page.keys(Keys.ARROW_DOWN)
    for button in ("wrong", "event"):
        page.js("document.getElementById(arguments[0]).focus()", button)
        ActionChains(page.driver).send_keys(Keys.ENTER).perform()
        assert page.js("return document.activeElement.id") == button
    assert page.text("#marked") == "Marked: not </script><b>"
    page.fill("#f-label", "swing")
    page.js("document.querySelector('#chips button').focus()")
    ActionChains(page.driver).send_keys(Keys.ENTER).perform()
    assert (page.text("#chips"), page.js("return document.activeElement.id")) == ("", "list")


def test_the_keys_are_shown_and_closed(page: Page) -> None:
    page.keys("?")
    assert page.js("return document.getElementById('keys').open")
    page.click("#keys button")
    assert not page.js("return document.getElementById('keys').open")
    assert page.errors() == []


def test_commands_are_words_that_a_shell_reads_as_they_are(page: Page, report: Path) -> None:
    for name in ODD_NAMES:
        page.open(f"{report.as_uri()}#at={quote(name)}%402")
        command = page.text("#inspector code")
        done = subprocess.run(["bash", "-c", f"printf '%s\\0' {command}"], capture_output=True, check=True)
        assert done.stdout.decode().split("\0") == ["mpv", "--start=2", f"{report.parent}/{name}", ""]


def test_the_next_commands_name_the_result(page: Page, report: Path) -> None:
    page.click("#mark-next")
    assert "vtag train marks.csv --model i3d-lite-lstm" in page.text("#next")
    assert "--embeddings --overwrite" in page.text("#next")


@pytest.mark.parametrize("width", [390, 900, 1440])
def test_nothing_is_wider_than_the_screen(page: Page, report: Path, width: int) -> None:
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    page.open(report.as_uri())
    page.keys("\ue015", "r")
    try:
        assert page.js("return document.documentElement.scrollWidth") == width
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_narrow_screen_tells_videos_of_one_name_apart(page: Page, tmp_path: Path) -> None:
    names = ("/v/a.mp4", "/v/mon/clip.mp4", "/v/tue/clip.mp4")
    address = make_report(tmp_path / "t.parquet", [make_video(name, [BIKING]) for name in names])
    metrics = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    page.open(address)
    try:
        shown = page.js("return [...document.querySelectorAll('.name .folder')].map((each) => each.innerText)")
        padding = page.js("return getComputedStyle(document.querySelector('main')).paddingBottom")
        widths = page.js("return [...document.querySelectorAll('.name .folder')].map((each) => each.offsetWidth > 0)")
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert (shown, widths) == (["", "mon/", "tue/"], [False, True, True])
    # There is room for the chosen moment only when there is one.
    assert padding == "0px"


def test_the_time_of_all_videos_is_rounded(page: Page, tmp_path: Path) -> None:
    identity = RunIdentity("actions38", "abc123", Sampling(15, 4, hop_s=1.2).to_json(), 2)
    video = make_video("/v/a.mp4", [BIKING, SWING, SWING, SWING], hop_s=1.2)
    address = make_report(tmp_path / "t.parquet", [video], identity)
    page.open(address)
    assert page.text("#count") == "1 video · 4 segments · 0:06"


def test_marks_of_overlapping_windows_are_one_mark_and_never_contradict(
    page: Page, tmp_path: Path, driver: Any
) -> None:
    video = make_video("/v/a.mp4", [BIKING, BIKING, SWING, SWING], hop_s=1.0)
    identity = RunIdentity("actions38", "abc123", Sampling(15, 4, hop_s=1.0).to_json(), 2)
    address = make_report(tmp_path / "t.parquet", [video], identity)
    page.open(address)
    assert page.text("#count") == "1 video · 4 segments · 0:05"
    page.keys("\ue015", "r", "\ue014", "r")
    assert page.text("#mark-count").startswith("1 mark in 1 video")
    page.keys("\ue014", "r")
    # What is left of the first mark is as long as a window; a shorter rest would not stand for a segment.
    marks = "video,start_s,end_s,label\n/v/a.mp4,0,2,Biking\n/v/a.mp4,2,4,Swing\n"
    assert page.js("return Object.values(localStorage)[0]") == marks
    page.keys("\ue013", "\ue012", "w")
    assert "not Biking" in page.js("return Object.values(localStorage)[0]")
