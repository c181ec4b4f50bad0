"""The text of each format, read by the tool that it is for, or else as its schema says."""

import csv
import io
import itertools
import json
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from fractions import Fraction
from html import unescape
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.browse.exporting.exported import ExportedVideo
from jobs.browse.exporting.texts.chapters import NOTHING, ffmetadata
from jobs.browse.exporting.texts.datasets import activitynet_parts, fiftyone_parts
from jobs.browse.exporting.texts.editors import cmx3600, lossless_cut, timecode
from jobs.browse.exporting.texts.elan import eaf
from jobs.browse.exporting.texts.label_studio_tasks import interface_parts, task_parts
from jobs.browse.exporting.texts.libraries import library
from jobs.browse.exporting.texts.sidecars import nfo, xmp
from jobs.browse.exporting.texts.subtitles import subrip, webvtt
from jobs.browse.exporting.texts.tables import COLUMNS, csv_parts, json_lines_parts
from jobs.browse.exporting.texts.timeline import timeline_parts
from jobs.errors import JobError
from tagger.errors import one_line
from tests.jobs.browse.exporting.made_up import NAMES, ODD, rows, video, videos
from tests.videos import encode

ODD_VIDEO = video(
    (1.4, 3.533333, ODD), (3.533333, 5.0, "Biking"), name='/v/it\'s "here", ه/a 🚴.mp4', stream_start_s=1.4
)


def joined(parts: Iterable[str]) -> str:
    return "".join(parts)


def clock(time_s: float) -> str:
    """A time of subtitles, as webvtt-py gives it."""
    seconds, rest = divmod(round(time_s * 1000), 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{rest:03}"


@given(st.lists(videos(), max_size=3))
def test_csv_has_a_row_for_each_span(found: list[ExportedVideo]) -> None:
    header, *lines = csv.reader(io.StringIO(joined(csv_parts(found)), newline=""))
    assert header == list(COLUMNS)
    expected = [(each.video, *row, 0.75, 0.0) for each in found for row in rows(each.spans)]
    assert [
        (name, *map(float, times), label, float(sure), float(begin)) for name, *times, label, sure, begin in lines
    ] == (expected)


@given(st.lists(videos(), max_size=3))
def test_json_lines_have_an_object_for_each_span(found: list[ExportedVideo]) -> None:
    # Not splitlines: a label may have characters that Python takes for the end of a line.
    lines = [json.loads(line) for line in joined(json_lines_parts(found)).split("\n") if line]
    assert [tuple(line) for line in lines] == [COLUMNS] * len(lines)
    assert [(line["video"], line["start_s"], line["end_s"], line["label"]) for line in lines] == [
        (each.video, *row) for each in found for row in rows(each.spans)
    ]


def test_a_start_that_is_not_recorded_is_empty() -> None:
    unknown = video((0.0, 2.0, "Biking"), stream_start_s=None)
    assert joined(csv_parts([unknown])).splitlines()[1] == "/v/a b.mp4,0.0,2.0,Biking,0.75,"
    assert json.loads(joined(json_lines_parts([unknown])))["stream_start_s"] is None


@given(videos())
def test_webvtt_is_read_by_webvtt_py(found: ExportedVideo) -> None:
    reader = pytest.importorskip("webvtt", reason="webvtt-py reads subtitles")
    captions = reader.WebVTT.from_string(webvtt(found)).captions
    assert [(each.start, each.end, unescape(each.text)) for each in captions] == [
        (clock(start_s), clock(end_s), one_line(label)) for start_s, end_s, label in rows(found.spans)
    ]


def test_webvtt_without_a_span_is_a_header() -> None:
    assert webvtt(video()) == "WEBVTT\n"


@given(videos(NAMES.filter(lambda text: "-->" not in text)))
def test_subrip_is_read_by_webvtt_py(found: ExportedVideo) -> None:
    reader = pytest.importorskip("webvtt", reason="webvtt-py reads subtitles")
    captions = reader.from_buffer(io.StringIO(subrip(found)), "srt").captions
    assert [(each.start, each.end, each.text) for each in captions] == [
        (clock(start_s), clock(end_s), one_line(label)) for start_s, end_s, label in rows(found.spans)
    ]


def test_subrip_has_no_arrow_in_a_text() -> None:
    assert subrip(video((0.0, 1.0, "a --> b"))) == "1\n00:00:00,000 --> 00:00:01,000\na -> b\n"


def read_ffmetadata(text: str) -> list[tuple[int, int, str]]:
    """The chapters that FFmpeg reads, in milliseconds."""
    with tempfile.NamedTemporaryFile("w", suffix=".ffmetadata", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        with av.open(file.name, format="ffmetadata") as container:
            found = container.chapters()
    assert all(each["time_base"] == Fraction(1, 1000) for each in found)
    return [(each["start"], each["end"], each["metadata"].get("title", "")) for each in found]


@settings(deadline=None)
@given(videos())
def test_chapters_are_read_by_ffmpeg_and_follow_each_other_without_gaps(found: ExportedVideo) -> None:
    chapters = read_ffmetadata(ffmetadata(found))
    # FFmpeg drops spaces around a title, and bounds the length of a line.
    named = [(start, title) for start, _, title in chapters if title != NOTHING]
    assert [(start, title.strip()) for start, title in named] == [
        (round(span.start_s * 1000), span.label.strip()) for span in found.spans if span.label != NOTHING
    ]
    assert [0, *(end for _, end, _ in chapters)][: len(chapters)] == [start for start, _, _ in chapters]


@given(st.lists(st.tuples(st.integers(0, 9999), st.integers(1, 9999), NAMES)))
def test_lossless_cut_has_start_end_and_label_and_no_header(found: list[tuple[int, int, str]]) -> None:
    spans = [(start / 1000, (start + length) / 1000, label) for start, length, label in found]
    lines = csv.reader(io.StringIO(lossless_cut(video(*spans)), newline=""))
    assert [(float(start), float(end), label) for start, end, label in lines] == spans


def otio() -> Any:
    return pytest.importorskip("opentimelineio", reason="OpenTimelineIO is of the extra export")


@pytest.mark.parametrize("fps", [24.0, 25.0, 30.0, 24000 / 1001, 30000 / 1001, 60000 / 1001])
def test_timecode_is_that_of_opentimelineio(fps: float) -> None:
    opentime = otio().opentime
    drops = fps in (30000 / 1001, 60000 / 1001)
    # The numbers around each minute of a day, where some are dropped.
    for frame in (round(fps * 60 * minute) + step for minute in range(1, 24 * 60) for step in range(-3, 4)):
        assert timecode(frame, fps) == opentime.to_timecode(opentime.RationalTime(frame, fps), fps, drops)


def test_edl_is_read_by_the_cmx3600_adapter_of_opentimelineio() -> None:
    adapter = pytest.importorskip("otio_cmx3600_adapter.cmx_3600", reason="it reads CMX3600")
    first, second = adapter.read_from_string(cmx3600(ODD_VIDEO), rate=30).find_clips()
    assert [first.name, second.name] == ["a 🚴.mp4"] * 2
    assert list(first.metadata["cmx_3600"]["comments"]) == [f"COMMENT: {one_line(ODD)}"]
    ranges = [(each.source_range.start_time.value, each.source_range.duration.value) for each in (first, second)]
    assert ranges == [(42, 64), (106, 44)]


def test_cuts_of_an_edl_follow_each_other_from_one_hour_on() -> None:
    lines = cmx3600(video((0.0, 2.0, "a"), (10.0, 10.001, "b"), fps=30000 / 1001)).splitlines()
    assert lines[:2] == ["TITLE: a b.mp4", "FCM: DROP FRAME"]
    assert [line for line in lines if "AX" in line] == [
        "001  AX       V     C        00:00:00;00 00:00:02;00 01:00:00;00 01:00:02;00",
        "002  AX       V     C        00:00:10;00 00:00:10;01 01:00:02;00 01:00:02;01",
    ]


def test_otio_is_read_by_opentimelineio() -> None:
    reader = otio().core
    late, other = ODD_VIDEO, video((0.0, 2.0, "Swing"), name="s3://bucket/x.mp4", fps=25.0)
    timeline = reader.deserialize_json_from_string(joined(timeline_parts([late, other], "tags.parquet")))
    assert timeline.name == "tags.parquet"
    first, _, third = timeline.find_clips()
    assert (first.name, first.metadata["vtag"]["label"], first.metadata["vtag"]["confidence"]) == (ODD, ODD, 0.75)
    assert first.media_reference.target_url == Path(late.video).as_uri()
    assert third.media_reference.target_url == "s3://bucket/x.mp4"
    assert (first.source_range.start_time.value, first.source_range.duration.value) == (42, 64)
    assert (third.source_range.duration.value, third.source_range.duration.rate) == (50, 25)
    for clip in (first, third):
        assert clip.media_reference.available_range.end_time_exclusive() >= clip.source_range.end_time_exclusive()


@given(st.lists(videos(), max_size=3, unique_by=lambda each: each.spans[0].start_s))
def test_activitynet_has_annotations_and_detections(found: list[ExportedVideo]) -> None:
    named = [ExportedVideo(f"/v/{number}.mp4", each.recorded, each.spans) for number, each in enumerate(found)]
    data = json.loads(joined(activitynet_parts(named)))
    # These are the fields that ActivityNet's evaluation asks for.
    assert {"taxonomy", "version", "database"} <= data.keys() and {"results", "version", "external_data"} <= data.keys()
    for each in named:
        entry = data["database"][each.video]
        assert (entry["duration"], entry["resolution"]) == (60.0, "64x48")
        expected = [{"segment": [start_s, end_s], "label": label} for start_s, end_s, label in rows(each.spans)]
        assert entry["annotations"] == expected
        assert data["results"][each.video] == [{**one, "score": 0.75} for one in expected]


@settings(deadline=None)
@given(videos())
def test_elan_is_read_by_pympi(found: ExportedVideo) -> None:
    elan = pytest.importorskip("pympi.Elan", reason="pympi-ling is of the extra export")
    with tempfile.NamedTemporaryFile("w", suffix=".eaf", encoding="utf-8") as file:
        file.write(eaf(found))
        file.flush()
        document = elan.Eaf(file.name)
    annotations = []
    for tier in document.get_tier_names():
        on_tier = sorted(document.get_annotation_data_for_tier(tier))
        assert all(first[1] <= second[0] for first, second in itertools.pairwise(on_tier))
        annotations += [(start / 1000, end / 1000, label) for start, end, label, *_ in on_tier]
    # XML gives spaces and line breaks back as they are, but no other separators of lines.
    assert sorted(annotations) == sorted(rows(found.spans))
    assert document.media_descriptors[0]["MEDIA_URL"] == "file:///v/a%20b.mp4"


def test_label_studio_tasks_have_predictions_of_its_schema() -> None:
    tasks = json.loads(joined(task_parts([ODD_VIDEO], "actions38", 24.0)))
    region = {"type": "timelinelabels", "from_name": "videoLabels", "to_name": "video", "score": 0.75}
    assert tasks == [
        {
            "data": {"video": "/data/local-files/?d=v/it%27s%20%22here%22%2C%20%D9%87/a%20%F0%9F%9A%B4.mp4"},
            "predictions": [
                {
                    "model_version": "actions38",
                    "score": 0.75,
                    "result": [
                        {
                            **region,
                            "id": "vtag-0",
                            "value": {"ranges": [{"start": 35, "end": 85}], "timelinelabels": [ODD]},
                        },
                        {
                            **region,
                            "id": "vtag-1",
                            "value": {"ranges": [{"start": 86, "end": 120}], "timelinelabels": ["Biking"]},
                        },
                    ],
                }
            ],
        }
    ]


def test_label_studio_takes_the_tasks() -> None:
    interfaces = pytest.importorskip("label_studio_sdk.label_interface", reason="label-studio-sdk knows the schema")
    interface = interfaces.LabelInterface(joined(interface_parts([ODD_VIDEO], 24.0)))
    (task,) = json.loads(joined(task_parts([ODD_VIDEO], "actions38", 24.0)))
    assert interface.validate_prediction(task["predictions"][0])
    other = joined(task_parts([video((0.0, 1.0, "unknown"))], "actions38", 24.0))
    assert not interface.validate_prediction(json.loads(other)[0]["predictions"][0])


def test_the_labelling_interface_has_each_label_once() -> None:
    view = ET.fromstring(joined(interface_parts([ODD_VIDEO, video((0.0, 1.0, "Biking"))], 12.5)))
    assert [label.get("value") for label in view.iter("Label")] == ["Biking", ODD]
    (player,) = view.iter("Video")
    assert player.get("frameRate") == "12.5"


@given(videos())
def test_fiftyone_has_timestamps_under_the_path_of_a_video(found: ExportedVideo) -> None:
    assert json.loads(joined(fiftyone_parts([found]))) == {
        "labels": {
            found.video: [
                {"label": label, "timestamps": [start_s, end_s], "confidence": 0.75}
                for start_s, end_s, label in rows(found.spans)
            ]
        }
    }


def test_fiftyone_imports_the_labels(tmp_path: Path) -> None:
    data = pytest.importorskip("fiftyone.utils.data", reason="FiftyOne has an importer of its format")
    path = encode(tmp_path / "a 🚴.mp4", seconds=6)
    found = video((0.0, 2.0, ODD), (2.0, 5.0, "Biking"), name=str(path))
    (tmp_path / "labels.json").write_text(joined(fiftyone_parts([found])), "utf-8")
    labels = str(tmp_path / "labels.json")
    with data.FiftyOneTemporalDetectionDatasetImporter(labels_path=labels, compute_metadata=True) as importer:
        ((imported, _, label, _),) = importer
    assert imported == str(path)
    assert [(each.label, each.confidence) for each in label.detections] == [(ODD, 0.75), ("Biking", 0.75)]
    # FiftyOne counts frames, from 1, and rounds times to them.
    frames = np.array([list(each.support) for each in label.detections])
    assert np.abs(frames - [[1, 61], [61, 151]]).max() <= 1


def test_xmp_is_read_by_exiv2(tmp_path: Path) -> None:
    exiv2 = pytest.importorskip("pyexiv2", reason="Exiv2 reads XMP for most catalogues")
    path = tmp_path / "a.mp4.xmp"
    path.write_text(xmp(ODD_VIDEO), "utf-8")
    with exiv2.Image(str(path)) as image:
        found = image.read_xmp()
    assert found["Xmp.dc.subject"] == [ODD, "Biking"]
    marker = "Xmp.xmpDM.Tracks[1]/xmpDM:markers[1]/xmpDM:"
    assert [found[marker + name] for name in ("startTime", "duration", "name")] == ["1400", "2133", ODD]


@given(videos())
def test_sidecars_are_xml_and_name_each_label_once(found: ExportedVideo) -> None:
    tags = [tag.text for tag in ET.fromstring(nfo(found)).iter("tag")]
    assert tags == found.labels
    subjects = ET.fromstring(xmp(found).encode()).iter("{http://purl.org/dc/elements/1.1/}subject")
    assert [item.text for subject in subjects for item in subject[0]] == found.labels


def test_characters_that_xml_lacks_are_replaced() -> None:
    assert [tag.text for tag in ET.fromstring(nfo(video((0.0, 1.0, "a\x0bb")))).iter("tag")] == ["a\ufffdb"]


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pympi.Elan", None)
    with pytest.raises(JobError, match=r"^the format elan needs pympi-ling: pip install 'vtag\[export\]'$"):
        library("pympi.Elan", "pympi-ling", "elan")
