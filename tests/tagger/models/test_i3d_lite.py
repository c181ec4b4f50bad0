"""Tests of the inflated EfficientNet-Lite0: before training it computes the features of the 2D network."""

import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet

from tagger.errors import WeightsError
from tagger.models.i3d_lite import (
    CHANNELS,
    STRIPS,
    I3DLiteLSTM,
    LiteBackbone,
    PicturesAndChanges,
    SamePadConv3d,
    imagenet_weights,
    inflate,
)

FRAMES = 4


def a_picture(seed: int) -> torch.Tensor:
    """``[3, 224, 224]``, smooth like a photograph and normalised."""
    small = torch.randn(1, 3, 9, 9, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(small, size=224, mode="bicubic")[0]


@pytest.fixture(scope="module")
def network_2d() -> EfficientNet:
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(imagenet_weights())
    return network.eval()


@pytest.fixture(scope="module")
def backbone() -> LiteBackbone:
    backbone = LiteBackbone()
    backbone.load_state_dict(inflate(imagenet_weights()))
    return backbone.eval()


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param([a_picture(0)] * FRAMES, id="still clip"),
        pytest.param([a_picture(i) for i in range(FRAMES)], id="moving clip"),
    ],
)
def test_every_frame_starts_with_the_2d_networks_features(
    frames: list[torch.Tensor], network_2d: EfficientNet, backbone: LiteBackbone
) -> None:
    clip = torch.stack(frames, dim=1)[None]
    with torch.inference_mode():
        expected = network_2d.extract_features(torch.stack(frames)).mean(dim=(2, 3))
        actual = backbone(clip)[0, :, :CHANNELS]
    assert expected.std() > 0.05
    assert (actual - expected).norm() <= 1e-4 * expected.norm()


def test_nothing_changes_in_a_still_clip(backbone: LiteBackbone) -> None:
    with torch.inference_mode():
        change = backbone(torch.stack([a_picture(0)] * FRAMES, dim=1)[None])[0, :, CHANNELS:]
    assert change.abs().max() < 1e-4


def test_with_changes_frames_and_difference_images_have_the_features_of_the_2d_network(
    network_2d: EfficientNet,
) -> None:
    backbone = LiteBackbone(changes=True)
    backbone.load_state_dict(inflate(imagenet_weights()))
    clip = torch.stack([a_picture(i) for i in range(FRAMES)], dim=1)[None]
    with torch.inference_mode():
        pictures, changes = PicturesAndChanges()(clip).chunk(2)
        expected, of_changes = (network_2d.extract_features(x[0].transpose(0, 1)) for x in (pictures, changes))
        actual = backbone.eval()(clip)[0]
    assert actual.shape == (FRAMES / 2, backbone.features)
    torch.testing.assert_close(pictures, clip[:, :, ::2])
    assert (actual[:, :CHANNELS] - expected.mean(dim=(2, 3))).norm() <= 1e-4 * expected.mean(dim=(2, 3)).norm()
    # The top third of 7 rows has three rows.
    top = of_changes[:, :, :3].mean(dim=(2, 3))
    assert (actual[:, (1 + STRIPS) * CHANNELS :][:, :CHANNELS] - top).norm() <= 1e-4 * top.norm()


def test_the_difference_image_is_black_except_for_what_moves() -> None:
    clip = torch.zeros(1, 3, 4, 6, 6)
    clip[:, :, 3, 2, 2] = 0.25
    pictures, changes = PicturesAndChanges()(clip).chunk(2)
    assert torch.equal(pictures, clip[:, :, ::2])
    expected = torch.full((1, 3, 2, 6, 6), -127 / 128)
    expected[:, :, 1, 2, 2] += 1
    torch.testing.assert_close(changes, expected)


def test_the_last_of_an_odd_number_of_frames_has_no_change() -> None:
    changes = PicturesAndChanges()(torch.rand(1, 3, 3, 6, 6))[1]
    assert changes.shape == (3, 2, 6, 6)
    assert (changes[:, 1] == -127 / 128).all()


def test_with_order_the_colours_of_a_picture_are_three_changes_in_a_row() -> None:
    clip = torch.zeros(1, 3, 6, 6, 6)
    # A point in another place in each frame; it is there in one frame only.
    for frame in range(6):
        clip[:, :, frame, frame, 0] = 0.125
    order = PicturesAndChanges(order=True)(clip)[2]
    assert order.shape == (3, 3, 6, 6)
    changed = (order[..., 0] > -127 / 128).int()
    # From frame 0 to 1 the first two rows change, from 1 to 2 the next two, and so on. After frame 5 nothing changes.
    rows = [[row in (step, step + 1) for row in range(6)] for step in range(5)] + [[False] * 6] * 2
    expected = [[rows[first + colour] for first in (0, 2, 4)] for colour in range(3)]
    assert changed.tolist() == torch.tensor(expected).int().tolist()
    torch.testing.assert_close(order.max(), torch.tensor(0.5 - 127 / 128))


@pytest.mark.parametrize("frames", [1, 2, 3, 16])
def test_with_order_there_is_a_third_picture_for_each_pair_of_frames(frames: int) -> None:
    clips = torch.rand(2, 3, frames, 4, 4)
    views = PicturesAndChanges(order=True)(clips)
    assert views.shape == (6, 3, (frames + 1) // 2, 4, 4)
    torch.testing.assert_close(views[:4], PicturesAndChanges()(clips))


def test_order_without_changes_is_refused() -> None:
    with pytest.raises(ValueError, match="order needs changes"):
        LiteBackbone(order=True)


def test_neighbouring_frames_have_an_effect_when_their_kernel_weights_are_not_zero(backbone: LiteBackbone) -> None:
    other = LiteBackbone()
    other.load_state_dict(backbone.state_dict())
    with torch.inference_mode():
        other.eval().block0.depthwise[0].weight[:, :, 0] += 0.1
        here, elsewhere = a_picture(0), a_picture(1)
        still = other(torch.stack([here, here], dim=1)[None])[0, 1]
        after_another = other(torch.stack([elsewhere, here], dim=1)[None])[0, 1]
        assert (still - after_another).norm() > 1e-2 * still.norm()


@pytest.mark.parametrize(
    "weights",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"blocks.0.conv.weight": torch.zeros(1)}, id="another network"),
        pytest.param({name: torch.zeros(3) for name in imagenet_weights()}, id="other shapes"),
        pytest.param({name: torch.zeros(3, 3, 9, 9) for name in imagenet_weights()}, id="other kernels"),
    ],
)
def test_weights_of_another_network_are_refused_in_one_line(weights: dict[str, torch.Tensor]) -> None:
    with pytest.raises(WeightsError, match="EfficientNet-Lite0") as caught:
        inflate(weights)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("changes", "order"), [(False, False), (True, False), (True, True)])
def test_every_weight_of_the_trained_network_gets_a_gradient(changes: bool, order: bool) -> None:
    network = I3DLiteLSTM(classes=2, hidden=4, dropout=0.0, changes=changes, order=order).train()
    network(torch.rand(2, 3, 4, 32, 32)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("kernel", [(1, 1, 1), (1, 3, 3), (3, 3, 3)])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_layer_computes_the_same_in_training(kernel: tuple[int, int, int], stride: int) -> None:
    layer = SamePadConv3d(3, 4, kernel, stride if kernel[1] > 1 else 1).double()
    x = torch.randn(2, 3, 5, 8, 9, dtype=torch.double, requires_grad=True)
    with torch.no_grad():
        expected = layer(x)
    torch.testing.assert_close(layer(x), expected)
    assert torch.autograd.gradcheck(layer, x)


def test_the_first_layer_learns_the_same_in_bfloat16(backbone: LiteBackbone) -> None:
    stem, pixels = backbone.stem, torch.stack([a_picture(i) for i in range(2)], dim=1)[None]
    gradients = {}
    for precision in (torch.float32, torch.bfloat16):
        stem.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision is torch.bfloat16):
            stem(pixels.to(memory_format=torch.channels_last_3d)).float().square().mean().backward()
        gradients[precision] = stem[0].weight.grad.clone()
    fp32, bf16 = gradients.values()
    assert fp32.norm() > 0
    assert (bf16 - fp32).norm() <= 0.1 * fp32.norm()
