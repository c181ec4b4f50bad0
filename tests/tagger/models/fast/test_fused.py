"""Tests of fused networks: they compute the same as the original network, with less work."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from tagger.models.fast.fused import FusedConv3d, fuse
from tagger.models.i3d_lite import LiteBackbone, imagenet_weights, inflate
from tagger.models.registry import build_network

NETWORKS: dict[str, tuple[str, dict[str, Any], int]] = {
    "i3d-kinetics400": ("i3d-kinetics400", {}, 32),
    "x3d-m-kinetics400": ("x3d-m-kinetics400", {}, 64),
    "i3d-lstm": ("i3d-lstm", {}, 32),
    "cnn3d-lstm": ("cnn3d-lstm", {}, 32),
    "cnn3d-lstm on differences": ("cnn3d-lstm", {"differences": True}, 32),
    "i3d-lite-lstm": ("i3d-lite-lstm", {}, 64),
    "i3d-lite-lstm with changes": ("i3d-lite-lstm", {"changes": True}, 60),
    "i3d-lite-lstm with their order": ("i3d-lite-lstm", {"changes": True, "order": True}, 60),
}


def a_backbone(name: str) -> tuple[nn.Module, torch.Tensor]:
    """A backbone with norms that are not trivial, and a clip for it."""
    architecture, options, size = NETWORKS[name]
    torch.manual_seed(0)
    backbone = build_network(architecture, 5, options).get_submodule("backbone")
    clip = torch.randn(2, 3, 8, size, size)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
            # The statistics of this clip keep the output of random layers from fading out.
            module.momentum = 1.0
    with torch.no_grad():
        backbone.train()(clip)
    return backbone.eval(), clip


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("precision", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-3)])
@torch.inference_mode()
def test_a_fused_network_computes_the_same(name: str, precision: torch.dtype, tolerance: float) -> None:
    backbone, clip = a_backbone(name)
    backbone, clip = backbone.to(precision), clip.to(precision)
    expected = backbone(clip)
    actual = fuse(copy.deepcopy(backbone))(clip)
    assert expected.std() > 0
    assert (actual - expected).norm() <= tolerance * expected.norm()


@pytest.mark.parametrize("name", NETWORKS)
def test_no_convolution_and_no_norm_is_left(name: str) -> None:
    backbone, _ = a_backbone(name)
    # Those of squeeze-and-excitation become linear layers.
    squeezes = [module for module in backbone.modules() if type(module).__name__ == "SqueezeExcitation"]
    convolutions = sum(isinstance(module, nn.Conv3d) for module in backbone.modules()) - 2 * len(squeezes)
    left = list(fuse(backbone).modules())
    assert sum(isinstance(module, FusedConv3d) for module in left) == convolutions > 0
    assert not [module for module in left if isinstance(module, nn.Conv3d | nn.BatchNorm3d)]


@torch.inference_mode()
def test_kernels_that_are_still_inflated_2d_kernels_are_reduced_to_single_frames() -> None:
    backbone = LiteBackbone(changes=True).eval()
    backbone.load_state_dict(inflate(imagenet_weights()))
    trained = backbone.get_submodule("block3.depthwise.0")
    trained.weight[5, 0, 2, 1, 1] = 0.1
    clip = torch.rand(1, 3, 4, 64, 64)
    expected = backbone(clip)
    small = fuse(backbone)
    frames = {name: module.weight.shape[2] for name, module in small.named_modules() if isinstance(module, FusedConv3d)}
    assert {name for name, count in frames.items() if count != 1} == {"block3.depthwise.0"}
    assert (small(clip) - expected).norm() <= 1e-4 * expected.norm()
    # The first group ends before the first layer that covers several frames.
    assert [name for name, _ in small.get_submodule("first").named_children()] == ["stem", "block0", "block1", "block2"]


@pytest.mark.parametrize("kinds", [1, 2, 3])
@pytest.mark.parametrize("frames", [1, 2, 5, 16])
@torch.inference_mode()
def test_the_first_layers_take_any_number_of_frames_a_few_at_a_time(kinds: int, frames: int) -> None:
    backbone = LiteBackbone(changes=kinds > 1, order=kinds > 2).eval()
    backbone.load_state_dict(inflate(imagenet_weights()))
    clip = torch.rand(2, 3, frames, 64, 64)
    expected = backbone(clip)
    small = fuse(backbone)
    assert len(small.get_submodule("first")) == 5
    seen: list[int] = []
    stem = small.get_submodule("first.stem")
    stem.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[0] * inputs[0].shape[2]))
    assert (small(clip) - expected).norm() <= 1e-4 * expected.norm()
    shown = 2 * frames if kinds == 1 else 2 * kinds * ((frames + 1) // 2)
    assert sum(seen) == shown
    assert max(seen) <= 2


@pytest.mark.parametrize("name", ["ImageNet", "x3d-m-kinetics400"])
@torch.inference_mode()
def test_in_bfloat16_a_fused_network_is_as_exact_as_the_original(name: str) -> None:
    torch.manual_seed(0)
    # With a single clip, rounding makes either network up to a fifth worse than the other.
    clips = torch.rand(8, 3, 4, 64, 64)
    if name == "ImageNet":
        backbone: nn.Module = LiteBackbone(changes=True).eval()
        backbone.load_state_dict(inflate(imagenet_weights()))
    else:
        backbone, _ = a_backbone(name)
    expected = backbone(clips)

    def error(backbone: nn.Module) -> torch.Tensor:
        network = backbone.to(torch.bfloat16).to(memory_format=torch.channels_last_3d)
        return (network(clips.to(torch.bfloat16)).float() - expected).norm() / expected.norm()

    assert 0 < error(fuse(copy.deepcopy(backbone))) <= 1.1 * error(backbone)
