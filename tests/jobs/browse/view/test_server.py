"""The server of ``vtag view``: what it serves, and to whom."""

import contextlib
import http.client
import json
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from jobs.browse.report.assemble import make_page
from jobs.browse.report.gather import gather
from jobs.browse.segments import open_result
from jobs.browse.view.encoder import Encoder
from jobs.browse.view.marks_file import MarksFile
from jobs.browse.view.server import ViewServer, video_type
from jobs.result.identity import RunIdentity
from jobs.tagging.finished.collector import FinishedVideo
from tagger import Sampling
from tests.jobs.browse.made_up import make_video, with_vectors
from tests.jobs.browse.report.browser import Page, browser, wait_for
from tests.jobs.result.finished import EMBEDDED, publish_to
from tests.videos import encode

IDENTITY = RunIdentity("actions38", "abc123", Sampling(15, 4).to_json(), 2)

MARKS = "video,start_s,end_s,label\n/v/a.mp4,0,2,Biking\n"

MARK_WHILE_READING = """
const real = window.fetch;
window.fetch = async (...given) => {
  const answer = await real(...given);
  if (given.length === 1) document.dispatchEvent(new KeyboardEvent("keydown", { key: "w" }));
  return answer;
};
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ViewServer]:
    """A server of two videos, a.mp4 and b.avi, and of one in a bucket, with the secret file ``secret`` beside them."""
    folder = tmp_path_factory.mktemp("view")
    encode(folder / "a.mp4", seconds=4)
    encode(folder / "b.avi", codec="mpeg4", seconds=4)
    (folder / "secret").write_text("secret")
    names = [str(folder / "a.mp4"), str(folder / "b.avi"), "s3://bucket/c.mp4"]
    with serving(folder, [make_video(name, [{"Biking": 0.9}] * 2) for name in names], IDENTITY) as server:
        yield server


@contextlib.contextmanager
def serving(folder: Path, videos: list[FinishedVideo], identity: RunIdentity) -> Iterator[ViewServer]:
    """A server of a result of ``videos``, which keeps its marks in ``folder``."""
    publish_to(folder / "t.parquet", videos, identity=identity)
    finished = open_result(str(folder / "t.parquet"))
    data, marks = gather(finished), MarksFile(folder / "marks.csv")
    with contextlib.closing(Encoder()) as encoder:
        page = make_page(finished, data, marks_file="marks.csv")
        with ViewServer(finished, data, page, marks, encoder) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield server
            server.shutdown()


def ask(
    server: ViewServer,
    place: str,
    method: str = "GET",
    body: str | None = None,
    token: str | None = None,
    **headers: str,
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    path = f"/{server.token if token is None else token}/{place}"
    connection.request(method, path, body, named)
    answer = connection.getresponse()
    found = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    connection.close()
    return found


def status(server: ViewServer, place: str, method: str = "GET", **options: str) -> int:
    return ask(server, place, method, **options)[0]


def origin(server: ViewServer) -> str:
    return f"http://127.0.0.1:{server.server_port}"


def test_the_page_is_for_those_who_know_its_address(server: ViewServer) -> None:
    assert server.url == f"{origin(server)}/{server.token}/"
    assert len(server.token) >= 32
    code, headers, page = ask(server, "")
    assert (code, page) == (200, server.page)
    assert (headers["x-content-type-options"], headers["cross-origin-resource-policy"]) == ("nosniff", "same-origin")
    for token in ("", "x", server.token[:-1], f"{server.token}x"):
        assert status(server, "", token=token) == 403


def test_the_address_without_its_last_slash_leads_to_the_page(server: ViewServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    connection.request("GET", server.url.removesuffix("/"))
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("Location"), answer.read()) == (302, f"/{server.token}/", b"")
    connection.close()


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
    ],
)
def test_a_request_from_elsewhere_is_refused(server: ViewServer, headers: dict[str, str]) -> None:
    for place in ("", "video/0", "marks"):
        assert status(server, place, **headers) == 403


def test_a_connection_that_the_browser_resets_prints_nothing(
    server: ViewServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = threading.Event()
    end = server.shutdown_request

    def end_and_tell(request: Any) -> None:
        end(request)
        ended.set()

    monkeypatch.setattr(server, "shutdown_request", end_and_tell)
    connection = socket.create_connection(("127.0.0.1", server.server_port), timeout=60)
    connection.sendall(b"GET /")
    # Closing without lingering resets the connection.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    assert ended.wait(60)
    assert capsys.readouterr().err == ""


def test_an_address_that_is_none_is_refused(server: ViewServer) -> None:
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=60) as connection:
        connection.sendall(f"GET http://[ HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\n\r\n".encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 400 ")


def test_marks_that_cannot_be_read_any_more_are_told(server: ViewServer) -> None:
    server.marks.path.write_bytes(b"\xff")
    try:
        assert ask(server, "marks")[::2] == (500, f"{server.marks.path} is not in UTF-8 any more".encode())
        assert status(server, "marks", "PUT", body=MARKS, If_Match="x", Origin=origin(server)) == 400
    finally:
        server.marks.path.unlink()


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.mp4", "video/mp4"), ("a.webm", "video/webm"), ("a", "video/mp4"), ("a.html", "video/mp4")],
)
def test_what_a_result_calls_a_video_is_never_served_as_a_page(name: str, kind: str) -> None:
    assert video_type(name) == kind


def test_marks_are_written_from_the_page_alone_and_by_version(server: ViewServer) -> None:
    version = ask(server, "marks")[1]["etag"]
    assert status(server, "marks", "PUT", body=MARKS, If_Match=version) == 403
    assert status(server, "marks", "PUT", body=MARKS, If_Match=version, Origin="http://evil.example") == 403
    assert not server.marks.path.exists()
    assert status(server, "marks", "PUT", body="nonsense", If_Match=version, Origin=origin(server)) == 400
    assert status(server, "marks", "PUT", body=MARKS, If_Match='"other"', Origin=origin(server)) == 412
    code, headers, _ = ask(server, "marks", "PUT", body=MARKS, If_Match=version, Origin=origin(server))
    assert code == 204
    assert ask(server, "marks")[1]["etag"] == headers["etag"]
    assert server.marks.path.read_text() == MARKS
    server.marks.path.unlink()


def test_a_video_is_served_in_ranges(server: ViewServer) -> None:
    content = Path(server.names[0]).read_bytes()
    code, headers, body = ask(server, "video/0")
    assert (code, headers["content-type"], headers["accept-ranges"], body) == (200, "video/mp4", "bytes", content)
    code, headers, body = ask(server, "video/0", Range="bytes=10-19")
    assert (code, headers["content-range"], body) == (206, f"bytes 10-19/{len(content)}", content[10:20])
    code, headers, body = ask(server, "video/0", Range=f"bytes={len(content)}-")
    assert (code, headers["content-range"], body) == (416, f"bytes */{len(content)}", b"")
    code, headers, body = ask(server, "video/0", "HEAD")
    assert (code, headers["content-length"], body) == (200, str(len(content)), b"")


@pytest.mark.parametrize(
    "place",
    [
        "video/3",
        "video/-1",
        "video/secret",
        "video/../secret",
        "video/%2e%2e/secret",
        "secret",
        "../secret",
        "video/",
        "video/1e0",
    ],
)
def test_no_request_makes_up_a_file(server: ViewServer, place: str) -> None:
    code, _, body = ask(server, place)
    assert code == 404 and b"secret" not in body


def test_a_video_in_a_bucket_is_not_served(server: ViewServer) -> None:
    assert status(server, "video/2") == 404


def test_a_moment_of_any_video_has_a_preview_and_a_picture(server: ViewServer, tmp_path: Path) -> None:
    code, headers, body = ask(server, "preview/1?start_ms=1000&end_ms=3000")
    assert (code, headers["content-type"]) == (200, "video/mp4")
    (tmp_path / "preview.mp4").write_bytes(body)
    with av.open(str(tmp_path / "preview.mp4")) as file:
        (stream,) = file.streams.video
        assert (stream.codec_context.name, sum(1 for _ in file.decode(stream))) == ("h264", 60)
    code, headers, body = ask(server, "picture/3")
    assert (code, headers["content-type"], body[:2]) == (200, "image/jpeg", b"\xff\xd8")
    for place in ("preview/1?start_ms=3000&end_ms=1000", "preview/1?start_ms=0&end_ms=10000000"):
        assert status(server, place) == 400
    assert status(server, "preview/1?start_ms=a&end_ms=3") == 404


def test_hevc_has_a_preview(tmp_path: Path) -> None:
    encode(tmp_path / "h.mkv", codec="libx265", seconds=2, width=320, height=240)
    with serving(tmp_path, [make_video(str(tmp_path / "h.mkv"), [{"Biking": 0.9}])], IDENTITY) as server:
        code, _, body = ask(server, "preview/0?start_ms=0&end_ms=1000")
    assert code == 200
    (tmp_path / "preview.mp4").write_bytes(body)
    with av.open(str(tmp_path / "preview.mp4")) as file:
        assert file.streams.video[0].codec_context.name == "h264"


def test_moments_that_look_like_the_chosen_one_are_shown(tmp_path: Path) -> None:
    names = [str(tmp_path / f"{letter}.mp4") for letter in "abc"]
    for name in names:
        encode(Path(name), seconds=4)
    looks = [np.eye(8)[[0, 1]], np.eye(8)[[2, 0]], np.eye(8)[[3, 4]]]
    shown = [{"Biking": 0.9}, {"Swing": 0.8}]
    videos = [with_vectors(make_video(name, shown), rows) for name, rows in zip(names, looks, strict=True)]
    identity = replace(EMBEDDED, sampling=IDENTITY.sampling)
    with serving(tmp_path, videos, identity) as server, browser(tmp_path / "browser") as driver:
        assert json.loads(ask(server, "like/0")[2])[0] == [3, 1.0]
        assert status(server, "like/6") == 404
        page = Page(driver, server.url)
        page.keys("\ue015", "l")
        wait_for(lambda: page.text("#inspector .found").strip() == "Swing 1.00")
        wait_for(lambda: page.js("return document.querySelector('.found img').naturalWidth"))
        page.click(".found")
        assert page.text("#inspector .where").split("\n") == ["0:02.0 – 0:04.0", "b.mp4"]
        assert page.errors() == []


def test_a_video_that_is_gone_is_not_found(server: ViewServer, tmp_path: Path) -> None:
    before = server.names[0]
    server.names[0] = str(tmp_path / "gone.mp4")
    try:
        assert status(server, "video/0") == 404
        assert status(server, "preview/0?start_ms=0&end_ms=2000") == 404
    finally:
        server.names[0] = before


def test_the_page_plays_every_file_and_saves_marks_itself(server: ViewServer, tmp_path: Path) -> None:
    with browser(tmp_path) as driver:
        page = Page(driver, server.url)
        assert page.videos() == ["a.mp4", "b.avi", "c.mp4"]
        page.keys("\ue015", "r")
        wait_for(lambda: server.marks.path.exists())
        assert server.marks.path.read_text() == f"video,start_s,end_s,label\n{server.names[0]},0,2,Biking\n"
        # Another page has saved since, and the person makes a mark while this page reads the file again.
        other = "/v/elsewhere.mp4,0,2,Swing"
        server.marks.path.write_text(f"{server.marks.path.read_text()}{other}\n")
        page.js(MARK_WHILE_READING)
        page.keys("\ue014", "r")
        marks = [f"{server.names[0]},0,2,Biking", f"{server.names[0]},2,4,not Biking", other]
        wait_for(lambda: server.marks.path.read_text().splitlines()[1:] == marks)
        page.keys("\ue007")
        wait_for(lambda: page.js("return document.querySelector('video')?.videoWidth"))
        assert page.js("return document.querySelector('video').src").endswith("/video/0")
        page.keys("\ue015", "\ue007")
        wait_for(lambda: "preview/1?" in page.js("return document.querySelector('video').src"))
        wait_for(lambda: page.js("return document.querySelector('video').videoWidth"))
        # The marks are in their file, so what a person can save is a copy.
        assert page.text("#mark-save") == "Save a copy"
        page.keys("s")
        wait_for((tmp_path / "marks.csv").exists)
        assert (tmp_path / "marks.csv").read_text() == server.marks.path.read_text()
        again = Page(driver, server.url)
        assert again.text("#mark-count") == "3 marks in 2 videos, 1 video not on this page, kept in marks.csv"
    server.marks.path.unlink()
