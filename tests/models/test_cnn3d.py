"""The 3D CNN: it sees what changes, steps stay apart in time, and it can learn."""

import torch

from tagger.models.cnn3d import CNN3DLSTM, CNN3DBackbone


def test_features_keep_the_order_of_the_frames() -> None:
    torch.manual_seed(0)
    backbone = CNN3DBackbone(filters=(4, 8, 8)).eval()
    clip = torch.zeros(1, 3, 16, 32, 32)
    moved = clip.clone()
    moved[:, :, 12] = 1
    with torch.inference_mode():
        changed = (backbone(moved) - backbone(clip)).abs().amax(dim=(0, 2)) > 0
    # Frame 12 is in differences 11 and 12; three convolutions see three steps to each side.
    assert changed.nonzero().flatten().tolist() == [8, 9, 10, 11, 12, 13, 14]


def test_it_does_not_see_what_stands_still() -> None:
    torch.manual_seed(0)
    backbone = CNN3DBackbone(filters=(4, 8, 8)).eval()
    moving, place = torch.rand(1, 3, 8, 32, 32), torch.rand(1, 3, 1, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(backbone(moving + place), backbone(moving))
        assert not torch.allclose(backbone(moving.flip(2)), backbone(moving))


def test_any_picture_size_and_length_gives_features_of_one_width() -> None:
    backbone = CNN3DBackbone(filters=(4, 8, 8)).eval()
    for frames, steps, height, width in ((16, 15, 112, 112), (8, 7, 64, 96), (2, 1, 16, 16), (1, 1, 40, 33)):
        assert backbone(torch.rand(1, 3, frames, height, width)).shape == (1, steps, 8 * 16)


def test_bfloat16_features_are_close_to_float32() -> None:
    torch.manual_seed(0)
    backbone = CNN3DBackbone().eval()
    clip = torch.rand(1, 3, 4, 112, 112)
    with torch.inference_mode():
        full = backbone(clip)
        half = backbone.bfloat16()(clip.bfloat16()).float()
    assert full.std() > 0
    torch.testing.assert_close(half, full, rtol=0.1, atol=0.05 * full.abs().max().item())


def test_it_learns_to_tell_motion_to_the_left_from_motion_to_the_right() -> None:
    # Each single frame is as likely in either class: only the order of the frames tells them apart.
    torch.manual_seed(0)
    network = CNN3DLSTM(classes=2, hidden=16, dropout=0.0, filters=(4, 8, 8)).train()
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
