"""Tests of 3D layers computed with 2D kernels: the results are those of PyTorch's own layers."""

import copy
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from tagger.models.fast import fused
from tagger.models.fast.flat import average_pool, convolve, convolve_stacked, max_pool, stack
from tagger.models.fast.fused import FusedConv3d, fuse
from tagger.models.registry import build_network
from tests.tagger.models.fast.test_fused import NETWORKS, a_backbone


@pytest.fixture
def flat_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uses the layers for GPUs on the CPU."""
    monkeypatch.setattr(fused, "FLAT_DEVICES", frozenset({"cpu"}))


def clips(*shape: int) -> torch.Tensor:
    """Clips in double precision, channels last."""
    random = torch.Generator().manual_seed(0)
    return torch.randn(*shape, generator=random, dtype=torch.float64).contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("name", NETWORKS)
@torch.inference_mode()
def test_a_network_computes_the_same(name: str, flat_on_cpu: None) -> None:
    backbone, clip = a_backbone(name)
    backbone, clip = backbone.double(), clip.double().contiguous(memory_format=torch.channels_last_3d)
    expected = backbone(clip)
    actual = fuse(copy.deepcopy(backbone)).to(memory_format=torch.channels_last_3d)(clip)
    assert (actual - expected).norm() <= 1e-9 * expected.norm()


@pytest.mark.parametrize("name", ["i3d-kinetics400", "i3d-lstm"])
@torch.inference_mode()
def test_no_3d_kernel_is_left_in_the_i3d(name: str, flat_on_cpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, clip = a_backbone(name)
    network = fuse(backbone)

    def refuse(*arguments: object) -> torch.Tensor:
        raise AssertionError("a 3D kernel")

    for kernel in ("conv3d", "max_pool3d", "avg_pool3d"):
        monkeypatch.setattr(functional, kernel, refuse)
    network(clip.contiguous(memory_format=torch.channels_last_3d))


@torch.inference_mode()
def test_a_residual_is_added_when_there_are_few_channels(flat_on_cpu: None) -> None:
    layer = FusedConv3d(nn.Conv3d(3, 8, 3, padding=1), None, nn.ReLU()).double()
    x, residual = clips(1, 3, 4, 6, 6), clips(1, 8, 4, 6, 6)
    expected = functional.conv3d(x, layer.weight, layer.bias, padding=1) + residual
    torch.testing.assert_close(layer(x, residual), expected.relu())


@torch.inference_mode()
def test_weights_are_stacked_again_in_another_precision(flat_on_cpu: None) -> None:
    layer = FusedConv3d(nn.Conv3d(3, 8, 3, padding=1), None, None)
    x = clips(1, 3, 4, 6, 6)
    for precision in (torch.float32, torch.float64):
        layer = layer.to(precision)
        torch.testing.assert_close(layer(x), functional.conv3d(x.to(precision), layer.weight, layer.bias, padding=1))


def test_a_pool_over_more_frames_than_there_are_is_refused() -> None:
    with pytest.raises(RuntimeError):
        max_pool(clips(1, 3, 1, 4, 4), [2, 1, 1], [2, 1, 1], [0, 0, 0])


KERNELS = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))


@given(
    kernel=KERNELS,
    stride=KERNELS,
    is_padded=st.booleans(),
    channels=st.sampled_from([1, 3, 8]),
    activation=st.sampled_from([None, nn.ReLU(), nn.ReLU6()]),
    has_bias=st.booleans(),
    has_residual=st.booleans(),
)
def test_a_convolution_is_that_of_pytorch(
    kernel: tuple[int, int, int],
    stride: tuple[int, int, int],
    is_padded: bool,
    channels: int,
    activation: nn.Module | None,
    has_bias: bool,
    has_residual: bool,
) -> None:
    x = clips(2, channels, 5, 7, 6)
    weight, bias = clips(8, channels, *kernel), clips(8, 1, 1, 1, 1).flatten() if has_bias else None
    padding = [side // 2 if is_padded else 0 for side in kernel]
    expected = functional.conv3d(x, weight, bias, stride, padding)
    residual = clips(*expected.shape) if has_residual else None
    expected = expected if residual is None else expected + residual
    expected = expected if activation is None else activation(expected)
    actual = convolve(x, weight, bias, stride, padding, 1, activation, residual)
    torch.testing.assert_close(actual, expected)


@given(
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 7), st.integers(1, 7)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    before=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    after=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    channels=st.integers(1, 4),
    height=st.integers(7, 12),
    width=st.integers(7, 12),
    precision=st.sampled_from([torch.float64, torch.float32, torch.bfloat16]),
)
def test_a_convolution_of_few_channels_becomes_one_of_many(
    kernel: tuple[int, int, int],
    stride: tuple[int, int],
    before: tuple[int, int],
    after: tuple[int, int],
    channels: int,
    height: int,
    width: int,
    precision: torch.dtype,
) -> None:
    # Small integers, because their sums are exact in any precision.
    x, weight = clips(2, channels, 4, height, width).mul(2).round(), clips(3, channels, *kernel).sign()
    time = kernel[0] // 2
    padded = functional.pad(x, (before[1], after[1], before[0], after[0], time, time))
    expected = functional.conv3d(padded, weight, None, (1, *stride))
    assume(expected.abs().max() <= 256)
    stacked = stack(weight.to(precision), stride, before)
    assert stacked.weight.shape[1] % 8 == 0
    actual = convolve_stacked(x, stacked, None, time, (expected.shape[3], expected.shape[4]))
    assert actual.dtype == precision
    torch.testing.assert_close(actual.double(), expected)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [
        ([1, 3, 3], [1, 2, 2], [0, 1, 1]),
        ([1, 2, 2], [1, 2, 2], [0, 0, 0]),
        ([2, 1, 1], [2, 1, 1], [0, 0, 0]),
        ([3, 1, 1], [2, 1, 1], [0, 0, 0]),
        ([3, 1, 1], [1, 1, 1], [1, 0, 0]),
        ([2, 2, 2], [2, 2, 2], [0, 0, 0]),
    ],
)
@pytest.mark.parametrize("frames", [4, 5, 7])
def test_a_pool_is_that_of_pytorch(kernel: list[int], stride: list[int], padding: list[int], frames: int) -> None:
    x = clips(2, 3, frames, 8, 9)
    torch.testing.assert_close(max_pool(x, kernel, stride, padding), functional.max_pool3d(x, kernel, stride, padding))


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [([4, 7, 6], [1, 1, 1], [0, 0, 0]), ([1, 7, 6], [2, 1, 1], [0, 0, 0]), ([3, 3, 3], [1, 2, 1], [1, 1, 1])],
)
def test_an_average_is_that_of_pytorch(kernel: list[int], stride: list[int], padding: list[int]) -> None:
    x = clips(2, 3, 8, 7, 6)
    torch.testing.assert_close(
        average_pool(x, kernel, stride, padding), functional.avg_pool3d(x, kernel, stride, padding)
    )


@torch.inference_mode()
def test_the_head_of_the_i3d_computes_the_same(flat_on_cpu: None) -> None:
    torch.manual_seed(0)
    head = build_network("i3d-kinetics400", 5).get_submodule("head").eval()
    features = torch.randn(2, 2048, 8, 7, 7)
    expected = head(features)
    fused_head = fuse(copy.deepcopy(head))
    assert not any(isinstance(module, nn.AvgPool3d) for module in fused_head.modules())
    torch.testing.assert_close(fused_head(features), expected)


POOL = """
import torch
from torch.nn import functional
from tagger.models.fast.pool_kernel import max_pool2d

for precision in (torch.float32, torch.float16, torch.bfloat16):
    for sizes in (([3, 3], [2, 2], [1, 1]), ([2, 2], [2, 2], [0, 0]), ([3, 2], [1, 3], [1, 0])):
        x = torch.randn(3, 8, 9, 11).to(precision).contiguous(memory_format=torch.channels_last)
        x[1, 2, 3, 4] = float("nan")
        found, expected = max_pool2d(x, *sizes), functional.max_pool2d(x, *sizes)
        assert torch.equal(found.nan_to_num(99.0), expected.nan_to_num(99.0)), (precision, sizes)
        assert found.is_contiguous(memory_format=torch.channels_last)
print("the same")
"""


def test_the_pool_for_gpus_is_that_of_pytorch_to_the_bit() -> None:
    pytest.importorskip("triton", reason="this torch comes without Triton")
    # Triton's interpreter runs the kernel on the CPU. The variable must be set before Triton is imported.
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", POOL], env=environment, capture_output=True, text=True)
    assert done.stdout == "the same\n", done.stderr
