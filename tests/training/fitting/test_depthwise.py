"""A factorised depthwise convolution computes the same function, and is merged back into an ordinary one."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from tagger.models.i3d_lite import SamePadConv3d
from training.fitting.depthwise import FactorisedDepthwise, factorise_depthwise, restore_depthwise


def inflated(channels: int = 6, kernel: int = 5, stride: int = 1) -> SamePadConv3d:
    convolution = SamePadConv3d(channels, channels, (3, kernel, kernel), stride, groups=channels)
    with torch.no_grad():
        convolution.weight[:, :, (0, 2)] = 0
    return convolution


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5])
def test_a_factorised_convolution_computes_the_same_before_and_after_training(kernel: int, stride: int) -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv3d(3, 6, 1), inflated(kernel=kernel, stride=stride))
    x = torch.randn(2, 3, 7, 9, 8)
    before = layers(x)
    originals = factorise_depthwise(layers)
    assert torch.allclose(layers(x), before, atol=1e-6)
    factorised = layers[1]
    assert isinstance(factorised, FactorisedDepthwise)
    with torch.no_grad():
        factorised.taps += torch.randn_like(factorised.taps)
    learnt = layers(x)
    restore_depthwise(layers, originals)
    assert isinstance(layers[1], SamePadConv3d)
    assert torch.allclose(layers(x), learnt, atol=1e-5)
    assert not torch.allclose(learnt, before, atol=1e-2)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("size", [(7, 7), (8, 9)])
def test_gradients_are_those_of_the_ordinary_convolution(kernel: int, stride: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    convolution = inflated(kernel=kernel, stride=stride).double()
    factorised = FactorisedDepthwise(convolution).double()
    x = torch.randn(2, 6, 5, *size, dtype=torch.double, requires_grad=True)
    gradient = torch.randn_like(convolution(x))
    (expected,) = torch.autograd.grad(convolution(x), (x, convolution.weight), gradient)[:1]
    weight_gradient = torch.autograd.grad(convolution(x), convolution.weight, gradient)[0]
    actual, taps_gradient = torch.autograd.grad(factorised(x), (x, factorised.taps), gradient)
    assert torch.allclose(actual, expected)
    # By the chain rule: a tap multiplies the 2D kernel in its slice.
    chained = (weight_gradient * convolution.weight[:, :, 1:2]).sum(dim=(1, 3, 4)).T
    assert torch.allclose(taps_gradient, chained)


@pytest.mark.parametrize("to_file", [lambda kernel: kernel, lambda kernel: kernel.half().float()], ids=["same", "half"])
def test_a_convolution_that_was_trained_is_factorised_again(to_file: Callable[[torch.Tensor], torch.Tensor]) -> None:
    torch.manual_seed(0)
    trained = FactorisedDepthwise(inflated())
    with torch.no_grad():
        trained.taps.copy_(torch.randn_like(trained.taps))
    convolution = inflated()
    with torch.no_grad():
        convolution.weight.copy_(to_file(trained.merged_kernel()))
    x = torch.randn(2, 6, 7, 9, 8)
    assert torch.allclose(FactorisedDepthwise(convolution)(x), convolution(x), atol=2e-3)


@pytest.mark.parametrize(
    ("convolution", "message"),
    [
        (SamePadConv3d(4, 4, (3, 3, 3), groups=4), "not multiples of one of them"),
        (SamePadConv3d(4, 4, (1, 3, 3), groups=4), "covers 1 frames; it must cover 3"),
    ],
)
def test_a_convolution_that_cannot_be_factorised_is_refused(convolution: SamePadConv3d, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FactorisedDepthwise(convolution)
