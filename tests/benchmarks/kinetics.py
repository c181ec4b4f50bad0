"""Measures the Kinetics-400 models in turns: windows per second of all cores, or of a GPU.

    python -m tests.benchmarks.kinetics [--rounds N] [--seconds S] [--processes N] [--device cpu|cuda] [--precision P]

The models are the I3D with all 16 frames of a window, first without oneDNN's sums (``operators.conv3d_add``), as in
earlier versions; the I3D with every other frame, as it was trained; and X3D-M.
Each process, one for each core, has all models and one thread, as in a job, and all processes run the same model at the
same time. The order is random in each round. The weights are untrained, which takes the same time. Prints windows per
second, the median over the rounds, and ratios to the first model within a round, their median and range: of windows per
second, and of windows per second of CPU time, which other programs disturb less.
"""

import multiprocessing
import random
import time
from multiprocessing.connection import Connection
from typing import Any

import click
import numpy as np

MODELS = {
    "I3D, 16 frames, without sums": ("i3d-kinetics400", 16),
    "I3D, 16 frames": ("i3d-kinetics400", 16),
    "I3D, 8 frames": ("i3d-kinetics400", 8),
    "X3D-M, 16 frames": ("x3d-m-kinetics400", 16),
}


@click.command()
@click.option("--rounds", default=7, show_default=True)
@click.option("--seconds", default=3.0, show_default=True, help="Time for each model in each round.")
@click.option("--processes", default=2, show_default=True)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--precision", type=click.Choice(["fp32", "bf16", "fp16"]), default="bf16", show_default=True)
def main(rounds: int, seconds: float, processes: int, device: str, precision: str) -> None:
    """Prints a line for each model."""
    context = multiprocessing.get_context("spawn")
    ends = []
    for _ in range(processes):
        mine, theirs = context.Pipe()
        context.Process(target=serve, args=(theirs, device, precision), daemon=True).start()
        ends.append(mine)
    gflop = [end.recv() for end in ends].pop()
    rates: dict[str, list[np.ndarray]] = {name: [] for name in MODELS}
    for _ in range(rounds):
        for name in random.sample(list(MODELS), len(MODELS)):
            for end in ends:
                end.send((name, seconds))
            rates[name].append(np.sum([end.recv() for end in ends], axis=0))
    first = np.array(rates[next(iter(rates))])
    for name, each in rates.items():
        of_wall, of_cpu = (np.array(each) / first).T
        print(
            f"{name:28} {gflop[name]:6.1f} GFLOP {np.median(np.array(each)[:, 0]):8.2f} windows/s, "
            f"{np.median(of_wall):.2f} times the first ({min(of_wall):.2f} to {max(of_wall):.2f}), "
            f"of CPU time {np.median(of_cpu):.2f} ({min(of_cpu):.2f} to {max(of_cpu):.2f})"
        )
    for end in ends:
        end.send(None)


def serve(end: Connection, device: Any, precision: Any) -> None:
    """Builds the models, then measures those that it is asked for, until it is asked for None."""
    import torch

    from jobs.cluster.memory import keep_freed_memory
    from tagger.classifier import Classifier
    from tagger.models.fast import operators
    from tagger.models.registry import KNOWN_MODELS, build_network
    from tests.benchmarks.fused import set_norms

    keep_freed_memory()
    torch.set_num_threads(1)
    classifiers = {}
    for name in {name for name, _ in MODELS.values()}:
        network = build_network(name, 400)
        set_norms(network.get_submodule("backbone"), torch.randn(1, 3, 8, 112, 112))
        classifiers[name] = Classifier(network, KNOWN_MODELS[name].preprocessing, device=device, precision=precision)
    batch = 1 if device == "cpu" else 16
    size = 224
    pixels = np.random.default_rng(0)
    clips = {n: pixels.integers(0, 256, (batch, n, size, size, 3), dtype=np.uint8) for _, n in MODELS.values()}
    for name, frames in MODELS.values():
        for _ in range(2):
            classifiers[name].classify(clips[frames])
    fast, plain = operators.conv3d_add.fast, add_afterwards
    end.send({how: classifiers[name].operations(frames) / 1e9 for how, (name, frames) in MODELS.items()})
    while (asked := end.recv()) is not None:
        how, seconds = asked
        operators.conv3d_add.fast = plain if how.endswith("without sums") else fast
        name, frames = MODELS[how]
        windows, started_s, used_s = 0, time.perf_counter(), time.process_time()
        while (taken_s := time.perf_counter() - started_s) < seconds:
            classifiers[name].classify(clips[frames])
            windows += batch
        end.send((windows / taken_s, windows / (time.process_time() - used_s)))


def add_afterwards(x: Any, weight: Any, bias: Any, residual: Any, *others: Any) -> Any:
    """Computes what ``conv3d_add`` does with oneDNN's convolution, then a sum and ReLU."""
    from tagger.models.fast.operators import conv3d

    return conv3d(x, weight, bias, *others[:-1], None).add_(residual).relu_()


if __name__ == "__main__":
    main()
