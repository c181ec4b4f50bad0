"""Tests of the 3D CNN: it keeps the order of frames, differences show only what moves, and it can learn."""

from functools import partial
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

from tagger.classifier import Classifier, normalise
from tagger.models.cnn3d import CNN3DLSTM, CNN3DBackbone, StackedConv3d
from tagger.models.heads import HeadName
from tagger.models.registry import CNN3D_PREPROCESSING


@pytest.mark.parametrize(
    ("differences", "seen"),
    # Three convolutions cover three steps on each side, and frame 12 is in differences 11 and 12.
    [(False, [9, 10, 11, 12, 13, 14, 15]), (True, [8, 9, 10, 11, 12, 13, 14])],
)
def test_features_keep_the_order_of_the_frames(differences: bool, seen: list[int]) -> None:
    torch.manual_seed(0)
    backbone = CNN3DBackbone((4, 8, 8), differences).eval()
    clip = torch.zeros(1, 3, 16, 32, 32)
    moved = clip.clone()
    moved[:, :, 12] = 1
    with torch.inference_mode():
        changed = (backbone(moved) - backbone(clip)).abs().amax(dim=(0, 2)) > 0
    assert changed.nonzero().flatten().tolist() == seen


def test_differences_show_nothing_of_what_stands_still() -> None:
    torch.manual_seed(0)
    backbone = CNN3DBackbone((4, 8, 8), differences=True).eval()
    moving, place = torch.rand(1, 3, 8, 32, 32), torch.rand(1, 3, 1, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(backbone(moving + place), backbone(moving))
        assert not torch.allclose(backbone(moving.flip(2)), backbone(moving))


def test_any_picture_size_and_length_gives_features_of_one_width() -> None:
    frames = CNN3DBackbone(filters=(4, 8, 8)).eval()
    for length, height, width in ((16, 112, 112), (8, 64, 96), (1, 40, 33)):
        assert frames(torch.rand(1, 3, length, height, width)).shape == (1, length, 8 * 16)
    differences = CNN3DBackbone((4, 8, 8), differences=True).eval()
    for length, height, width in ((16, 112, 112), (8, 64, 96), (2, 16, 33)):
        assert differences(torch.rand(1, 3, length, height, width)).shape == (1, length - 1, 8 * 16)


@pytest.mark.parametrize("frames", [1, 2, 5])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (5, 2)])
def test_a_stacked_convolution_and_its_gradients_are_those_of_a_3d_convolution(
    frames: int, kernel: int, stride: int
) -> None:
    torch.manual_seed(0)
    stacked = StackedConv3d(3, 8, kernel, stride).double()
    gradients = []
    for forward in (stacked, partial(nn.Conv3d.forward, stacked)):
        stacked.zero_grad()
        clips = torch.rand(2, frames, 29, 30, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        clips = clips.permute(0, 4, 1, 2, 3).requires_grad_()
        result = forward(clips)
        result.square().sum().backward()
        assert clips.grad is not None and stacked.weight.grad is not None
        gradients.append((result, clips.grad, stacked.weight.grad))
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("frames", [2, 4, 8])
@pytest.mark.parametrize("differences", [False, True])
def test_gradients_of_few_frames_in_bfloat16_are_close_to_those_in_float32(differences: bool, frames: int) -> None:
    # PyTorch's own 3D convolutions fail here on some CPUs, each on other numbers of frames.
    torch.manual_seed(0)
    backbone = CNN3DBackbone(differences=differences).to(memory_format=torch.channels_last_3d)
    clips = torch.randn(4, frames, 112, 112, 3).permute(0, 4, 1, 2, 3)
    shape = backbone(clips).shape
    direction = torch.randn(shape)
    gradients = []
    for precision in (torch.float32, torch.bfloat16):
        backbone.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            features = backbone(clips)
        features.backward(direction.to(features.dtype))
        gradients.append([block[0].weight.grad.clone() for block in backbone.blocks])
    for full, half in zip(*gradients, strict=True):
        assert (half - full).norm() <= 0.3 * full.norm()


@pytest.mark.parametrize("differences", [False, True])
def test_bfloat16_features_are_close_to_float32(differences: bool) -> None:
    torch.manual_seed(0)
    backbone = CNN3DBackbone(differences=differences).eval()
    clip = torch.rand(1, 3, 4, 112, 112)
    with torch.inference_mode():
        full = backbone(clip)
        half = backbone.bfloat16()(clip.bfloat16()).float()
    assert full.std() > 0
    torch.testing.assert_close(half, full, rtol=0.1, atol=0.05 * full.abs().max().item())


# The shapes in the docstring of tagger/models/cnn3d.py.
DOCUMENTED = {
    (True, 112): ((32, 15, 28, 28), (64, 15, 14, 14), (128, 15, 7, 7), (15, 2048)),
    (False, 112): ((32, 16, 56, 56), (64, 16, 28, 28), (128, 16, 14, 14), (16, 2048)),
    (False, 224): ((32, 16, 112, 112), (64, 16, 56, 56), (128, 16, 28, 28), (16, 2048)),
    (True, 224): ((32, 15, 56, 56), (64, 15, 28, 28), (128, 15, 14, 14), (15, 2048)),
}


@pytest.mark.parametrize(("differences", "size"), DOCUMENTED)
def test_the_maps_and_features_of_every_input_have_the_documented_shapes(differences: bool, size: int) -> None:
    with torch.device("meta"):  # shapes without arithmetic
        backbone = CNN3DBackbone(differences=differences).eval()
        shapes = []
        for block in backbone.blocks:
            block.register_forward_hook(lambda module, inputs, maps: shapes.append(tuple(maps.shape[1:])))
        features = backbone(torch.empty(2, 3, 16, size, size))
    assert (*shapes, tuple(features.shape[1:])) == DOCUMENTED[differences, size]


@torch.inference_mode()
def test_the_textbook_form_sees_a_clip_only_through_its_lstm() -> None:
    torch.manual_seed(0)
    network = CNN3DLSTM(5, "lstm-last", hidden=8, filters=(4, 8, 8)).eval()
    clips = torch.rand(2, 3, 4, 32, 32)
    seen = network(clips)
    assert not torch.allclose(seen[0], seen[1])
    network.get_submodule("head.lstm").register_forward_hook(
        lambda module, inputs, outputs: (torch.zeros_like(outputs[0]), outputs[1])
    )
    silent = network(clips)
    assert torch.equal(silent[0], silent[1])


@pytest.mark.parametrize(("differences", "kernel"), [(False, (3, 3, 3)), (True, (3, 5, 5))])
def test_the_weights_keep_the_names_and_shapes_of_older_model_files(differences: bool, kernel: tuple[int, ...]) -> None:
    with torch.device("meta"):
        weights = CNN3DLSTM(20, differences=differences).state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items() if tensor.ndim > 1}
    assert shapes == {
        "backbone.blocks.0.0.weight": (32, 3, *kernel),
        "backbone.blocks.1.0.weight": (64, 32, 3, 3, 3),
        "backbone.blocks.2.0.weight": (128, 64, 3, 3, 3),
        "head.lstm.weight_ih_l0": (512, 2048),
        "head.lstm.weight_hh_l0": (512, 128),
        "head.dense.weight": (20, 128 + 2048),
    }


@pytest.mark.parametrize("size", [112, 224])
@pytest.mark.parametrize("differences", [False, True])
@pytest.mark.parametrize("head", get_args(HeadName))
@torch.inference_mode()
def test_the_fast_form_in_which_the_tagger_runs_it_gives_the_same_logits(
    head: HeadName, differences: bool, size: int
) -> None:
    torch.manual_seed(0)
    network = CNN3DLSTM(5, head, hidden=8, filters=(4, 8, 8), differences=differences)
    clips = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 4, size, size, 3), dtype=np.uint8))
    inputs = normalise(clips, CNN3D_PREPROCESSING)
    network.train()(inputs)  # norms that are not trivial
    expected = network.eval()(inputs)
    fast = Classifier(network, CNN3D_PREPROCESSING, device="cpu", precision="fp32").logits(clips.numpy())
    assert not torch.allclose(expected[0], expected[1], atol=1e-3)
    torch.testing.assert_close(torch.from_numpy(fast), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("head", ["lstm", "lstm-last"])
@pytest.mark.parametrize("differences", [False, True])
def test_it_learns_to_tell_motion_to_the_left_from_motion_to_the_right(differences: bool, head: HeadName) -> None:
    # Each single frame is equally likely in both classes. Only the order of the frames distinguishes them.
    torch.manual_seed(0)
    network = CNN3DLSTM(2, head, hidden=16, dropout=0.0, filters=(4, 8, 8), differences=differences).train()
    clips = torch.zeros(8, 3, 8, 16, 16)
    labels = torch.arange(8) % 2
    for i, label in enumerate(labels.tolist()):
        for t in range(8):
            x = 2 * (i // 2 + (t if label else -t)) % 16
            clips[i, :, t, :, x : x + 2] = 1
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(20):
        loss = torch.nn.functional.cross_entropy(network(clips), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (network(clips).argmax(dim=1) == labels).float().mean() >= 0.9
