"""Tests of the 3D CNN: it keeps the order of frames, differences show only what moves, and it can learn."""

import pytest
import torch

from tagger.models.cnn3d import CNN3DLSTM, CNN3DBackbone


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


@pytest.mark.parametrize("differences", [False, True])
def test_it_learns_to_tell_motion_to_the_left_from_motion_to_the_right(differences: bool) -> None:
    # Each single frame is equally likely in both classes. Only the order of the frames distinguishes them.
    torch.manual_seed(0)
    network = CNN3DLSTM(2, hidden=16, dropout=0.0, filters=(4, 8, 8), differences=differences).train()
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
