"""Tests of undocumented operators: they are tested before use, and plain layers replace those that do not work."""

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

import tagger
from tagger.models.fast import flat, fused, operators
from tagger.models.fast.fused import fuse
from tagger.models.fast.probe import NOISE_LENGTH, Probed, _noise
from tests.tagger.models.fast.test_fused import NETWORKS, a_backbone

Operator = Callable[..., torch.Tensor]


class Case(NamedTuple):
    """An operator with arguments as in vtag."""

    operator: Probed
    arguments: tuple[Any, ...]


def channels_last(*shape: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(1)
    memory_format = torch.channels_last_3d if len(shape) == 5 else torch.channels_last
    return torch.randn(*shape, generator=random).contiguous(memory_format=memory_format)


def row(size: int) -> torch.Tensor:
    return torch.linspace(-1, 1, size)


ONE = (1, 1, 1)
CASES = {
    "conv3d of single pixels": Case(
        operators.conv3d,
        (channels_last(1, 16, 2, 6, 6), channels_last(24, 16, 1, 1, 1), row(24), ONE, (0, 0, 0), 1, nn.ReLU6),
    ),
    "conv3d of each channel": Case(
        operators.conv3d,
        (channels_last(2, 16, 1, 7, 7), channels_last(16, 1, 1, 3, 3), row(16), (1, 2, 2), (0, 0, 0), 16, nn.ReLU6),
    ),
    "conv3d over time": Case(
        operators.conv3d,
        (channels_last(1, 3, 4, 9, 9), channels_last(8, 3, 3, 5, 5), row(8), (1, 2, 2), (1, 2, 2), 1, nn.ReLU),
    ),
    "conv3d alone": Case(
        operators.conv3d, (channels_last(1, 8, 2, 6, 6), channels_last(8, 8, 1, 1, 1), None, ONE, (0, 0, 0), 1, None)
    ),
    "sum with conv3d": Case(
        operators.conv3d_add,
        (
            channels_last(1, 16, 2, 6, 6),
            channels_last(24, 16, 1, 1, 1),
            row(24),
            channels_last(1, 24, 2, 6, 6),
            ONE,
            (0, 0, 0),
            1,
            nn.ReLU,
        ),
    ),
    "scaled_swish": Case(
        operators.scaled_swish, (channels_last(1, 16, 2, 6, 6), channels_last(1, 16, 1, 1, 1).sigmoid())
    ),
    "conv2d_relu": Case(
        operators.conv2d_relu,
        (channels_last(2, 8, 6, 6), channels_last(16, 8, 3, 3), row(16), None, (1, 1), (1, 1)),
    ),
    "conv2d_relu with a residual": Case(
        operators.conv2d_relu,
        (channels_last(2, 8, 6, 6), channels_last(16, 8, 3, 3), row(16), channels_last(2, 16, 6, 6), (1, 1), (1, 1)),
    ),
    "linear_relu": Case(operators.linear_relu, (row(6 * 16).view(6, 16), row(8 * 16).view(8, 16), row(8))),
    "channel_means": Case(fused.channel_means, (channels_last(2, 8, 3, 5, 5),)),
    "max_pool2d": Case(flat.max_pool2d, (channels_last(2, 8, 9, 9), (3, 3), (2, 2), (1, 1))),
}
each_case = pytest.mark.parametrize("name", CASES)


@pytest.fixture(autouse=True)
def untried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forgets the test results of all operators, as in a new process."""
    for operator in {case.operator for case in CASES.values()}:
        monkeypatch.setattr(operator, "works", {})


def plain(case: Case) -> torch.Tensor:
    return case.operator.plain(*case.arguments)


@each_case
@pytest.mark.parametrize(
    "error",
    [
        AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_convolution_pointwise'"),
        TypeError("takes 3 positional arguments"),
        NotImplementedError("Could not run it with arguments from the 'CPU' backend"),
        RuntimeError("CUDNN_STATUS_NOT_SUPPORTED"),
        ImportError("No module named 'triton'"),
    ],
)
def test_where_an_operator_fails_the_plain_layers_compute(
    name: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    asked = []

    def fail(*arguments: object) -> torch.Tensor:
        asked.append(arguments)
        raise error

    monkeypatch.setattr(case.operator, "fast", fail)
    for _ in range(2):
        torch.testing.assert_close(case.operator(*case.arguments), plain(case), rtol=0, atol=0)
    assert len(asked) == 1


def one_value(y: torch.Tensor) -> torch.Tensor:
    y = y.clone()
    y.flatten()[-1] += 0.1 * y.abs().max()
    y[(-1,) * y.ndim] += 0.1 * y.abs().max()
    return y


WRONG: dict[str, Callable[[torch.Tensor], Any]] = {
    "zeros": torch.zeros_like,
    "not a number": lambda y: torch.full_like(y, torch.nan),
    "one other value": one_value,
    "slightly less": lambda y: 0.99 * y,
    "another shape": lambda y: y[:1, :1],
    "another precision": torch.Tensor.double,
    "nothing": lambda y: None,
}


@each_case
@pytest.mark.parametrize("how", WRONG)
def test_an_operator_that_returns_something_else_is_refused(
    name: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    monkeypatch.setattr(case.operator, "fast", lambda *arguments: WRONG[how](case.operator.plain(*arguments)))
    torch.testing.assert_close(case.operator(*case.arguments), plain(case), rtol=0, atol=0)
    assert list(case.operator.works.values()) == [False]


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("conv3d") and name != "conv3d alone"])
@pytest.mark.parametrize("forgotten", ["bias", "activation", "bound"])
def test_an_operator_that_omits_a_step_is_refused_in_any_precision(
    name: str, forgotten: str, precision: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, weight, bias, *sizes, activation = CASES[name].arguments
    if forgotten == "bound" and activation is nn.ReLU:
        pytest.skip("ReLU has no bound")
    instead = {"bias": activation, "activation": None, "bound": nn.ReLU}[forgotten]

    def forgetful(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, *others: Any) -> torch.Tensor:
        kept = None if forgotten == "bias" else bias
        return operators.conv3d.plain(x, weight, kept, *others[:-1], instead)

    monkeypatch.setattr(operators.conv3d, "fast", forgetful)
    operators.conv3d(x.to(precision), weight.to(precision), bias.to(precision), *sizes, activation)
    assert list(operators.conv3d.works.values()) == [False]


@each_case
def test_a_correct_operator_is_used(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[name]
    calls = []

    def right(*arguments: Any) -> torch.Tensor:
        calls.append(arguments)
        return case.operator.plain(*arguments)

    monkeypatch.setattr(case.operator, "fast", right)
    for _ in range(2):
        case.operator(*case.arguments)
    assert len(calls) == 3
    # The test used the same arguments, except for the values of tensors.
    for tried, used in zip(calls[0], calls[1], strict=True):
        if isinstance(used, torch.Tensor):
            assert (tried.shape, tried.stride(), tried.dtype) == (used.shape, used.stride(), used.dtype)
            assert not torch.equal(tried, used)
        else:
            assert tried == used


def test_every_signature_is_tested_separately(monkeypatch: pytest.MonkeyPatch) -> None:
    conv3d = operators.conv3d
    monkeypatch.setattr(conv3d, "fast", conv3d.plain)
    x, weight, bias, stride, padding, groups, activation = CASES["conv3d of each channel"].arguments
    others: list[tuple[Any, ...]] = [
        (x, weight, bias, stride, padding, groups, activation),
        (x[:1], weight, bias, stride, padding, groups, activation),
        (x.contiguous(), weight, bias, stride, padding, groups, activation),
        (x.bfloat16(), weight.bfloat16(), bias.bfloat16(), stride, padding, groups, activation),
        (x, weight, None, stride, padding, groups, activation),
        (x, weight, bias, (1, 1, 1), padding, groups, activation),
        (x, weight, bias, stride, (0, 1, 1), groups, activation),
        (x[:, :1], weight, bias, stride, padding, 1, activation),
        (x, weight, bias, stride, padding, groups, nn.ReLU),
        (x, weight, bias, stride, padding, groups, None),
    ]
    for count, arguments in enumerate(others, start=1):
        for _ in range(2):
            conv3d(*arguments)
        assert len(conv3d.works) == count


@each_case
@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("DefaultCPUAllocator: can't allocate memory")],
)
def test_out_of_memory_does_not_disable_an_operator(
    name: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]

    def fail(*arguments: object) -> torch.Tensor:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(case.operator, "fast", fail)
        with pytest.raises(type(error), match="memory"):
            case.operator(*case.arguments)
    assert not case.operator.works
    monkeypatch.setattr(case.operator, "fast", case.operator.plain)
    case.operator(*case.arguments)
    assert list(case.operator.works.values()) == [True]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("device", ["cpu", "gpu"])
@torch.inference_mode()
def test_a_network_without_the_fast_operators_computes_the_same(
    name: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []

    def fail(*arguments: object) -> torch.Tensor:
        used.append(arguments)
        raise RuntimeError("not here")

    for operator in {case.operator for case in CASES.values()}:
        monkeypatch.setattr(operator, "fast", fail)
    if device == "gpu":  # The CPU in its place.
        monkeypatch.setattr(fused, "FLAT_DEVICES", frozenset({"cpu"}))
    backbone, clip = a_backbone(name)
    backbone, clip = backbone.double(), clip.double().contiguous(memory_format=torch.channels_last_3d)
    expected = backbone(clip)
    actual = fuse(copy.deepcopy(backbone)).to(memory_format=torch.channels_last_3d)(clip)
    assert (actual - expected).norm() <= 1e-9 * expected.norm()
    # Without a GPU, cuDNN and Triton are not used. Those of pytorchvideo have matrix products that end with ReLU.
    assert bool(used) == (device == "cpu" or name in ("i3d-kinetics400", "x3d-m-kinetics400", "i3d-lstm"))


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_onednn_computes_all_convolutions_where_it_is_available(name: str, precision: torch.dtype) -> None:
    backbone, clip = a_backbone(name)
    network = fuse(backbone).to(precision).to(memory_format=torch.channels_last_3d)
    network(clip.to(precision).contiguous(memory_format=torch.channels_last_3d))
    assert operators.conv3d.works and all(operators.conv3d.works.values())
    assert all(operators.conv3d_add.works.values())


def test_without_a_gpu_its_operators_are_refused() -> None:
    # oneDNN has no convolutions in double precision.
    for name in ("conv2d_relu", "conv2d_relu with a residual", "conv3d of single pixels"):
        case = CASES[name]
        arguments = [each.double() if isinstance(each, torch.Tensor) else each for each in case.arguments]
        torch.testing.assert_close(case.operator(*arguments), case.operator.plain(*arguments), rtol=0, atol=0)
        assert not any(case.operator.works.values())


def test_noise_has_the_strides_of_a_tensor_and_is_the_same_every_time() -> None:
    tensors = [
        channels_last(2, 8, 3, 70, 70),  # Larger than the number of random numbers.
        channels_last(2, 8, 4, 6, 6)[:, :, ::2],
        row(8).expand(3, 8),
        torch.ones(0, 3),
        torch.tensor(1.0, dtype=torch.bfloat16),
    ]
    assert tensors[0].numel() > NOISE_LENGTH
    for tensor in tensors:
        noise = _noise(tensor)
        assert (noise.shape, noise.stride(), noise.dtype) == (tensor.shape, tensor.stride(), tensor.dtype)
        assert torch.equal(noise, _noise(tensor))
    noise = _noise(tensors[0])
    assert abs(noise.mean()) < 0.05
    assert noise.min() < -3.9
    assert noise.max() > 3.9
    # No channel repeats another.
    assert torch.corrcoef(noise.transpose(0, 1).flatten(1)).fill_diagonal_(0).abs().max() < 0.1


def test_cudnn_is_tuned_only_inside_tuning() -> None:
    before = torch.backends.cudnn.benchmark
    with operators._tuned():
        assert torch.backends.cudnn.benchmark == before
    with operators.tuning(), operators._tuned():
        assert torch.backends.cudnn.benchmark
    assert torch.backends.cudnn.benchmark == before


def test_private_names_of_torch_are_used_only_in_operators() -> None:
    root = Path(tagger.__file__).parent.parent
    private = re.compile(r"\btorch(\.\w+)*\._[a-z]|from torch[\w.]* import .*\b_[a-z]|cudnn_convolution")
    for folder in ("tagger", "training", "jobs"):
        for path in (root / folder).rglob("*.py"):
            if path != Path(operators.__file__):
                assert not private.search(path.read_text()), path
