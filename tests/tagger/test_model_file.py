"""Tests of model files: they restore what was saved. Any other file gives a one-line error and runs no code."""

import json
import pickle
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from tagger.errors import ModelFileError, VtagError
from tagger.model_file import ModelInfo, read_model_info, read_weights, save_model_file
from tagger.models.registry import CNN3D_PREPROCESSING, build_network
from tagger.ood import OODCalibration
from tagger.tagger import find_model
from tagger.windows import Sampling

INFO = ModelInfo(
    architecture="cnn3d-lstm",
    labels=("Schwimmen", "泳ぐ", "push-ups"),
    sampling=Sampling(16, 2, 25.0, hop_s=0.5),
    preprocessing=CNN3D_PREPROCESSING,
    temperature=1.25,
    options={"hidden": 8, "filters": [4, 4, 4]},
    training={"epochs": 3, "groups": ["g01", "g02"]},
    scores={"accuracy": 0.75},
    ood=OODCalibration((-7.5, -3.25, -0.125)),
)


@pytest.fixture(scope="module")
def model_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    network = build_network(INFO.architecture, len(INFO.labels), dict(INFO.options))
    save_model_file(path, INFO, network.state_dict())
    return path.read_bytes()


@pytest.fixture
def model(model_bytes: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    path.write_bytes(model_bytes)
    return path


def rewrite(path: Path, metadata: dict[str, str] | None) -> None:
    """Writes the same weights with other metadata."""
    save_file(load_file(path), path, metadata=metadata)


def with_values(**changes: object) -> dict[str, str]:
    return {"vtag": json.dumps({"format": 2, **asdict(INFO), **changes})}


def message(path: Path) -> str:
    """Returns the error message for a model file that cannot be used."""
    with pytest.raises(ModelFileError) as caught:
        find_model(str(path)).load("cpu")
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value) or INFO.architecture in str(caught.value)
    return str(caught.value)


def test_a_model_file_brings_back_everything(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    weights = {
        "norm.weight": torch.randn(3, 2).t(),  # not contiguous
        "norm.num_batches_tracked": torch.tensor(7),
    }
    save_model_file(path, INFO, weights)
    assert read_model_info(path) == INFO
    loaded = read_weights(path)
    assert loaded.keys() == weights.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in weights.items())
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_half_precision_weights_come_back_as_float32(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    weight = torch.randn(5).half()
    save_model_file(path, INFO, {"weight": weight, "count": torch.tensor(7)})
    loaded = read_weights(path)
    assert loaded["weight"].dtype == torch.float32
    assert torch.equal(loaded["weight"], weight.float())
    assert loaded["count"].dtype == torch.int64


def test_a_model_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    save_model_file(tmp_path / "m.safetensors", INFO, {"w": torch.rand(2)})
    (tmp_path / "any").touch()
    assert (tmp_path / "m.safetensors").stat().st_mode == (tmp_path / "any").stat().st_mode


def test_a_save_that_fails_leaves_the_old_file(model: Path, model_bytes: bytes) -> None:
    with pytest.raises(TypeError):
        save_model_file(model, ModelInfo(**{**vars(INFO), "scores": {"x": object()}}), {"w": torch.zeros(1)})
    assert model.read_bytes() == model_bytes
    assert list(model.parent.iterdir()) == [model]


def test_a_model_file_is_found_and_loaded_by_its_path(model: Path) -> None:
    source = find_model(str(model))
    assert (source.name, source.file, source.info) == ("model", model, INFO)
    assert source.load("cpu").probabilities(torch.zeros(1, 2, 112, 112, 3, dtype=torch.uint8).numpy()).shape == (1, 3)


@pytest.mark.parametrize("keep", [0, 4, 8, 100, 0.5, -1])
def test_a_truncated_file_is_refused(keep: float, model: Path, model_bytes: bytes) -> None:
    model.write_bytes(model_bytes[: int(len(model_bytes) * keep) if isinstance(keep, float) else keep])
    assert "is not a readable .safetensors file" in message(model)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_flipped_bit_in_the_header_is_one_line_or_harmless(
    data: st.DataObject, model_bytes: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    header = 8 + int.from_bytes(model_bytes[:8], "little")
    position = data.draw(st.integers(0, header - 1))
    damaged = bytearray(model_bytes)
    damaged[position] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path_factory.getbasetemp() / "flipped.safetensors"
    path.write_bytes(damaged)
    try:
        find_model(str(path)).load("cpu")
    except VtagError as error:
        assert "\n" not in str(error)


@given(content=st.binary(max_size=200))
def test_random_bytes_are_refused(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "random.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelFileError):
        read_model_info(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_a_safetensors_file_of_another_program_is_refused(metadata: dict[str, str] | None, model: Path) -> None:
    rewrite(model, metadata)
    assert "not one that vtag wrote" in message(model)


def test_a_file_from_a_newer_vtag_asks_for_an_upgrade(model: Path) -> None:
    rewrite(model, with_values(format=5, something_new=True))
    assert "newer vtag (format 5)" in message(model)
    assert "upgrade vtag" in message(model)


def test_a_file_of_format_2_sees_the_centre(model: Path) -> None:
    """Format 2 is from a vtag that saw the centre of each frame."""
    preprocessing = {name: value for name, value in asdict(INFO.preprocessing).items() if name != "view"}
    rewrite(model, with_values(format=2, preprocessing=preprocessing))
    assert INFO.preprocessing.view == "whole"
    assert read_model_info(model).preprocessing == replace(INFO.preprocessing, view="centre")


def test_a_view_that_this_vtag_does_not_know_is_refused(model: Path) -> None:
    rewrite(model, with_values(preprocessing={**asdict(INFO.preprocessing), "view": "left"}))
    assert "has damaged vtag metadata" in message(model) and "view is 'left'" in message(model)


def test_a_file_of_format_1_is_read_without_an_ood_calibration(model: Path) -> None:
    """Format 1 is from a vtag without OOD calibration. That vtag asks for an upgrade when it reads a newer file."""
    values = {name: value for name, value in asdict(INFO).items() if name != "ood"}
    rewrite(model, {"vtag": json.dumps({"format": 1, **values})})
    assert read_model_info(model) == replace(INFO, ood=None)
    clips = torch.zeros(1, 2, 112, 112, 3, dtype=torch.uint8).numpy()
    assert find_model(str(model)).load("cpu").classify(clips)[1] is None


@pytest.mark.parametrize(
    "metadata",
    [
        {"vtag": "{"},
        {"vtag": "3"},
        {"vtag": '"text"'},
        {"vtag": "[]"},
        {"vtag": "{}"},
        with_values(format="one"),
        with_values(labels=None),
        with_values(sampling={"num_frames": 0}),
        with_values(preprocessing={}),
        with_values(colour="red"),
        with_values(ood={}),
        with_values(ood={"energies": []}),
        with_values(ood={"energies": [2, 1]}),
        with_values(ood={"energies": [1, "much"]}),
        with_values(ood={"energies": [1, float("nan")]}),
    ],
)
def test_damaged_metadata_is_refused(metadata: dict[str, str], model: Path) -> None:
    rewrite(model, metadata)
    assert "has damaged vtag metadata" in message(model)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"labels": ["one"]}, "does not hold the weights it describes"),
        ({"options": {"hidden": 9, "filters": [4, 4, 4]}}, "does not hold the weights it describes"),
        ({"options": {"depth": 9}}, "cannot be built"),
        ({"architecture": "cnn3d-lstm-2"}, "unknown architecture"),
    ],
)
def test_weights_that_do_not_fit_the_description_are_refused(changes: dict, reason: str, model: Path) -> None:
    rewrite(model, with_values(**changes))
    assert reason in message(model)


class RunsCode:
    """Unpickling it creates a file."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> tuple:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("name", ["model.pt", "model.pth", "model.safetensors", "model"])
@pytest.mark.parametrize("write", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_a_pickle_is_refused_and_never_unpickled(name: str, write, tmp_path: Path) -> None:
    path, marker = tmp_path / name, tmp_path / "marker"
    write(RunsCode(marker), path)
    assert "is not a readable .safetensors file" in message(path)
    assert not marker.exists()


def test_a_folder_is_not_a_model_file(tmp_path: Path) -> None:
    message(tmp_path)


def test_a_model_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "does not exist" in message(tmp_path / "none.safetensors")


def test_an_unknown_model_name_lists_the_known_names() -> None:
    with pytest.raises(ModelFileError, match=r"there is no model 'resnet'; use .*i3d-kinetics400"):
        find_model("resnet")


@pytest.mark.parametrize("architecture", ["i3d-lstm", "cnn3d-lstm", "i3d-lite-lstm"])
def test_a_model_that_must_be_trained_first_gives_the_command(architecture: str) -> None:
    with pytest.raises(ModelFileError, match=f"vtag train DATA --model {architecture}"):
        find_model(architecture)


def test_weights_are_accepted_only_for_i3d_kinetics400(model: Path) -> None:
    with pytest.raises(ModelFileError, match="--weights is for i3d-kinetics400"):
        find_model(str(model), weights="x.pyth")
