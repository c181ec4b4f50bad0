"""The 3D CNN: frames stay apart in time, and it can learn."""

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
    # Three 3×3×3 convolutions see three frames to each side.
    assert changed.nonzero().flatten().tolist() == [9, 10, 11, 12, 13, 14, 15]


def test_any_picture_size_and_length_gives_features_of_one_width() -> None:
    backbone = CNN3DBackbone(filters=(4, 8, 8)).eval()
    for frames, height, width in ((16, 112, 112), (8, 64, 96), (1, 40, 33)):
        assert backbone(torch.rand(1, 3, frames, height, width)).shape == (1, frames, 8 * 16)


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
