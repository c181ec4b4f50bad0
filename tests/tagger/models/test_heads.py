"""Tests of the layers after a backbone."""

import torch
from torch.nn import functional

from tagger.models.heads import MeanAndChange


def test_averages_come_with_the_change_to_the_frame_before_at_the_top_the_middle_and_the_bottom() -> None:
    x = torch.rand(2, 5, 4, 7, 6)
    features = MeanAndChange()(x)
    assert features.shape == (2, 4, 20)
    for step in range(4):
        frame, before = x[:, :, step], x[:, :, step - 1]
        if step == 0:
            frame, before = x[:, :, 1], x[:, :, 0]
        thirds = functional.adaptive_avg_pool2d((frame - before).abs(), (3, 1))[..., 0]
        expected = [x[:, :, step].mean(dim=(2, 3)), *thirds.unbind(dim=2)]
        assert torch.allclose(features[:, step], torch.cat(expected, dim=1), atol=1e-6)


def test_a_single_frame_has_no_change() -> None:
    x = torch.rand(1, 5, 1, 7, 6)
    features = MeanAndChange()(x)
    assert torch.equal(features[..., 5:], torch.zeros(1, 1, 15)) and features[..., :5].min() > 0
