"""Tests of the layers after a backbone."""

from typing import get_args

import pytest
import torch
from torch import nn
from torch.nn import functional

from tagger.models.heads import HeadName, MeanAndChange, build_head


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


@pytest.mark.parametrize("name", get_args(HeadName))
def test_every_head_turns_a_sequence_of_any_length_into_a_logit_for_each_class(name: HeadName) -> None:
    head = build_head(name, 12, 5, hidden=8, dropout=0.5)
    for steps in (1, 7):
        assert head(torch.rand(3, steps, 12)).shape == (3, 5)


def logits_with_a_silent_lstm(name: HeadName, features: torch.Tensor) -> torch.Tensor:
    """The logits of a head whose LSTM gives zeros at every step."""
    torch.manual_seed(0)
    head = build_head(name, features.shape[2], 5, hidden=8, dropout=0.5).eval()
    lstm = head.get_submodule("lstm")
    lstm.register_forward_hook(lambda module, inputs, outputs: (torch.zeros_like(outputs[0]), outputs[1]))
    return head(features)


def test_only_the_lstm_leads_from_the_features_to_the_logits_of_the_textbook_head() -> None:
    silent = logits_with_a_silent_lstm("lstm-last", torch.rand(3, 7, 12))
    assert torch.equal(silent[0], silent[1]) and torch.equal(silent[0], silent[2])
    # The recommended head has a second path, so this test can fail.
    beside = logits_with_a_silent_lstm("lstm", torch.rand(3, 7, 12))
    assert not torch.allclose(beside[0], beside[1])


def test_the_textbook_head_is_an_lstm_whose_last_step_goes_through_dropout_and_a_dense_layer() -> None:
    torch.manual_seed(0)
    head = build_head("lstm-last", 12, 5, hidden=8, dropout=0.5)
    assert [type(layer) for layer in head.children()] == [nn.LSTM, nn.Dropout, nn.Linear]
    features = 100 * torch.rand(3, 7, 12)
    lstm, dense = head.get_submodule("lstm"), head.get_submodule("dense")
    assert torch.equal(head.eval()(features), dense(lstm(features)[0][:, -1]))
    # Half of the values of the last step are left out in training.
    kept = []
    dense.register_forward_pre_hook(lambda module, inputs: kept.append((inputs[0] != 0).float().mean().item()))
    for _ in range(50):
        head.train()(features)
    assert sum(kept) / len(kept) == pytest.approx(0.5, abs=0.1)
