"""What weight decay pulls weights towards, and the moving average of the weights."""

from pathlib import Path

import pytest
import torch
from torch import nn

from tagger.models.i3d_lite import SamePadConv3d
from tests.training.fitting.test_loop import Points
from training import Epoch, LoopSettings, fit
from training.fitting.depthwise import FactorisedDepthwise
from training.fitting.optimizer import make_optimizer, moving_average
from training.fitting.passes import predict

RATE, DECAY = 0.1, 0.5
KEPT = 1 - RATE * DECAY
"""The share of a decaying weight that is left after a step."""


class EveryLayer(nn.Module):
    """The kinds of layers that networks have."""

    def __init__(self) -> None:
        super().__init__()
        self.pointwise = SamePadConv3d(3, 4, (1, 1, 1))
        inflated = SamePadConv3d(4, 4, (3, 3, 3), groups=4)
        with torch.no_grad():
            inflated.weight[:, :, [0, 2]] = 0
        self.depthwise = FactorisedDepthwise(inflated)
        self.norm = nn.BatchNorm3d(4)
        self.lstm = nn.LSTM(4, 2)
        self.dense = nn.Linear(2, 2)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, 1, 2)


def shares_after_a_step(network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Makes a step with gradients of 0, and returns each parameter as a share of what it was."""
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    return {name: parameter.detach() / before[name] for name, parameter in network.named_parameters()}


def test_only_the_weights_of_convolutions_and_dense_layers_decay() -> None:
    network = EveryLayer()
    shares = shares_after_a_step(network, make_optimizer(network, rate=RATE, decay=DECAY))
    decayed = {name for name, share in shares.items() if not torch.equal(share, torch.ones_like(share))}
    assert decayed == {"pointwise.weight", "dense.weight"}
    for name in decayed:
        torch.testing.assert_close(shares[name], torch.full_like(shares[name], KEPT))


def test_weights_of_pretrained_layers_decay_at_their_own_rate() -> None:
    network = EveryLayer()
    pretrained = [network.pointwise.weight]
    optimizer = make_optimizer(network, rate=RATE, decay=DECAY, pretrained=pretrained, pretrained_rate=RATE / 10)
    shares = shares_after_a_step(network, optimizer)
    assert shares["pointwise.weight"].mean().item() == pytest.approx(1 - RATE / 10 * DECAY)
    assert shares["dense.weight"].mean().item() == pytest.approx(KEPT)


def test_weights_that_return_to_their_start_decay_towards_it_and_the_others_towards_0() -> None:
    network = EveryLayer()
    returning = [network.pointwise.weight, network.depthwise.taps]
    optimizer = make_optimizer(network, rate=RATE, decay=DECAY, returning=returning)
    starts = [parameter.detach().clone() for parameter in returning]
    # As when a training continues from a checkpoint.
    optimizer.load_state_dict(optimizer.state_dict())
    with torch.no_grad():
        for parameter in returning:
            parameter += 1
    shares = shares_after_a_step(network, optimizer)
    for parameter, start in zip(returning, starts, strict=True):
        torch.testing.assert_close(parameter.detach() - start, torch.full_like(start, KEPT))
    assert shares["dense.weight"].mean().item() == pytest.approx(KEPT)


def test_the_moving_average_follows_quickly_at_first_and_then_with_its_decay() -> None:
    network = nn.Linear(1, 1, bias=False)
    averaged = moving_average(network, 0.5)
    values = []
    for value in (0.0, 1.0, 1.0, 0.0, 0.0, *[1.0] * 10):
        nn.init.constant_(network.weight, value)
        averaged.update_parameters(network)
        values.append(averaged.module.weight.item())
    # The first step is taken as it is. After it 1 - 2/11, 1 - 3/12, … of a step count, and in the end a half.
    assert values[:3] == pytest.approx([0, 9 / 11, 1 - 2 / 11 * 3 / 12])
    assert (1 - values[-1]) / (1 - values[-2]) == pytest.approx(0.5)


class SteadyPoints(Points):
    """Points that are the same with every seed."""

    def inputs(self, items: torch.Tensor, seed: str | None) -> torch.Tensor:
        """Returns the points of ``items``."""
        return super().inputs(items, None)


def network_of_points() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))


def test_with_a_moving_average_it_is_scored_and_returned(tmp_path: Path) -> None:
    settings = LoopSettings(epochs=4, batch_size=4, patience=0)
    plain, averaged, resumed = network_of_points(), network_of_points(), network_of_points()
    fit(plain, SteadyPoints(40), SteadyPoints(20), settings)
    with_average = LoopSettings(epochs=4, batch_size=4, patience=0, ema=0.9)
    fitted = fit(averaged, SteadyPoints(40), SteadyPoints(20), with_average)
    assert not torch.equal(averaged[0].weight, plain[0].weight)
    logits = predict(averaged, SteadyPoints(20), 4)
    loss = nn.functional.cross_entropy(logits, SteadyPoints(20).targets.labels).item()
    assert loss == fitted.epochs[fitted.best - 1].val_loss

    def stop(epoch: Epoch) -> None:
        if epoch.number == 2:
            raise InterruptedError

    checkpoint = tmp_path / "checkpoint.pt"
    with pytest.raises(InterruptedError):
        fit(network_of_points(), SteadyPoints(40), SteadyPoints(20), with_average, checkpoint=checkpoint, on_epoch=stop)
    assert fit(resumed, SteadyPoints(40), SteadyPoints(20), with_average, checkpoint=checkpoint) == fitted
    assert torch.equal(resumed[0].weight, averaged[0].weight)


def test_a_backbone_that_decays_to_its_start_stays_closer_to_it() -> None:
    def distance(**options: object) -> float:
        network = network_of_points()
        start = network[0].weight.detach().clone()
        settings = LoopSettings(epochs=2, batch_size=4, learning_rate=0.01, weight_decay=20, patience=0, **options)  # type: ignore[arg-type]
        fit(network, SteadyPoints(40), SteadyPoints(20), settings, backbone=list(network[0].parameters()))
        return (network[0].weight - start).norm().item()

    assert distance(decay_to_start=True) < distance() / 2
