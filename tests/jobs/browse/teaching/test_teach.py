"""``vtag teach``: a model learns new labels from marks and the embeddings of a result."""

import csv
import json
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

from jobs.browse.segments import open_result
from jobs.browse.teaching.teach_model import teach_model
from jobs.browse.vectors.reading import vectors_at
from jobs.cli import main
from jobs.result.ledger import Ledger
from jobs.result.output import find_output
from tagger import find_model, load_model, read_model_info
from tagger.model_file import read_weights, save_model_file
from tests.click_runner import CliRunner
from tests.jobs.browse.made_up import make_video, with_vectors
from tests.jobs.browse.teaching.taught_archive import Archive, identity_of, make_archive, vectors_of
from tests.jobs.result.finished import IDENTITY, make_finished, publish_to


def vtag(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(params=["tags.parquet", "tags"])
def archive(tmp_path: Path, request: pytest.FixtureRequest) -> Archive:
    return make_archive(tmp_path, str(request.param))


@pytest.fixture
def file_archive(tmp_path: Path) -> Archive:
    return make_archive(tmp_path)


def write_marks(path: Path, rows: list[tuple[object, ...]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("video", "start_s", "end_s", "label"), *rows])
    return path


def marks_of(archive: Archive, label: str, videos: range, written: str | None = None) -> list[tuple[object, ...]]:
    """Marks of all segments of some videos that show ``label``, as ``written``."""
    return [
        (video, 2.0 * number, 2.0 * number + 2, written or label)
        for video in (f"/v/{number}.mp4" for number in videos)
        for number, shown in enumerate(archive.shown[video])
        if shown == label
    ]


def taught(archive: Archive, rows: list[tuple[object, ...]], *options: object) -> Path:
    """Teaches the marks, and returns the model file."""
    marks = write_marks(archive.tags.parent / "marks.csv", rows)
    out = archive.tags.parent / "new.safetensors"
    done = vtag("teach", archive.tags, marks, "--model", archive.model, "--out", out, *options)
    assert (done.exit_code, done.stderr) == (0, "")
    return out


def answers(archive: Archive, model: Path) -> tuple[list[str], list[str], np.ndarray]:
    """What the segments show, the labels that the model gives them from embeddings, and their probabilities."""
    shown = [label for labels in archive.shown.values() for label in labels]
    loaded = find_model(str(model)).load_answers()
    vectors = vectors_at(open_result(str(archive.tags)), np.arange(len(shown)))
    probabilities, _ = loaded.classify(vectors.astype(np.float16))
    return shown, [loaded.info.labels[number] for number in probabilities.argmax(axis=1)], probabilities


def test_a_new_label_is_found_in_the_whole_archive_and_old_answers_stay(archive: Archive) -> None:
    shown, before, _ = answers(archive, archive.model)
    assert {label for label, now in zip(shown, before, strict=True) if label != now} == {"Swing"}
    model = taught(archive, marks_of(archive, "Swing", range(5)))
    shown, after, _ = answers(archive, model)
    assert after == shown
    assert read_model_info(model).labels == ("Biking", "Diving", "Swing")


def test_a_denied_label_gets_a_lower_confidence(file_archive: Archive) -> None:
    shown, _, before = answers(file_archive, file_archive.model)
    denials = marks_of(file_archive, "Swing", range(5), "not biking")
    model = taught(file_archive, denials)
    _, _, after = answers(file_archive, model)
    is_swing = np.array(shown) == "Swing"
    assert after.shape == before.shape
    assert after[is_swing, 0].max() < 0.2 < before[is_swing, 0].mean()
    assert (after[~is_swing].argmax(axis=1) == before[~is_swing].argmax(axis=1)).all()


def test_the_taught_model_is_an_ordinary_model_file_in_the_same_space(file_archive: Archive) -> None:
    model = taught(file_archive, marks_of(file_archive, "Swing", range(5)))
    old, new = read_model_info(file_archive.model), read_model_info(model)
    assert replace(old, labels=(), training={}, scores={}, ood=None, temperature=1.0) == replace(
        new, labels=(), training={}, ood=None, temperature=1.0
    )
    assert new.ood is not None and new.ood != old.ood and new.scores == {}
    before, after = read_weights(file_archive.model), read_weights(model)
    assert before.keys() == after.keys()
    for name in before:
        assert name.startswith("head.") or (before[name] == after[name]).all(), name
    training = json.loads(json.dumps(new.training))
    swings = len(marks_of(file_archive, "Swing", range(5)))
    counts = {"marks": swings, "denials": 0, "segments": swings, "videos": 5}
    assert training["taught"] == {"Swing": {**counts, "recall": 1.0, "precision": None}}
    assert training["new labels"] == ["Swing"] and training["marks"] == ["marks.csv"]
    assert training["model"] == {"name": "old", "sha256": find_model(str(file_archive.model)).hash, "labels": 2}
    assert "groups" not in training
    assert vtag("models", model).exit_code == 0


def test_the_taught_model_sees_in_videos_what_it_sees_in_embeddings(file_archive: Archive) -> None:
    model = taught(file_archive, marks_of(file_archive, "Swing", range(5)))
    tagger = load_model(str(model), device="cpu", precision="fp32")
    clips = np.random.default_rng(0).integers(0, 256, (4, 4, 32, 32, 3), np.uint8)
    probabilities, ood_scores, embeddings = tagger.classifier.classify_and_embed(clips)
    found, ood_found = tagger.source.load_answers().classify(embeddings)
    np.testing.assert_allclose(found, probabilities, atol=1e-3)
    assert ood_scores is not None and ood_found is not None
    np.testing.assert_allclose(ood_found, ood_scores, atol=0.01)


def test_the_same_marks_give_the_same_file(file_archive: Archive) -> None:
    rows = marks_of(file_archive, "Swing", range(5))
    first = taught(file_archive, rows).read_bytes()
    assert taught(file_archive, rows).read_bytes() == first


def test_a_taught_model_can_be_taught_again(file_archive: Archive) -> None:
    model = taught(file_archive, marks_of(file_archive, "Swing", range(5)))
    source = find_model(str(model))
    videos = [
        with_vectors(make_video(f"/w/{n}.mp4", [{"Swing": 1.0}] * 3), vectors_of(["Surfing", "Biking", "Swing"], n))
        for n in range(6)
    ]
    publish_to(file_archive.tags.parent / "next.parquet", videos, identity=identity_of(source))
    finished = open_result(str(file_archive.tags.parent / "next.parquet"))
    rows: list[tuple[object, ...]] = [(f"/w/{n}.mp4", 0, 2, "Surfing") for n in range(4)]
    marks = write_marks(file_archive.tags.parent / "more.csv", rows)
    done = teach_model(finished, [marks], file_archive.tags.parent / "next.safetensors", str(model))
    assert done.labels == ("Biking", "Diving", "Swing", "Surfing")


def test_the_table_says_what_was_taught_how_well_and_what_comes_next(file_archive: Archive) -> None:
    rows = [
        *marks_of(file_archive, "Swing", range(6)),
        *marks_of(file_archive, "Diving", range(2)),
        *marks_of(file_archive, "Diving", range(2, 4), "not Biking"),
        ("/v/7.mp4", 0, 2, ""),
    ]
    marks = write_marks(file_archive.tags.parent / "marks.csv", rows)
    out = file_archive.tags.parent / "new.safetensors"
    arguments = ("teach", file_archive.tags, marks, "--model", file_archive.model, "--out", out)
    done = vtag(*arguments)
    assert (done.exit_code, done.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[0] == "label marks segments videos recall precision share of archive"
    swings = len(marks_of(file_archive, "Swing", range(6)))
    assert [line.split()[0] for line in lines[1:4]] == ["Biking", "Diving", "Swing"]
    assert lines[3].startswith(f"Swing (new) {swings} {swings} 6 100 % 100 % ")
    denials = len(marks_of(file_archive, "Diving", range(2, 4)))
    assert lines[1].startswith(f"Biking 0, not {denials} {denials} 2 ? ? ")
    assert lines[4] == (
        "Biking has marks in 2 videos: its accuracy is unknown; mark 5 to 10 more moments in other videos, see vtag "
        "search --like and vtag uncertain"
    )
    assert lines[5].startswith("the marks show Diving in 2 videos: this accuracy is a guess; mark 5 to 10 more moments")
    assert lines[6] == f"{out}: 3 labels, 1 new one"
    assert lines[7:] == [
        f"The archive again: vtag relabel {file_archive.tags} --model {out} --out relabelled.parquet",
        f"New videos: vtag run VIDEOS --model {out} --embeddings --out new.parquet",
    ]
    found = json.loads(vtag(*arguments, "--json").stdout)
    assert (found["result"], found["model"]) == (str(file_archive.tags), str(out))
    assert found["labels"] == ["Biking", "Diving", "Swing"] and 0.2 <= found["temperature"] <= 5
    assert [row["label"] for row in found["taught"]] == ["Biking", "Diving", "Swing"]
    assert found["taught"][2]["is_new"] and found["taught"][2]["recall"] == 1.0


def test_the_next_command_for_a_folder_writes_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    archive = make_archive(tmp_path, "tags")
    write_marks(tmp_path / "marks.csv", marks_of(archive, "Swing", range(5)))
    done = vtag("teach", "tags", "marks.csv", "--model", "old.safetensors", "--out", "new.safetensors")
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("The archive again:")]
    command = shlex.split(line.removeprefix("The archive again:"))
    assert command == ["vtag", "relabel", "tags", "--model", "new.safetensors", "--out", "relabelled"]
    assert vtag(*command[1:]).exit_code == 0


def test_marks_that_deny_a_label_do_not_hide_that_few_show_it(file_archive: Archive) -> None:
    rows = [*marks_of(file_archive, "Swing", range(3)), *marks_of(file_archive, "Diving", range(8), "not Swing")]
    marks = write_marks(file_archive.tags.parent / "marks.csv", rows)
    out = file_archive.tags.parent / "new.safetensors"
    done = vtag("teach", file_archive.tags, marks, "--model", file_archive.model, "--out", out)
    assert "the marks show Swing in 3 videos: this accuracy is a guess; mark 5 to 10 more moments" in done.stdout


def test_many_known_labels_with_few_marks_get_one_line_together(
    file_archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.cli.teach.MOST_WARNINGS", 1)
    rows = [row for label in ("Swing", "Diving", "Biking") for row in marks_of(file_archive, label, range(2))]
    marks = write_marks(file_archive.tags.parent / "marks.csv", rows)
    out = file_archive.tags.parent / "new.safetensors"
    done = vtag("teach", file_archive.tags, marks, "--model", file_archive.model, "--out", out)
    warnings = [line for line in done.stdout.splitlines() if "accuracy is" in line]
    assert [line.split(":")[0] for line in warnings] == [
        "the marks show Swing in 2 videos",
        "2 labels of the model have marks in fewer than 5 videos",
    ]


def refusal(*arguments: object) -> str:
    done = vtag(*arguments)
    assert done.exit_code == 1 and done.stdout == "" and len(done.stderr.splitlines()) == 1, done.output
    return done.stderr.removeprefix("vtag: ").rstrip("\n")


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([], "marks.csv: no row has a label; give each moment a label, or not LABEL"),
        ([("/v/0.mp4", 0, 2, "")], "marks.csv: no row has a label; give each moment a label, or not LABEL"),
        (
            [("/v/0.mp4", 2, 4, "Swing"), ("/v/0.mp4", 2.5, 4, "Swing")],
            "the new label Swing has marks in 1 segment: mark 2 or more, better 10 in different videos",
        ),
        ([("/v/0.mp4", 0, 2, "Swing"), ("/v/0.mp4", 0, 2, "Diving")], "marks.csv, line 3: the segment from 0 s to 2 s"),
        ([("/v/0.mp4", 0, 2, "Swing"), ("/v/9.mp4", 0, 2, "Swing")], "marks.csv, line 3: "),
        ([("/v/0.mp4", 99, 100, "Swing")], "marks.csv, line 2: /v/0.mp4 has no segment from 99 s to 100 s"),
        ([("/v/0.mp4", 3, 2, "Swing")], "marks.csv, line 2 is no moment: give a video, start_s, and an end_s after it"),
        (
            [("/v/0.mp4", 0, 2, "not Biking"), ("/v/0.mp4", 0, 2, "not Diving")],
            "marks.csv, line 2: the marks of this segment deny every label; mark what it shows",
        ),
        ([("/v/0.mp4", 0, 2, "not Bike")], "marks.csv, line 2: the taught model has no label 'Bike'"),
        ([("/v/0.mp4", 0, 2, "Not ")], "marks.csv, line 2: the taught model has no label ''; its 2 labels are Biking"),
    ],
)
def test_marks_that_cannot_be_used_are_refused_in_one_line(
    file_archive: Archive, rows: list[tuple[object, ...]], says: str
) -> None:
    marks = write_marks(file_archive.tags.parent / "marks.csv", rows)
    out = file_archive.tags.parent / "new.safetensors"
    message = refusal("teach", file_archive.tags, marks, "--model", file_archive.model, "--out", out)
    assert message.removeprefix(f"{marks.parent}/").startswith(says), message
    assert not out.exists()


def test_a_result_that_cannot_be_taught_from_is_refused_in_one_line(file_archive: Archive, tmp_path: Path) -> None:
    rows = marks_of(file_archive, "Swing", range(5))
    marks = write_marks(tmp_path / "marks.csv", rows)

    def teach(tags: Path, *options: object) -> str:
        return refusal("teach", tags, marks, "--out", tmp_path / "new.safetensors", *options)

    assert teach(tmp_path / "none.parquet") == f"there is no result at {tmp_path}/none.parquet"
    publish_to(tmp_path / "bare.parquet", [make_finished("/v/0.mp4")])
    assert teach(tmp_path / "bare.parquet").endswith(
        "bare.parquet has no embeddings; give its command of vtag run again with --embeddings --overwrite"
    )
    other = teach(file_archive.tags, "--model", "actions38")
    assert other.startswith("--model actions38 is another model (") and other.endswith(
        "give that model with --model FILE"
    )
    assert teach(file_archive.tags).endswith("; give its file with --model FILE")
    identity = identity_of(find_model(str(file_archive.model)))
    publish_to(tmp_path / "empty.parquet", [make_finished("/v/0.mp4", "")], identity=identity)
    empty = teach(tmp_path / "empty.parquet", "--model", file_archive.model)
    assert empty.endswith("empty.parquet has no segments: no video of it could be read")
    output = find_output(str(tmp_path / "half.parquet"))
    Ledger.open(output.run_folder, IDENTITY)
    assert "half.parquet.run holds an interrupted run" in teach(tmp_path / "half.parquet")


def test_a_model_whose_answers_are_not_in_embeddings_is_refused(file_archive: Archive, tmp_path: Path) -> None:
    info, weights = read_model_info(file_archive.model), read_weights(file_archive.model)
    save_model_file(tmp_path / "lstm.safetensors", replace(info, options={"head": "lstm"}), weights)
    source = find_model(str(tmp_path / "lstm.safetensors"))
    video = with_vectors(make_video("/v/0.mp4", [{"Biking": 1.0}] * 2), vectors_of(["Swing"] * 2, 0))
    publish_to(tmp_path / "t.parquet", [video], identity=identity_of(source))
    marks = write_marks(tmp_path / "marks.csv", [("/v/0.mp4", 0, 4, "Swing")])
    arguments = ("teach", tmp_path / "t.parquet", marks, "--out", tmp_path / "new.safetensors")
    assert refusal(*arguments, "--model", source.file) == (
        "lstm looks at the order of the frames, which embeddings do not keep; train a model with --head mean"
    )


def test_the_model_that_made_the_result_is_never_replaced(file_archive: Archive) -> None:
    before = file_archive.model.read_bytes()
    marks = write_marks(file_archive.tags.parent / "marks.csv", marks_of(file_archive, "Swing", range(5)))
    message = refusal("teach", file_archive.tags, marks, "--model", file_archive.model, "--out", file_archive.model)
    assert message.startswith(f"--out {file_archive.model} is the model that made ")
    assert file_archive.model.read_bytes() == before


def test_places_that_cannot_hold_the_model_are_refused(archive: Archive, tmp_path: Path) -> None:
    marks = write_marks(tmp_path / "marks.csv", marks_of(archive, "Swing", range(5)))
    arguments = ("teach", archive.tags, marks, "--model", archive.model, "--out")
    assert "does not exist; create it first" in refusal(*arguments, tmp_path / "none" / "m.safetensors")
    assert "it is a folder; name a file" in refusal(*arguments, tmp_path)
    if archive.tags.is_dir():
        assert "is in the folder of the result" in refusal(*arguments, archive.tags / "m.safetensors")
    assert vtag(*arguments, "s3://bucket/m.safetensors").exit_code == 2
