"""Measures the gain of fusing a network: time per window layer by layer, fused, and fused without one of its parts.

    python -m tests.benchmarks.fused [--rounds N] [--threads N] [--give-back] [NETWORK]...

NETWORK is `actions38`, `i3d-kinetics400`, `x3d-m-kinetics400` or `cnn3d-lstm`; by default all of them.

All variants of a network run in ``channels_last_3d``, in turns and in random order, so that other load on this machine
slows down all of them. Prints medians, and how many times as long as the fused network each variant takes: the median
over the rounds of the ratio of CPU time, which other programs disturb less than wall time. Freed memory is kept, as in
jobs; with ``--give-back`` it is returned to the system.
"""

import contextlib
import copy
import random
import statistics
import time
from collections.abc import Callable, Iterator
from unittest import mock

import click
import torch
from torch import nn

from jobs.cluster.memory import keep_freed_memory
from tagger.models.fast import fused, operators
from tagger.models.fast.fused import FusedConv3d, fuse
from tagger.models.registry import BUILTIN, build_network
from tagger.tagger import find_model

NETWORKS = (BUILTIN, "i3d-kinetics400", "x3d-m-kinetics400", "cnn3d-lstm")


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(NETWORKS))
@click.option("--rounds", default=9, show_default=True)
@click.option("--threads", default=torch.get_num_threads(), show_default="as many as cores")
@click.option("--give-back", is_flag=True, help="Give freed memory back to the system.")
def main(names: tuple[str, ...], rounds: int, threads: int, give_back: bool) -> None:
    """Prints a line for each network, precision and part."""
    torch.set_num_threads(threads)
    if not give_back:
        keep_freed_memory()
    info = find_model(BUILTIN).info
    networks = {
        BUILTIN: (info.architecture, dict(info.options), 224),
        "i3d-kinetics400": ("i3d-kinetics400", {}, 224),
        "x3d-m-kinetics400": ("x3d-m-kinetics400", {}, 224),
        "cnn3d-lstm": ("cnn3d-lstm", {"differences": True}, 112),
    }
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    for name in names or NETWORKS:
        architecture, options, size = networks[name]
        backbone = build_network(architecture, len(info.labels), options).get_submodule("backbone")
        if name == BUILTIN:
            inflated(backbone)
        clip = torch.randn(1, 3, 16, size, size).clamp(-1, 1)
        set_norms(backbone, clip)
        for precision in (torch.float32, torch.bfloat16):
            times_s = in_turns(backbone, clip, precision, rounds)
            fused_s = times_s["fused"]
            print(f"{name}, {str(precision).removeprefix('torch.')}")
            for how, each_s in times_s.items():
                ratio = statistics.median(one / other for (_, one), (_, other) in zip(each_s, fused_s, strict=True))
                wall_s = statistics.median(wall for wall, _ in each_s)
                print(f"    {how:36} {1000 * wall_s:6.0f} ms, {ratio:.2f} times as long as fused", flush=True)


def inflated(backbone: nn.Module) -> None:
    """Zeroes the kernels before and after the middle frame, as they are in the built-in model."""
    for parameter in backbone.parameters():
        if parameter.ndim == 5 and parameter.shape[2] == 3:
            parameter.data[:, :, (0, 2)] = 0


def set_norms(backbone: nn.Module, clip: torch.Tensor) -> None:
    """Sets the batch-norm statistics from a clip: random layers would drift into denormal numbers, which are slow."""
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.momentum = 1.0
    with torch.no_grad():
        backbone.train()(clip)
    backbone.eval()


def hide_norms(network: nn.Module) -> nn.Module:
    """Wraps each norm, so that ``fuse`` does not see that it follows a convolution."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm3d):
                setattr(module, name, nn.Sequential(child))
    return network


def not_in_place(network: nn.Module) -> nn.Module:
    """Makes activations that are not fused write to new memory."""
    for module in network.modules():
        if isinstance(module, nn.ReLU | nn.ReLU6) and hasattr(module, "inplace"):
            module.inplace = False
    return network


@contextlib.contextmanager
def without(part: str) -> Iterator[None]:
    """Disables one part of the fusion inside the block."""
    patches = {
        "single-frame kernels": (fused, "_sees_single_frames", lambda convolution: False),
        "sums in residual blocks": (fused, "_is_res_block", lambda module: False),
        "frames in parts": (fused, "_in_parts", lambda network: network),
        "oneDNN's post-operations": (operators.conv3d, "fast", operators.conv3d.plain),
        "oneDNN's sums": (operators.conv3d_add, "fast", operators.conv3d_add.plain),
        "scaling with Swish": (operators.scaled_swish, "fast", operators.scaled_swish.plain),
        "means by products": (fused.channel_means, "fast", fused.channel_means.plain),
    }
    with mock.patch.object(*patches[part]) if part in patches else contextlib.nullcontext():
        yield


def variants(backbone: nn.Module) -> dict[str, tuple[nn.Module, str]]:
    """Returns the variants of the network, each with the part that is disabled while it runs."""
    made: dict[str, Callable[[nn.Module], nn.Module]] = {
        "single-frame kernels": fuse,
        "frames in parts": fuse,
        "sums in residual blocks": fuse,
        "oneDNN's post-operations": fuse,
        "oneDNN's sums": fuse,
        "scaling with Swish": fuse,
        "means by products": fuse,
        "activations in place": lambda network: not_in_place(fuse(network)),
        # Activations then follow norms, so they are not fused with convolutions either.
        "folded norms": lambda network: fuse(hide_norms(network)),
    }
    whole = fuse(copy.deepcopy(backbone))
    found = {"layer by layer": (copy.deepcopy(backbone), ""), "fused": (whole, "")}
    modules = list(whole.modules())
    has = {
        "frames in parts": any(isinstance(module, fused.InParts) for module in modules),
        "sums in residual blocks": (is_residual := any(isinstance(module, fused.FusedResBlock) for module in modules)),
        "oneDNN's sums": is_residual,
        "scaling with Swish": (is_squeezed := any(isinstance(module, fused.SqueezeAndSwish) for module in modules)),
        "means by products": is_squeezed,
        # Fused residual blocks require folded norms.
        "folded norms": not is_residual,
        "single-frame kernels": any(
            isinstance(module, FusedConv3d) and module.weight.shape[2] < convolution.weight.shape[2]
            for module, convolution in zip(
                (module for module in modules if isinstance(module, FusedConv3d)),
                # Those of squeeze-and-excitation become linear layers.
                (
                    module
                    for name, module in backbone.named_modules()
                    if isinstance(module, nn.Conv3d) and ".norm_b." not in name
                ),
                strict=True,
            )
        ),
    }
    for part, make in made.items():
        if has.get(part, True):
            with without(part):
                found[f"without {part}"] = make(copy.deepcopy(backbone)), part
    return found


@torch.inference_mode()
def in_turns(
    backbone: nn.Module, clip: torch.Tensor, precision: torch.dtype, rounds: int
) -> dict[str, list[tuple[float, float]]]:
    """Returns wall and CPU seconds of ``rounds`` passes through the backbone, for each variant."""
    clip = clip.to(precision).to(memory_format=torch.channels_last_3d)
    networks = {
        how: (network.to(precision).to(memory_format=torch.channels_last_3d), part)
        for how, (network, part) in variants(backbone).items()
    }
    times_s: dict[str, list[tuple[float, float]]] = {how: [] for how in networks}
    for _ in range(2 + rounds):
        # The variant that runs after one that takes much memory must not always be the same.
        for how in random.sample(list(networks), len(networks)):
            network, part = networks[how]
            with without(part):
                started_s, used_s = time.perf_counter(), time.process_time()
                network(clip)
                times_s[how].append((time.perf_counter() - started_s, time.process_time() - used_s))
    return {how: each[2:] for how, each in times_s.items()}


if __name__ == "__main__":
    main()
