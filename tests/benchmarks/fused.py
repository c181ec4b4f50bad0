"""What fusing a network is worth: time of one window, layer by layer against fused.

    python -m tests.benchmarks.fused [--rounds N]

Each network runs as it is built, in ``channels_last_3d``, and fused, in turns, so that whatever else this machine does
slows down both. Prints medians and their ratio.
"""

import copy
import statistics
import time

import click
import torch
from torch import nn

from tagger.models import BUILTIN, build_network
from tagger.models.fast.fused import fuse
from tagger.tagger import find_model


@click.command()
@click.option("--rounds", default=9, show_default=True)
def main(rounds: int) -> None:
    """Prints a line for each network and precision."""
    info = find_model(BUILTIN).info
    networks = {
        BUILTIN: (info.architecture, dict(info.options), 224),
        "i3d-kinetics400": ("i3d-kinetics400", {}, 224),
        "cnn3d-lstm": ("cnn3d-lstm", {"differences": True}, 112),
    }
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    for name, (architecture, options, size) in networks.items():
        backbone = build_network(architecture, len(info.labels), options).get_submodule("backbone")
        if name == BUILTIN:
            inflated(backbone)
        clip = torch.randn(1, 3, 16, size, size).clamp(-1, 1)
        settle_norms(backbone, clip)
        for precision in (torch.float32, torch.bfloat16):
            times_s = in_turns(backbone, clip, precision, rounds)
            plain_s, fused_s = (statistics.median(times) for times in times_s)
            print(
                f"{name:16} {str(precision).removeprefix('torch.'):9} layer by layer {1000 * plain_s:6.0f} ms, "
                f"fused {1000 * fused_s:6.0f} ms: {plain_s / fused_s:.2f} times as fast"
            )


def inflated(backbone: nn.Module) -> None:
    """Zeroes the kernels before and after the middle frame, as they are in the built-in model."""
    for parameter in backbone.parameters():
        if parameter.ndim == 5 and parameter.shape[2] == 3:
            parameter.data[:, :, (0, 2)] = 0


def settle_norms(backbone: nn.Module, clip: torch.Tensor) -> None:
    """Sets the norms by a clip: random layers would drift into denormal numbers, which take much longer."""
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.momentum = 1.0
    with torch.no_grad():
        backbone.train()(clip)
    backbone.eval()


@torch.inference_mode()
def in_turns(backbone: nn.Module, clip: torch.Tensor, precision: torch.dtype, rounds: int) -> list[list[float]]:
    """Seconds of ``rounds`` passes through the backbone as it is, and as many through the fused one."""
    plain, fused = copy.deepcopy(backbone), fuse(copy.deepcopy(backbone))
    clip = clip.to(precision).to(memory_format=torch.channels_last_3d)
    variants = [network.to(precision).to(memory_format=torch.channels_last_3d) for network in (plain, fused)]
    times_s: list[list[float]] = [[], []]
    for _ in range(2 + rounds):
        for variant, times in zip(variants, times_s, strict=True):
            started_s = time.perf_counter()
            variant(clip)
            times.append(time.perf_counter() - started_s)
    return [times[2:] for times in times_s]


if __name__ == "__main__":
    main()
