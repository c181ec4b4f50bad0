"""The optimizer of a training loop, what its weight decay pulls weights towards, and the average of the weights."""

from collections.abc import Collection
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from training.fitting.depthwise import FactorisedDepthwise


def trainable_parameters(network: nn.Module) -> list[nn.Parameter]:
    """Returns the parameters of ``network`` that require gradients."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def make_optimizer(
    network: nn.Module,
    *,
    rate: float,
    decay: float,
    pretrained: Collection[nn.Parameter] = (),
    pretrained_rate: float = 0.0,
    returning: Collection[nn.Parameter] = (),
) -> torch.optim.Optimizer:
    """Makes AdamW for ``network``, with the full learning rate of each group of parameters as its ``full_rate``.

    The parameters ``pretrained`` learn at ``pretrained_rate``, the others at ``rate``. Weights decay towards 0 by
    ``decay``, except biases, norms, LSTMs, and the weights over time of factorised kernels, which start as the
    identity. The parameters ``returning`` decay towards their present values instead.
    """
    pretrained_ids = {id(parameter) for parameter in pretrained}
    undecayed_ids = {id(parameter) for parameter in (*_undecayed(network), *returning)}

    def group(is_pretrained: bool, is_decayed: bool) -> dict[str, Any]:
        full_rate = pretrained_rate if is_pretrained else rate
        parameters = [
            parameter
            for parameter in trainable_parameters(network)
            if (id(parameter) in pretrained_ids) is is_pretrained and (id(parameter) not in undecayed_ids) is is_decayed
        ]
        return {
            "params": parameters,
            "lr": full_rate,
            "full_rate": full_rate,
            "weight_decay": decay if is_decayed else 0.0,
        }

    kinds = [(is_pretrained, is_decayed) for is_pretrained in (False, True) for is_decayed in (True, False)]
    optimizer = torch.optim.AdamW([group(*kind) for kind in kinds])
    if returning:
        _return_to_start(optimizer, returning, decay)
    return optimizer


def _undecayed(network: nn.Module) -> list[nn.Parameter]:
    whole = (module for module in network.modules() if isinstance(module, nn.RNNBase | FactorisedDepthwise))
    vectors = (parameter for parameter in network.parameters() if parameter.ndim < 2)
    return [*(parameter for module in whole for parameter in module.parameters()), *vectors]


def _return_to_start(optimizer: torch.optim.Optimizer, parameters: Collection[nn.Parameter], decay: float) -> None:
    """Lets ``parameters`` decay towards their present values with every step of ``optimizer``.

    This is L2-SP (Li et al., 2018, https://arxiv.org/abs/1802.01483), decoupled from the gradients as in AdamW.
    """
    starts = {parameter: parameter.detach().clone() for parameter in parameters}

    @torch.no_grad()
    def decay_all(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter in starts:
                    parameter.lerp_(starts[parameter], group["lr"] * decay)

    optimizer.register_step_post_hook(decay_all)


def moving_average(network: nn.Module, decay: float) -> AveragedModel:
    """Returns an exponential moving average of the weights of ``network``, to be updated after every step.

    A step has the weight ``1 - decay``. The first steps have more, so that the average soon forgets the start.
    """

    def average(averaged: torch.Tensor, current: torch.Tensor, steps: torch.Tensor | int) -> torch.Tensor:
        share = torch.as_tensor((1 + steps) / (10 + steps)).clamp(max=decay)
        return torch.lerp(averaged, current, 1 - share)

    return AveragedModel(network, avg_fn=average)
