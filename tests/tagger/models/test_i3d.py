"""Tests of I3D: it has the logits of pytorchvideo's module, and loads only pytorchvideo's checkpoints."""

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tagger.classifier import Classifier
from tagger.errors import WeightsError
from tagger.models.i3d import I3DLSTM, I3DKinetics400
from tagger.models.kinetics import I3D_KINETICS, KINETICS_PREPROCESSING
from tagger.models.model_zoo import I3D_CHECKPOINT
from tagger.tagger import find_model
from tagger.windows import Sampling

TINY_SHAPES = {"blocks.0.conv.weight": (4, 3), "blocks.6.proj.bias": (5,)}


def tiny_weights() -> dict[str, torch.Tensor]:
    return {name: torch.randn(shape) for name, shape in TINY_SHAPES.items()}


def is_one_line_naming_weights(error: WeightsError, path: Path) -> bool:
    return "\n" not in str(error) and str(path) in str(error) and "--weights FILE" in str(error)


@pytest.mark.parametrize("frames", [8, pytest.param(16, marks=pytest.mark.slow)])
def test_the_logits_are_those_of_pytorchvideos_own_module(
    frames: int, pytorchvideo_i3d: nn.Module, kinetics_checkpoint: Path
) -> None:
    network = I3DKinetics400().eval()
    I3D_CHECKPOINT.load(network, kinetics_checkpoint)
    clip = torch.randn(1, 3, frames, 224, 224, generator=torch.Generator().manual_seed(frames))
    with torch.inference_mode():
        expected = pytorchvideo_i3d(clip)
        actual = network(clip)
    assert expected.std() > 1e-3  # The logits differ, so the comparison below is meaningful.
    assert actual.min() < 0  # logits, not probabilities
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


def test_the_classifier_runs_it_in_bfloat16_on_the_cpu(kinetics_checkpoint: Path) -> None:
    network = I3DKinetics400()
    I3D_CHECKPOINT.load(network, kinetics_checkpoint)
    classifier = Classifier(network, KINETICS_PREPROCESSING, device="cpu", precision="bf16")
    clips = np.random.default_rng(0).integers(0, 256, (1, 8, 224, 224, 3), dtype=np.uint8)
    probabilities = classifier.probabilities(clips)
    assert probabilities.shape == (1, 400)
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)


def test_fine_tuning_takes_the_backbone_of_a_checkpoint_and_leaves_the_head(
    pytorchvideo_i3d: nn.Module, kinetics_checkpoint: Path
) -> None:
    network = I3DLSTM(classes=3, hidden=8)
    head = {name: tensor.clone() for name, tensor in network.head.state_dict().items()}
    I3D_CHECKPOINT.load_backbone(network, kinetics_checkpoint)
    theirs = {
        name: tensor for name, tensor in pytorchvideo_i3d.blocks[:-1].state_dict().items() if "num_batches" not in name
    }
    ours = network.backbone.state_dict()
    assert theirs
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())
    assert all(torch.equal(tensor, head[name]) for name, tensor in network.head.state_dict().items())


def test_a_checkpoint_with_another_head_is_good_enough_for_the_backbone_only(
    pytorchvideo_i3d: nn.Module, tmp_path: Path
) -> None:
    weights = dict(pytorchvideo_i3d.state_dict())
    weights |= {"blocks.6.proj.weight": torch.zeros(7, 2048), "blocks.6.proj.bias": torch.zeros(7)}
    path = tmp_path / "seven.safetensors"
    save_file(weights, path)
    I3D_CHECKPOINT.load_backbone(I3DLSTM(classes=3, hidden=8), path)
    with pytest.raises(WeightsError, match=r"blocks\.6\.proj\.weight is \[7, 2048\], not \[400, 2048\]"):
        I3D_CHECKPOINT.load(I3DKinetics400(), path)


@pytest.mark.parametrize("form", ["model_state", "state dict", "safetensors"])
def test_a_checkpoint_may_have_three_forms(form: str, tmp_path: Path) -> None:
    weights = tiny_weights()
    path = tmp_path / ("x.safetensors" if form == "safetensors" else "x.pyth")
    if form == "safetensors":
        save_file(weights, path)
    else:
        torch.save({"model_state": weights} if form == "model_state" else weights, path)
    loaded = I3D_CHECKPOINT.read(path, TINY_SHAPES)
    assert all(torch.equal(loaded[name], weights[name]) for name in TINY_SHAPES)


@pytest.mark.parametrize("module", ["numpy._core.multiarray", "numpy.core.multiarray"])
def test_numpy_numbers_in_the_training_state_do_no_harm(module: str, tmp_path: Path) -> None:
    weights = tiny_weights()
    saved, path = tmp_path / "saved.pyth", tmp_path / "x.pyth"
    torch.save({"model_state": weights, "optimizer_state": {"lr": np.float64(0.1)}}, saved)
    with zipfile.ZipFile(saved) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            for written in (b"numpy._core.multiarray", b"numpy.core.multiarray"):
                content = content.replace(written + b"\nscalar", module.encode() + b"\nscalar")
            target.writestr(name, content)
    assert module.encode() in path.read_bytes()
    assert torch.equal(
        I3D_CHECKPOINT.read(path, TINY_SHAPES)["blocks.6.proj.bias"],
        weights["blocks.6.proj.bias"],
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"model_state": {}}, "2 of 2 tensors are missing, first blocks.0.conv.weight"),
        ({"model_state": {"blocks.0.conv.weight": torch.zeros(4, 3)}}, "1 of 2 tensors are missing"),
        ({"blocks.0.conv.weight": "x", "blocks.6.proj.bias": torch.zeros(5)}, "1 of 2 tensors are missing"),
        ({**tiny_weights(), "blocks.6.proj.bias": torch.zeros(6)}, r"blocks.6.proj.bias is \[6\], not \[5\]"),
        ({"model_state": 3}, "it holds a dict"),
        ([1, 2], "it holds a list"),
    ],
)
def test_a_checkpoint_of_another_structure_is_refused(content: object, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "x.pyth"
    torch.save(content, path)
    with pytest.raises(WeightsError, match=reason) as caught:
        I3D_CHECKPOINT.read(path, TINY_SHAPES)
    assert is_one_line_naming_weights(caught.value, path)


@pytest.mark.parametrize("name", ["x.pyth", "x.safetensors"])
@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html>\n<html>", bytes(range(256)) * 40])
def test_a_file_that_is_no_checkpoint_is_refused(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(WeightsError) as caught:
        I3D_CHECKPOINT.read(path, TINY_SHAPES)
    assert is_one_line_naming_weights(caught.value, path)


class RunsCode:
    """Unpickling it creates a file."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> tuple:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("write", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content, 2))])
def test_no_code_in_a_checkpoint_is_run(write, tmp_path: Path) -> None:
    path, marker = tmp_path / "x.pyth", tmp_path / "marker"
    write({"model_state": tiny_weights(), "extra": RunsCode(marker)}, path)
    with pytest.raises(WeightsError):
        I3D_CHECKPOINT.read(path, TINY_SHAPES)
    assert not marker.exists()


def test_by_default_it_sees_every_other_frame_of_a_window_as_it_was_trained() -> None:
    info = I3D_KINETICS.info()
    assert str(info.sampling) == "8×8 @ 30 fps"
    whole = I3D_KINETICS.samplings[1]
    assert str(whole) == "16×4 @ 30 fps"
    # The windows are the same: they start and end at the same times.
    assert info.sampling.window_s == whole.window_s == pytest.approx(64 / 30)
    assert [info.sampling.start_s(window) for window in range(9)] == [whole.start_s(window) for window in range(9)]
    assert [info.sampling.sample_s(3, i) for i in range(8)] == [whole.sample_s(3, 2 * i) for i in range(8)]


def test_a_user_may_choose_all_16_frames(kinetics_checkpoint: Path) -> None:
    assert find_model("i3d-kinetics400", kinetics_checkpoint).info.sampling == Sampling(8, 8)
    assert find_model("i3d-kinetics400", kinetics_checkpoint, frames=16).info.sampling == Sampling(16, 4)


def test_every_other_frame_halves_the_arithmetic() -> None:
    classifier = Classifier(I3DKinetics400(), KINETICS_PREPROCESSING, device="cpu", precision="fp32")
    assert classifier.operations(8) / classifier.operations(16) == pytest.approx(0.5, abs=0.01)


def test_the_kinetics_model_describes_itself() -> None:
    info = I3D_KINETICS.info()
    assert len(info.labels) == 400
    assert info.preprocessing == KINETICS_PREPROCESSING
    assert info.temperature == 1
