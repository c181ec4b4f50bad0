"""The page of a live picture: what it shows, and to whom."""

import http.client
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from jobs.watching.commands import Failed
from jobs.watching.live_page import CHANGES, LivePage, serving
from jobs.watching.smoother import Moment
from tagger import OutputError
from tagger.live.inbox import Opened
from tagger.live.watch import Dropped, Retry
from tests.jobs.browse.report.browser import browser, wait_for
from tests.jobs.watching.made_up import BEGUN_AT, labelled
from tests.tagger.live.senders import jpegs

NASTY = "<script>alert(1)</script>"


def ask(url: str, place: str = "", method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    connection.request(method, f"{parts.path}{place}", headers={k.replace("_", "-"): v for k, v in headers.items()})
    answer = connection.getresponse()
    found = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    connection.close()
    return found


def watched() -> LivePage:
    page = LivePage(f"rtsp://camera/{NASTY}")
    page.note(Opened("mpegts", "h264", 320, 240))
    for segment in labelled("Biking", "Biking", "Diving", "Swing"):
        page.segment(segment)
        end_s = segment.start_s + 1
        page.moment(Moment(segment.index, segment.start_s, end_s, segment.label, segment.confidence, BEGUN_AT))
    # The last moment before a part that was not seen is longer than it seemed.
    page.moment(Moment(3, 3.0, 5.0, "Swing", 0.8, BEGUN_AT))
    page.change(Moment(3, 3.0, 4.0, NASTY, 0.8, BEGUN_AT))
    page.on_picture(jpegs([5])[0])
    return page


def test_the_page_has_the_safeguards_of_vtag_view() -> None:
    with serving(watched()) as url:
        assert url.startswith("http://127.0.0.1:") and len(urlsplit(url).path) > 32
        code, headers, content = ask(url)
        assert code == 200 and b"<img" in content
        assert (headers["x-content-type-options"], headers["x-frame-options"]) == ("nosniff", "DENY")
        other = url.rstrip("/")[:-1] + "/"
        assert ask(other)[0] == ask(other, "picture")[0] == ask(other, "state")[0] == 403
        for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Sec_Fetch_Site": "cross-site"}):
            assert ask(url, "picture", **headers)[0] == 403
        assert ask(url, "state", "PUT", Origin=url.rsplit("/", 2)[0])[0] == 405
        assert ask(url, "marks")[0] == ask(url, "../../etc/passwd")[0] == 404


def test_the_picture_is_the_newest_one() -> None:
    page = LivePage("0")
    with serving(page) as url:
        assert ask(url, "picture")[0] == 204
        for picture in jpegs([1, 2]):
            page.on_picture(picture)
        code, headers, content = ask(url, "picture?7")
        assert (code, headers["content-type"], content) == (200, "image/jpeg", jpegs([2])[0])


def test_the_state_has_the_last_minute_and_what_happened() -> None:
    page = watched()
    with serving(page) as url:
        state: dict[str, Any] = json.loads(ask(url, "state")[2])
    assert state["minute"] == [[0.0, 2.0, "Biking"], [2.0, 3.0, "Diving"], [3.0, 5.0, "Swing"]]
    assert (state["label"], state["until_s"], state["is_lost"]) == (NASTY, 5.0, False)
    page.note(Dropped(1200))
    page.note(Retry("connection refused", 4.0))
    state = page.state()
    assert state["note"].startswith("the picture is lost: connection refused · 1,200 windows dropped")
    assert state["is_lost"]
    page.note(Failed("the command ended with exit status 1"))
    assert page.state()["note"].startswith("the command ended")


def test_the_page_does_not_grow() -> None:
    page = LivePage("0")
    for segment in labelled(*["Biking", "Swing"] * 300):
        moment = Moment(segment.index, segment.start_s, segment.start_s + 1, segment.label, 0.5, BEGUN_AT)
        page.moment(moment)
        page.change(moment)
    assert len(page.state()["minute"]) < 65 and len(page.state()["changes"]) == CHANGES


def test_a_port_that_is_taken_is_told() -> None:
    with serving(LivePage("0")) as url:
        port = urlsplit(url).port or 0
        with (
            pytest.raises(OutputError, match=f"--port {port} cannot be used: address already in use"),
            serving(LivePage("0"), port),
        ):
            pass


def test_a_browser_shows_the_picture_and_its_labels(tmp_path: Path) -> None:
    page = watched()
    with serving(page) as url, browser(tmp_path, 900, 900) as driver:
        driver.get(url)

        def text(selector: str) -> str:
            return str(driver.execute_script("return document.querySelector(arguments[0]).innerText", selector))

        wait_for(lambda: text("#label") == NASTY)
        assert text("h1") == f"rtsp://camera/{NASTY}"
        assert wait_for(lambda: driver.execute_script("return document.getElementById('picture').naturalWidth")) == 64
        assert text("#legend").split() == ["Biking", "Diving", "Swing"]
        assert len(driver.find_elements("css selector", "#minute rect")) == 3
        shown = driver.execute_script("return document.getElementById('picture').src")
        page.on_picture(jpegs([9])[0])
        page.note(Retry("no data came for 10 s", 1.0))
        wait_for(lambda: driver.execute_script("return document.getElementById('picture').src") != shown)
        wait_for(lambda: "no data came" in text("#note"))
        assert driver.execute_script("return document.getElementById('frame').className") == "lost"
        assert [line for line in driver.get_log("browser") if line["level"] == "SEVERE"] == []
