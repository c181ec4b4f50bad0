"""The page as text: its data, its first part, and its policy."""

import base64
import hashlib
import re
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.browse.report.assemble import make_page
from jobs.browse.report.gather import OTHERS, ReportData, gather
from jobs.browse.report.overview import labels_html, lead, unread_html
from jobs.browse.report.packed_columns import unpack
from jobs.browse.report.page_data import Base, common_folder, pack_segments, pack_videos
from jobs.browse.report.place import parse_base
from jobs.browse.segments import FinishedResult, open_result
from jobs.result.identity import RunIdentity
from tagger import Sampling
from tagger.errors import InputError
from tests.jobs.browse.made_up import make_video
from tests.jobs.result.finished import make_finished, publish_to
from training.report.style import style_file

IDENTITY = RunIdentity("actions38", "abc123", Sampling(15, 4).to_json(), 2)

NASTY = '</script><b>"&'


@pytest.fixture
def finished(tmp_path: Path) -> FinishedResult:
    videos = [
        make_video("/v/x/a.mp4", [{NASTY: 0.9, "Swing": 0.1}, {"Swing": 0.6}, {"Swing": 0.7}], ood_scores=[0.1234] * 3),
        make_video("/v/b.mp4", [{"background": 0.8, "Swing": 0.2}] * 4),
        make_finished(f"/v/{NASTY}.mp4", ""),
    ]
    publish_to(tmp_path / "t.parquet", videos, identity=IDENTITY)
    return open_result(str(tmp_path / "t.parquet"))


@pytest.fixture
def data(finished: FinishedResult) -> ReportData:
    return gather(finished)


def test_the_data_of_a_page_are_the_rows_of_the_result(data: ReportData) -> None:
    facts, videos = unpack(pack_videos(data, {"tags": "t"}))
    _, segments = unpack(pack_segments(data))
    rows = data.videos.to_pylist()
    assert [facts["folder"] + name for name in facts["names"]] == [row["video"] for row in rows]
    assert facts["tags"] == "t" and facts["labels"] == list(data.labels)
    assert [facts["labels"][number] for number in facts["ranked"]] == ["background", "Swing", NASTY]
    assert videos["segments"].tolist() == [0, 4, 3]
    assert videos["status"].tolist() == [2, 0, 0]
    assert videos["duration_ms"].tolist() == [0, 8000, 6000]
    assert videos["mtime_s"].tolist() == [1_700_000_000] * 3
    assert facts["kinds"] == ["empty"] and videos["kind"].tolist() == [1, 0, 0]
    assert facts["errors"] == {"0": f"/v/{NASTY}.mp4 is empty (0 bytes)"}
    found = [
        (facts["labels"][label], start, end, confidence / 1e4, ood / 1e3)
        for label, start, end, confidence, ood in zip(
            *(segments[name].tolist() for name in ("label", "start_ms", "end_ms", "confidence", "ood_score")),
            strict=True,
        )
    ]
    assert found[4:] == [
        (NASTY, 0, 2000, 0.9, 0.123),
        ("Swing", 2000, 4000, 0.6, 0.123),
        ("Swing", 4000, 6000, 0.7, 0.123),
    ]
    assert facts["labels"][segments["other_0"][4] - 1] == "Swing" and segments["other_confidence_0"][4] == 11
    assert [segments[f"other_{place}"][5] for place in range(OTHERS)] == [0] * OTHERS


def test_the_first_part_says_what_matters(finished: FinishedResult, data: ReportData) -> None:
    assert lead(data) == ("<b>0 min 14 s</b> in <b>3 videos</b> · 2 events of 2 labels · 1 video not read")
    assert "5 more videos did not fit" in lead(replace(data, left_out=5))
    rows = re.findall(r"<tr data.*?</tr>", labels_html(data.times, dict.fromkeys(data.labels, 0)))
    assert ["background" in row for row in rows] == [False, False, True]
    assert "<td>0:04</td><td>1</td><td>1</td>" in rows[0]
    assert "&lt;/script&gt;&lt;b&gt;&quot;&amp;" in rows[1]
    assert unread_html(data.videos).count("<li>") == 2
    assert unread_html(data.videos.slice(1)) == ""
    page = make_page(finished, data)
    assert style_file("style.css") in page
    assert "<dt>Model</dt><dd><bdi>actions38, SHA-256 abc123</bdi></dd>" in page
    assert "<dt>Windows</dt><dd><bdi>15×4 @ 30 fps</bdi></dd>" in page
    # In the words of the error, after the kind of it.
    assert re.search(r"<b>empty</b>: 1 video not read<ul><li><bdi>/v/.* is empty \(0 bytes\)</bdi></li>", page)


def test_a_page_names_its_own_script_and_style_and_allows_no_other(finished: FinishedResult, data: ReportData) -> None:
    page = make_page(finished, data, base=Base("/v/", "https://nas.example/"))
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    for kind, content in (("script", page.rpartition("<script>")[2]), ("style", page.partition("<style>")[2])):
        text = content.partition(f"</{kind}>")[0]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; ") and "connect-src 'none'" in policy
    assert page.count("</script>") == 3
    assert NASTY not in page
    assert not re.search(r"""(src|href)=["'](?!data:)""", re.sub(r"<script>.*", "", page, flags=re.DOTALL))


def test_a_page_that_is_served_may_ask_its_server_alone(finished: FinishedResult, data: ReportData) -> None:
    page = make_page(finished, data, marks_file="marks.csv")
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    assert "connect-src 'self'" in policy and "media-src 'self';" in policy and "http" not in policy
    # It keeps its marks in a file itself.
    assert "Save marks.csv" not in page and ">Save a copy</button>" in page


@pytest.mark.parametrize(
    ("names", "folder"),
    [
        ([], ""),
        (["/a.mp4"], "/"),
        (["/v/a.mp4", "/v/b.mp4"], "/v/"),
        (["/v/ab/1.mp4", "/v/abc/1.mp4"], "/v/"),
        (["/v/a.mp4", "s3://bucket/a.mp4"], ""),
        (["s3://bucket/x/a.mp4", "s3://bucket/x/b.mp4"], "s3://bucket/x/"),
    ],
)
def test_the_folder_of_all_videos_is_named_once(names: list[str], folder: str) -> None:
    assert common_folder(names) == folder


def test_a_base_url_is_for_a_folder() -> None:
    names = ["/v/a=b/1.mp4", "/v/2.mp4"]
    assert parse_base("https://nas/x?y=1", names) == Base("/v/", "https://nas/x?y=1/")
    assert parse_base("/v/a=b/=http://nas", names) == Base("/v/a=b/", "http://nas/")
    assert parse_base("s3://bucket=https://cdn/", ["s3://bucket/a.mp4"]) == Base("s3://bucket/", "https://cdn/")
    for text, others, words in (
        ("ftp://nas", names, "give an address that begins with https://"),
        ("/w=https://nas", names, "no video is in the folder /w/"),
        ("https://nas", [*names, "s3://bucket/a.mp4"], "in no common folder; name one, as in FOLDER=https://nas"),
    ):
        with pytest.raises(InputError, match=re.escape(words)):
            parse_base(text, others)
