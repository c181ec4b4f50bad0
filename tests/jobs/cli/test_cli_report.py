"""``vtag report`` and ``vtag view``, run from the command line."""

import re
import socket
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from jobs.browse.report.packed_columns import unpack
from jobs.browse.view.server import ViewServer
from jobs.cli import main
from jobs.cli.command.report_with_progress import report_beside
from jobs.result.identity import RunIdentity
from tagger import Sampling
from tests.click_runner import CliRunner
from tests.jobs.browse.made_up import make_video
from tests.jobs.browse.report.browser import Page, browser, wait_for
from tests.jobs.browse.teaching.taught_archive import make_archive
from tests.jobs.result.finished import make_finished, publish_to
from tests.videos import encode

IDENTITY = RunIdentity("actions38", "abc123", Sampling(15, 4).to_json(), 2)

BIKING, SWING = {"Biking": 0.9}, {"Swing": 0.6}


def vtag(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def tags(tmp_path: Path) -> Path:
    """A result of two videos, one of which is a real one."""
    (tmp_path / "videos").mkdir()
    encode(tmp_path / "videos/a.mp4", seconds=4)
    names = [str(tmp_path / "videos" / name) for name in ("a.mp4", "gone.mp4")]
    videos = [make_video(name, [BIKING, SWING]) for name in names]
    publish_to(tmp_path / "tags.parquet", [*videos, make_finished("/v/broken.mp4", "")], identity=IDENTITY)
    return tmp_path / "tags.parquet"


def block(page: str, name: str) -> bytes | None:
    """Returns the content of a block of data in a page."""
    found = re.search(rf'<script type="text/plain" id="{name}">([^<]*)</script>', page)
    return b64decode(found[1]) if found else None


def facts_of(page: Path) -> dict[str, Any]:
    content = block(page.read_text("utf-8"), "data-videos")
    assert content is not None
    return unpack(content)[0]


def test_a_report_has_pictures_of_the_videos_that_can_be_read(tags: Path) -> None:
    out = tags.parent / "report.html"
    done = vtag("report", tags, "--out", out)
    assert (done.exit_code, done.stderr) == (0, "")
    assert re.fullmatch(rf"{re.escape(str(out))}: 3 videos, 4 segments, 2 thumbnails, 0\.\d MB\n", done.stdout)
    page = out.read_text("utf-8")
    thumbnails, pictures = block(page, "data-thumbnails"), block(page, "data-pictures")
    assert thumbnails is not None and pictures is not None
    _, columns = unpack(thumbnails)
    assert columns["row"].tolist() == [0, 1]
    assert columns["size"].sum() == len(pictures)
    assert pictures.startswith(b"\xff\xd8")
    assert "https://" not in re.sub(r"<script.*?</script>|<meta[^>]*>", "", page, flags=re.DOTALL)


@pytest.mark.parametrize(
    ("out", "page"),
    [
        ("t.parquet", "t.report.html"),
        ("./sub/tags/", "sub/tags.report.html"),
        ("/elsewhere/t.parquet", "/elsewhere/t.report.html"),
        ("file:///elsewhere/t.parquet", "/elsewhere/t.report.html"),
    ],
)
def test_the_page_beside_a_result_is_named_as_the_result_was_typed(out: str, page: str) -> None:
    assert report_beside(out) == page


def test_a_report_is_named_as_it_was_typed(tags: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tags.parent)
    done = vtag("report", "tags.parquet", "--out", "report.html", "--thumbnails", 0)
    assert done.stdout.startswith("report.html: 3 videos, 4 segments, 0 thumbnails, ")


def test_a_report_replaces_a_report_and_no_other_file(tags: Path) -> None:
    out = tags.parent / "report.html"
    for _ in range(2):
        assert vtag("report", tags, "--out", out, "--thumbnails", 0, "-q").exit_code == 0
    out.write_text("<html>my page</html>")
    done = vtag("report", tags, "--out", out, "--thumbnails", 0)
    assert (done.exit_code, done.stderr) == (
        1,
        f"vtag: --out {out} is another file than a report; choose another name\n",
    )
    assert out.read_text() == "<html>my page</html>"


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("report.txt", "a report is one page; give a name that ends in .html"),
        ("missing/report.html", "the folder .*/missing does not exist"),
        ("folder.html", "is a folder; give the name of a file"),
    ],
)
def test_an_unusable_place_is_refused_in_one_line(tags: Path, out: str, words: str) -> None:
    (tags.parent / "folder.html").mkdir()
    done = vtag("report", tags, "--out", tags.parent / out)
    assert done.exit_code == 1
    assert re.search(rf"^vtag: --out .*{words}$", done.stderr), done.stderr


def test_videos_are_played_from_a_base_url(tags: Path) -> None:
    out = tags.parent / "report.html"
    videos = tags.parent / "videos"

    def base_of(text: str) -> object:
        done = vtag("report", tags, "--out", out, "--thumbnails", 0, "--base-url", text)
        assert done.exit_code == 0, done.stderr
        return facts_of(out)["base"]

    # The folder in which all videos are: one of them is in /v.
    assert base_of("https://nas.example/x?y=1") == {"folder": "/", "url": "https://nas.example/x?y=1/"}
    assert base_of(f"{videos}=https://nas.example/") == {"folder": f"{videos}/", "url": "https://nas.example/"}
    for text, words in (
        ("ftp://nas.example", "give an address that begins with https://"),
        ("/elsewhere=https://nas.example", "no video is in the folder /elsewhere/"),
    ):
        done = vtag("report", tags, "--out", out, "--thumbnails", 0, "--base-url", text)
        assert done.exit_code == 1 and words in done.stderr


def test_a_report_begins_with_the_marks_of_a_file(tags: Path) -> None:
    out, marks = tags.parent / "report.html", tags.parent / "mine.csv"
    marks.write_text("video;start_s;end_s;label\n/v/a.mp4;0,5;2;not Biking\n/v/a.mp4;2;3;\n")
    assert vtag("report", tags, "--out", out, "--thumbnails", 0, "--marks", marks).exit_code == 0
    assert facts_of(out)["given"]["rows"] == [["/v/a.mp4", 500, 2000, "not Biking"]]
    marks.write_text("a,b\n")
    done = vtag("report", tags, "--out", out, "--thumbnails", 0, "--marks", marks)
    assert (done.exit_code, done.stderr) == (1, f"vtag: {marks} has no column 'video'; its columns are a, b\n")


def test_a_result_without_any_segment_has_a_report(tmp_path: Path) -> None:
    publish_to(tmp_path / "t.parquet", [make_finished("/v/broken.mp4", "")], identity=IDENTITY)
    done = vtag("report", tmp_path / "t.parquet", "--out", tmp_path / "t.html")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "1 video not read" in (tmp_path / "t.html").read_text()


def test_marks_from_the_page_teach_a_new_label(tmp_path: Path) -> None:
    archive = make_archive(tmp_path)
    assert vtag("report", archive.tags, "--out", tmp_path / "r.html", "--thumbnails", 0, "-q").exit_code == 0
    with browser(tmp_path) as driver:
        page = Page(driver, (tmp_path / "r.html").as_uri())
        for number in range(5):
            for segment, shown in enumerate(archive.shown[f"/v/{number}.mp4"]):
                if shown == "Swing":
                    page.open(f"{(tmp_path / 'r.html').as_uri()}#at={number}.mp4@{2 * segment}")
                    page.js("document.getElementById('is').value = 'Swing'")
                    page.js("document.querySelector('#inspector form').requestSubmit()")
        page.click("#mark-next")
        command = page.text("#next code")
        page.keys("s")
        wait_for((tmp_path / "marks.csv").exists)
    assert command == f"vtag teach {archive.tags} marks.csv --model old.safetensors --out taught.safetensors"
    out = tmp_path / "taught.safetensors"
    done = vtag("teach", archive.tags, tmp_path / "marks.csv", "--model", archive.model, "--out", out)
    assert (done.exit_code, done.stderr) == (0, "")
    assert out.is_file()


def test_view_prints_a_private_address_and_names_the_file_of_marks(tags: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[ViewServer] = []
    monkeypatch.setattr(ViewServer, "serve_forever", lambda server: served.append(server))
    done = vtag("view", tags, "--marks", tags.parent / "mine.csv")
    assert (done.exit_code, done.stderr) == (0, "")
    (server,) = served
    assert done.stdout == f"{server.url}\nMarks are kept in {tags.parent}/mine.csv. Ctrl-C ends.\n"
    assert server.url.startswith("http://127.0.0.1:")
    assert not (tags.parent / "mine.csv").exists()


def test_a_port_that_is_taken_is_named(tags: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = vtag("view", tags, "--port", port)
    assert (done.exit_code, done.stderr) == (1, f"vtag: --port {port} cannot be used: address already in use\n")
