"""Moments that look like examples: those of the result, and videos and pictures that are embedded anew."""

import json
import os
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.browse.marks import read_marks
from jobs.browse.segments import open_result
from jobs.browse.vectors import reading
from jobs.browse.vectors.examples import Example, read_examples
from jobs.browse.vectors.like import search_like
from jobs.browse.vectors.reading import Beside, computed, vectors_at
from jobs.cli import main
from jobs.result.identity import RunIdentity
from jobs.result.output import find_output
from tagger import Sampling, find_model, load_model
from tagger.errors import OutputError
from tagger.isolation import decoder_of_this_thread
from tests.click_runner import CliRunner
from tests.jobs.browse.made_up import make_video, with_vectors
from tests.jobs.result.embedded import vectors_of
from tests.jobs.result.finished import EMBEDDED, publish_to
from tests.jobs.s3_server import Bucket
from tests.videos import encode

SIZE = 8

EAST, NORTH, WEST = np.eye(SIZE)[0], np.eye(SIZE)[1], -np.eye(SIZE)[0]


def towards(degrees: float) -> np.ndarray:
    """A vector between EAST, at 0 degrees, and NORTH, at 90 degrees."""
    return np.cos(np.radians(degrees)) * EAST + np.sin(np.radians(degrees)) * NORTH


def vtag(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def refusal(*arguments: object) -> str:
    done = vtag(*arguments)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
    return done.stderr


VIDEOS = {"/v/a.mp4": [0, 40, 90], "/v/b.mp4": [10, 80], "/v/c.mp4": [30, 180]}
"""The directions of the vectors of segments of two seconds."""


@pytest.fixture(params=["tags.parquet", "tags"])
def result(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A result with embeddings, in a file, or in a folder with a part for each video."""
    out = tmp_path / str(request.param)
    for number, (name, directions) in enumerate(VIDEOS.items()):
        scores = [0.25 * number] * len(directions)
        video = make_video(name, [{"Biking": 1.0}] * len(directions), ood_scores=scores)
        publish_to(out, [with_vectors(video, np.stack([towards(d) for d in directions]))], identity=EMBEDDED)
    return out


def like(result: Path, *arguments: object) -> list[tuple[str, float, float]]:
    done = vtag("search", result, *arguments, "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    moments = json.loads(done.stdout)["moments"]
    return [(row["video"], row["start_s"], round(row["similarity"], 2)) for row in moments]


def cos(degrees: float) -> float:
    return round(float(np.cos(np.radians(degrees))), 2)


def test_the_nearest_moment_of_each_video_is_found_without_the_example_itself(result: Path) -> None:
    found = like(result, "--like", "/v/a.mp4@1")
    assert found == [("/v/b.mp4", 0.0, cos(10)), ("/v/c.mp4", 0.0, cos(30)), ("/v/a.mp4", 2.0, cos(40))]
    assert like(result, "--like", "/v/a.mp4@5.9", "--top", "1") == [("/v/b.mp4", 2.0, cos(10))]


def test_a_video_without_a_second_has_all_its_windows_as_examples(result: Path) -> None:
    found = sorted(like(result, "--like", "/v/a.mp4"))
    assert [(video, start_s) for video, start_s, _ in found] == [("/v/b.mp4", 0.0), ("/v/c.mp4", 0.0)]
    assert [similarity for *_, similarity in found] == pytest.approx([cos(10), cos(10)], abs=0.01)


def test_several_examples_count_with_their_mean_and_those_of_not_like_against_it(result: Path) -> None:
    both = like(result, "--like", "/v/a.mp4@1", "--like", "/v/a.mp4@5")
    assert both[0] == ("/v/a.mp4", 2.0, pytest.approx((cos(40) + cos(50)) / 2, abs=0.01))
    without = like(result, "--like", "/v/a.mp4@1", "--not-like", "/v/a.mp4@5")
    assert without[0] == ("/v/b.mp4", 0.0, pytest.approx(cos(10) - cos(80), abs=0.01))
    assert without[-1] == ("/v/a.mp4", 2.0, pytest.approx(cos(40) - cos(50), abs=0.02))


def test_options_of_a_search_count_for_examples(result: Path) -> None:
    everything = like(result, "--like", "/v/b.mp4@0", "--all")
    assert everything[0] == ("/v/a.mp4", 0.0, cos(10))
    assert ("/v/b.mp4", 2.0, cos(70)) in everything
    assert [video for video, *_ in like(result, "--like", "/v/b.mp4@0", "--max-ood", "0.3")] == ["/v/a.mp4", "/v/b.mp4"]


def test_an_answer_has_lines_that_play_it(result: Path, tmp_path: Path) -> None:
    lines = vtag("search", result, "--like", "/v/a.mp4@1", "--top", "1").stdout.splitlines()
    assert lines[0] == "0.98  Biking  0.0 s to 2.0 s  /v/b.mp4"
    assert "/v/b.mp4" in lines[1] and lines[2] == "1 moment"
    header, *_ = vtag("search", result, "--like", "/v/a.mp4@1", "--csv").stdout.splitlines()
    assert header == "video,segment,start_s,end_s,label,guess,similarity,play"
    assert vtag("search", result, "--like", "/v/a.mp4@1", "--out", tmp_path / "found.parquet").exit_code == 0
    assert len(pq.read_table(tmp_path / "found.parquet")) == 3


def test_a_list_of_answers_is_a_list_of_marks(result: Path, tmp_path: Path) -> None:
    found = ("search", result, "--like", "/v/a.mp4@1", "--top", "2")
    rows = json.loads(vtag(*found, "--json").stdout)["moments"]
    assert [(row["label"], row["guess"]) for row in rows] == [("", "Biking")] * 2
    (tmp_path / "marks.csv").write_text(vtag(*found, "--csv").stdout)
    assert read_marks(tmp_path / "marks.csv") == [], "a row without a label teaches nothing"
    (tmp_path / "marks.csv").write_text(vtag(*found, "--csv", "--mark", "Rowing").stdout)
    marks = read_marks(tmp_path / "marks.csv")
    assert [(mark.video, mark.start_s, mark.label) for mark in marks] == [
        ("/v/b.mp4", 0.0, "Rowing"),
        ("/v/c.mp4", 0.0, "Rowing"),
    ]
    assert vtag("search", result, "biking", "--mark", "Rowing").exit_code == 2


def test_a_relative_path_names_a_video_of_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    video = with_vectors(make_video(f"{tmp_path}/a@b.mp4", [{"Biking": 1.0}] * 2), np.stack([EAST, NORTH]))
    publish_to("tags.parquet", [video], identity=EMBEDDED)
    assert like(Path("tags.parquet"), "--like", "a@b.mp4@3") == [(f"{tmp_path}/a@b.mp4", 0.0, 0.0)]


def test_a_result_with_embeddings_may_be_in_a_bucket(bucket: Bucket) -> None:
    for out in (f"{bucket.address}/tags.parquet", f"{bucket.address}/tags"):
        video = make_video("s3://b/a.mp4", [{"Biking": 1.0}] * 3)
        publish_to(out, [with_vectors(video, np.stack([EAST, WEST, towards(10)]))], identity=EMBEDDED)
        done = vtag("search", out, "--like", "s3://b/a.mp4@1", "--json")
        assert [row["start_s"] for row in json.loads(done.stdout)["moments"]] == [4.0]


def test_of_overlapping_windows_the_one_around_the_second_is_the_example(tmp_path: Path) -> None:
    video = make_video("/v/a.mp4", [{"Biking": 1.0}] * 5, window_s=2.0, hop_s=1.0)
    vectors = np.stack([towards(degrees) for degrees in (0, 20, 40, 60, 80)])
    publish_to(tmp_path / "t.parquet", [with_vectors(video, vectors)], identity=EMBEDDED)
    finished = open_result(str(tmp_path / "t.parquet"))
    (example,) = read_examples(finished, ["/v/a.mp4@2.4"])
    assert (example.start_s, example.end_s) == (1.0, 3.0)
    found = search_like(finished, [example], one_per_video=False, top=9)
    # Windows that overlap the example are left out: those from 0, 1 and 2 s.
    assert found["start_s"].to_pylist() == [3.0]


def test_what_cannot_be_an_example_is_refused_in_one_line(result: Path, tmp_path: Path) -> None:
    assert refusal("search", result, "--like", "/v/a.mp4@7") == (
        "vtag: /v/a.mp4@7: the result has no segment at 7 s of this video; its segments are from 0 s to 6 s\n"
    )
    assert refusal("search", result, "--like", "/v/a.mp4@-1").endswith(
        "-1 is no time; give seconds from the start of the video\n"
    )
    assert refusal("search", result, "--like", "/v/a.mp4@nan").endswith(
        "nan is no time; give seconds from the start of the video\n"
    )
    # The model of this made-up result is not the built-in one, although it has its name.
    message = refusal("search", result, "--like", tmp_path / "none.mp4")
    assert message.startswith("vtag: the actions38 of this version of vtag is another model (")
    assert message.endswith(
        f"): {result} was made with the model actions38 (abc123); give that model with --model FILE\n"
    )


def test_a_result_without_embeddings_says_how_to_get_them(tmp_path: Path) -> None:
    publish_to(tmp_path / "t.parquet", [make_video("/v/a.mp4", [{"Biking": 1.0}])])
    message = "has no embeddings; give its command of vtag run again with --embeddings --overwrite\n"
    assert refusal("search", tmp_path / "t.parquet", "--like", "/v/a.mp4").endswith(message)


def test_wrong_usage_of_examples_is_refused(result: Path) -> None:
    for arguments, reason in {
        (): "give either a LABEL or --like EXAMPLE",
        ("biking", "--like", "a.mp4"): "LABEL and --like cannot be used together",
        ("biking", "--not-like", "a.mp4"): "--not-like needs --like",
        ("biking", "--model", "a.safetensors"): "--model needs --like",
    }.items():
        done = vtag("search", result, *arguments)
        assert done.exit_code == 2 and reason in done.stderr


def test_damaged_and_missing_embeddings_are_refused_in_one_line(result: Path) -> None:
    files = find_output(str(result))
    path = Path(files.parts.child("part-00001.embeddings.parquet").path if files.is_folder else files.embeddings.path)
    content = bytearray(path.read_bytes())
    with pq.ParquetFile(path) as file:
        chunk = file.metadata.row_group(0).column(2)
    content[chunk.data_page_offset + chunk.total_compressed_size - 1] ^= 0xFF
    path.write_bytes(content)
    assert refusal("search", result, "--like", "/v/a.mp4@1").endswith("; see vtag verify\n")
    table = pq.read_table(files.tags.path) if not files.is_folder else None
    if table is not None:
        short = pq.read_table(files.embeddings.path, columns=["video", "segment"]).slice(1)
        assert len(short) == len(table) - 1


@settings(max_examples=15)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.integers(1, 4), st.integers(1, 3), st.data())
def test_vectors_are_read_in_the_order_of_the_segments(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], block: int, groups: int, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("result")
    random = np.random.default_rng(0)
    for number, length in enumerate(lengths):
        video = make_video(f"/v/{number}.mp4", [{"Biking": 1.0}] * length) if length else None
        if video is not None:
            publish_to(
                folder / "tags", [with_vectors(video, random.standard_normal((length, SIZE)))], identity=EMBEDDED
            )
    if not sum(lengths):
        return
    finished = open_result(str(folder / "tags"))
    stored = [source.embeddings.parquet().read() for source in finished.result.sources if source.embeddings]
    expected = np.concatenate([vectors_of(table) for table in stored])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "BLOCK_ROWS", block)
        patch.setattr(reading, "TASK_GROUPS", groups)
        np.testing.assert_array_equal(np.concatenate(list(computed(finished, lambda vectors: vectors))), expected)
        beside = Beside(finished, lambda vectors: vectors)
        bounds = sorted({0, len(expected), *data.draw(st.sets(st.integers(0, len(expected))))})
        for begin, end in pairwise(bounds):
            np.testing.assert_array_equal(beside.take(end - begin), expected[begin:end])
        with pytest.raises(OutputError, match="do not fit those of its tags"):
            beside.take(1)
        rows = np.array(sorted(data.draw(st.sets(st.integers(0, len(expected) - 1)))), np.int64)
        np.testing.assert_array_equal(vectors_at(finished, rows), expected[rows].astype(np.float32))


def write_stripes(path: Path, codec: str, frames: int = 1) -> Path:
    """Writes a still picture of coloured stripes, or a video of it with 10 frames per second."""
    stripes = np.zeros((120, 160, 3), np.uint8)
    stripes[::16, :, 0] = stripes[:, ::9, 1] = 255
    stripes[40:80, 60:110, 2] = 200
    with av.open(str(path), "w") as target:
        stream = target.add_stream(codec, rate=10)
        stream.width, stream.height = 160, 120
        stream.pix_fmt = "rgb24" if codec == "png" else "yuv444p"
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(stripes, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            target.mux(stream.encode(frame))
        target.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def tagged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result of the built-in model, made without Ray: a.mp4 of 4 seconds, and the still picture b.png as a video."""
    folder = tmp_path_factory.mktemp("tagged")
    model = load_model(device="cpu")
    identity = RunIdentity("actions38", model.source.hash, Sampling().to_json(), 2, model.source.embeddings)
    videos = []
    write_stripes(folder / "b.mkv", "ffv1", frames=20)
    for path in (encode(folder / "a.mp4", seconds=4), folder / "b.mkv"):
        vectors = []
        for span in decoder_of_this_thread().spans(path, model.sampling, model.source.info.preprocessing):
            vectors += list(model.classifier.classify_and_embed(span.clips)[2]) if span.windows else []
        made = make_video(str(path), [{"Biking": 1.0}] * len(vectors))
        videos.append(with_vectors(made, np.stack(vectors).astype(np.float32)))
    publish_to(folder / "tags.parquet", videos, identity=identity)
    return folder


def test_a_video_and_a_picture_that_are_not_in_the_result_are_embedded_by_its_model(
    tagged: Path, tmp_path: Path
) -> None:
    result = tagged / "tags.parquet"
    other = encode(tmp_path / "other.mkv", seconds=4, options={"crf": "25"})
    found = like(result, "--like", f"{other}@3")
    assert found[0][:2] == (str(tagged / "a.mp4"), 2.0)
    assert found[0][2] > 0.9 and found[0][2] > found[1][2] + 0.02
    still = write_stripes(tmp_path / "still.png", "png")
    first, second = like(result, "--like", still)
    assert first[:2] == (str(tagged / "b.mkv"), 0.0) and first[2] > second[2] + 0.05
    assert refusal("search", result, "--like", f"{still}@1").endswith("is a picture; give it without @SECONDS\n")
    assert refusal("search", result, "--like", f"{other}@9").endswith("the video ends at 4 s\n")
    text = tmp_path / "text.jpg"
    text.write_text("no picture")
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    for path in (text, pipe):
        assert refusal("search", result, "--like", path) == f"vtag: {path} is no picture that can be read\n"
    assert refusal("search", result, "--like", "").startswith("vtag: the name of an example is empty")
    assert refusal("search", result, "--like", tmp_path / "none.mp4") == (
        f"vtag: {tmp_path}/none.mp4 does not exist, and {result} has no video of this name\n"
    )


def test_the_model_of_a_result_may_be_named_by_its_file(tagged: Path, tmp_path: Path) -> None:
    model = load_model(device="cpu").source
    other = encode(tmp_path / "other.mkv", seconds=2)
    named = RunIdentity("mine", model.hash, Sampling().to_json(), 2, model.embeddings)
    vectors = np.random.default_rng(0).standard_normal((2, model.embeddings["size"]))
    publish_to(
        tmp_path / "t.parquet", [with_vectors(make_video("/v/a.mp4", [{"A": 1.0}] * 2), vectors)], identity=named
    )
    assert refusal("search", tmp_path / "t.parquet", "--like", other).endswith("give its file with --model FILE\n")
    assert like(tmp_path / "t.parquet", "--like", other, "--model", model.file)[0][0] == "/v/a.mp4"


def test_embeddings_of_another_version_are_not_compared_with_new_ones(tmp_path: Path) -> None:
    source = find_model("actions38")
    older = RunIdentity(
        "actions38", source.hash, Sampling().to_json(), 2, {**source.embeddings, "version": 0, "size": 8}
    )
    publish_to(tmp_path / "t.parquet", [make_video("/v/a.mp4", [{"A": 1.0}] * 2)], identity=older)
    other = encode(tmp_path / "other.mkv", seconds=2)
    assert refusal("search", tmp_path / "t.parquet", "--like", other) == (
        f"vtag: the embeddings of {tmp_path}/t.parquet are of another version of vtag; give its command of vtag run "
        "again with --embeddings --overwrite\n"
    )
    assert like(tmp_path / "t.parquet", "--like", "/v/a.mp4@1")[0][0] == "/v/a.mp4"


def test_the_similarity_to_an_example_is_that_of_its_nearest_window(result: Path) -> None:
    vectors = np.stack([NORTH, WEST]).astype(np.float32)
    found = search_like(open_result(str(result)), [Example("", vectors)], top=9, one_per_video=False)
    assert sorted(found["video"].to_pylist()[:2]) == ["/v/a.mp4", "/v/c.mp4"]
    assert found["similarity"].to_pylist()[:2] == pytest.approx([1, 1], abs=1e-3)
