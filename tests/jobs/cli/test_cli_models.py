"""``vtag models``: the list of models, and the description of one."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import Result

from jobs.cli import main
from tagger import read_model_info, save_model_file
from tagger.file_content import file_hash
from tagger.model_file import EmbeddingSpace, read_weights
from tagger.models.kinetics import KINETICS
from tagger.models.registry import ARCHITECTURES, BUILTIN, KNOWN_MODELS
from tests.click_runner import CliRunner


def vtag(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["models", *arguments], env={"COLUMNS": "80"})


def test_all_models_are_listed_with_their_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VTAG_CACHE", str(tmp_path))
    done = vtag()
    assert done.exit_code == 0
    assert f"{KINETICS} is downloaded when first used, to {tmp_path}" in done.stdout
    rows = {row["name"]: row for row in json.loads(vtag("--json").stdout)}
    assert set(rows) == {BUILTIN, *ARCHITECTURES}
    for name, row in rows.items():
        assert name in done.stdout
        assert row["state"] in done.stdout
    assert rows["i3d-lstm"]["state"] == "to be trained"
    assert Path(rows[KINETICS]["weights"]).parent == tmp_path


LICENCES = {
    BUILTIN: "EfficientNet-Lite0, its start, is Apache-2.0",
    KINETICS: "not stated for the weights",
    "x3d-m-kinetics400": "not stated for the weights",
    "i3d-lstm": "not stated for the weights",
    "i3d-lite-lstm": "the package states none",
}


@pytest.mark.parametrize("name", KNOWN_MODELS)
def test_source_licence_and_protocol_of_the_weights_are_told(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VTAG_CACHE", str(tmp_path))
    described = json.loads(vtag(name, "--json").stdout)
    (row,) = (row for row in json.loads(vtag("--json").stdout) if row["name"] == name)
    assert described["licence"] == row["licence"]
    if name not in LICENCES:
        assert row["source"] == "none: trained from scratch"
        return
    assert LICENCES[name] in row["licence"]
    listed, shown = (" ".join(vtag(*arguments).stdout.split()) for arguments in ((), (name,)))
    for key in ("source", "licence", "protocol"):
        assert row[key] == described[key]
        # Long words are folded.
        assert row[key].replace(" ", "") in listed.replace(" ", "")
        assert row[key].replace(" ", "") in shown.replace(" ", "")


def test_the_protocol_of_published_scores_is_told() -> None:
    described = json.loads(vtag(KINETICS, "--json").stdout)
    assert described["scores"] == {"top1": 0.7327, "top5": 0.907}
    assert "3 crops of 256×256 × 10 clips" in described["protocol"]
    assert described["url"].endswith("I3D_8x8_R50.pyth")
    assert "neither size nor check sum is published" in described["check"]


def test_both_ways_of_seeing_a_window_are_told() -> None:
    shown = vtag(KINETICS).stdout
    assert "8×8 @ 30 fps: windows of 2.13 s" in shown
    assert "--frames 16: 16×4 @ 30 fps" in shown
    assert "other samplings" not in vtag("x3d-m-kinetics400").stdout


def test_a_model_is_ready_when_its_weights_are_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VTAG_CACHE", str(tmp_path))
    rows = {row["name"]: row for row in json.loads(vtag("--json").stdout)}
    Path(rows[KINETICS]["weights"]).touch()
    rows = {row["name"]: row for row in json.loads(vtag("--json").stdout)}
    assert rows[KINETICS]["state"] == "ready"


def test_a_model_file_is_described(model_file: Path) -> None:
    done = vtag(str(model_file))
    assert done.exit_code == 0
    for text in (
        "cnn3d-lstm",
        "3: Biking, Diving, Swing",
        "16×4 @ 30 fps: windows of 2.13 s",
        "the whole frame, squeezed to 112×112",
        "1.25",
        "clips test 20, train 60",
        "accuracy 0.9123",
        file_hash(model_file),
    ):
        assert text in done.stdout, text


def test_a_description_as_json_is_complete(model_file: Path) -> None:
    values = json.loads(vtag(str(model_file), "--json").stdout)
    assert values["labels"] == ["Biking", "Diving", "Swing"]
    assert values["bytes"] == model_file.stat().st_size
    assert values["scores"]["videos"]["confusion"] == [[1, 0], [0, 1]]
    assert values["sampling"]["num_frames"] == 16


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_an_architecture_is_described_without_any_download(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VTAG_CACHE", str(tmp_path))
    done = vtag(name)
    assert done.exit_code == 0
    assert ARCHITECTURES[name].summary.split(",")[0][:30] in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_name_or_file_that_is_not_a_model_gives_a_one_line_error(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.safetensors"
    foreign.write_bytes(b"not a model")
    for argument in ("no-such-model", str(tmp_path / "missing.safetensors"), str(foreign)):
        done = vtag(argument)
        assert done.exit_code == 1
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1
        assert done.stderr.startswith("vtag: ")
        assert argument in done.stderr


def test_a_model_with_the_label_background_has_a_background_class(model_file: Path, tmp_path: Path) -> None:
    def described(*labels: str) -> tuple[str, dict]:
        file = tmp_path / "m.safetensors"
        save_model_file(file, replace(read_model_info(model_file), labels=labels), read_weights(model_file))
        return vtag(str(file)).stdout, json.loads(vtag(str(file), "--json").stdout)

    shown, values = described("Biking", "Swing", "background")
    assert "background class  yes: windows that show none of the other classes get the" in shown
    assert values["background class"] is True
    shown, values = described("Biking", "Swing", "Background of a stage")
    assert "background class" not in shown and "background class" not in values


def test_a_description_says_what_embeddings_keep_of_the_model(model_file: Path, tmp_path: Path) -> None:
    def kept(model: object) -> str:
        return str(json.loads(vtag(str(model), "--json").stdout)["embeddings"])

    assert kept(BUILTIN) == "they keep all that the head uses, in 384 values"
    assert "embeddings        they keep all that the head uses" in vtag(BUILTIN).stdout
    for_questions = ": for vtag search, similar, clusters and uncertain, not for vtag teach and relabel"
    assert kept(KINETICS) == f"they keep the average features in 512 values, by a random projection{for_questions}"
    info, weights = read_model_info(model_file), read_weights(model_file)
    space = EmbeddingSpace(4, 8, "0123")
    for head, labels, says in (
        ("lstm", "ab", "not their order, which the LSTM uses"),
        ("lstm-last", "ab", "not their order, which the LSTM uses"),
        ("mean", "abcd", "not all that 4 classes use"),
    ):
        other = replace(info, options={"head": head}, labels=tuple(labels), embedding=space)
        save_model_file(tmp_path / "m.safetensors", other, weights)
        assert kept(tmp_path / "m.safetensors") == f"they keep the average features in 4 values, {says}{for_questions}"
