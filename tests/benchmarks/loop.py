"""Compares the speed of `vtag run` with that of a hand-written loop, and of Ray Data's own video reader.

    python -m tests.benchmarks.loop [--rounds N] [--videos N] [--read-videos] [--json FILE]

`vtag run` tags copies of a minute of 320×240 video with `i3d-kinetics400` (untrained weights take the same time) and
with the built-in model. The loop classifies windows of the same video: decord reads 16 frames, they are scaled and
normalised, pytorchvideo's I3D gives probabilities. The loop runs in float32, as the network is built, and tuned, in
bfloat16 and ``channels_last_3d``. All take turns, so that other load on this machine slows down all of them; start-up
is left out. Prints windows per second, medians over the rounds, and ratios.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import decord
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tagger.classifier import choose_precision
from tagger.models.kinetics import KINETICS_PREPROCESSING as PREPROCESSING
from tagger.models.model_zoo import I3D_CHECKPOINT
from tagger.models.registry import build_network
from tagger.windows import Sampling
from tests.benchmarks.fused import set_norms
from tests.benchmarks.isolation import encode_minute

SAMPLING = Sampling()
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
"""The device of the loop; `vtag run` chooses the same."""
LOOP_WINDOWS, TUNED_WINDOWS = 10, 20


@click.command()
@click.option("--rounds", default=3, show_default=True)
@click.option(
    "--videos",
    default=8,
    show_default=True,
    help="Minutes of video for i3d-kinetics400; four times as many for the built-in model.",
)
@click.option("--read-videos", is_flag=True, help="Measure ray.data.read_videos with a model actor, too.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write the figures to this file.")
def main(rounds: int, videos: int, read_videos: bool, json_file: Path | None) -> None:
    """Measures and prints."""
    with tempfile.TemporaryDirectory(prefix="vtag-loop-") as name:
        folder = Path(name)
        minute = encode_minute(folder)
        network = i3d_network(folder / "weights.pyth")
        tuned = i3d_network(folder / "weights.pyth").to(memory_format=torch.channels_last_3d)
        tuned.get_submodule("backbone").bfloat16()
        # All frames, as the hand-written loop.
        kinetics = ["--model", "i3d-kinetics400", "--weights", str(folder / "weights.pyth"), "--frames", "16"]
        contenders: dict[str, Callable[[], float]] = {
            "loop, float32": lambda: loop(minute, network, torch.float32, LOOP_WINDOWS),
            "loop, tuned": lambda: loop(minute, tuned, torch.bfloat16, TUNED_WINDOWS),
            "vtag run, i3d-kinetics400": lambda: vtag_run(copies(minute, folder / "few", videos), kinetics),
            "vtag run, actions38": lambda: vtag_run(copies(minute, folder / "many", 4 * videos), []),
        }
        if read_videos:
            contenders["ray.data.read_videos"] = lambda: with_read_videos(
                copies(minute, folder / "two", 2), folder / "weights.pyth"
            )
        rates: dict[str, list[float]] = {name: [] for name in contenders}
        for number in range(rounds):
            for name, measure in contenders.items():
                rates[name].append(measure())
                print(f"round {number + 1}: {name}: {rates[name][-1]:.3g} windows/s", flush=True)
    medians = {name: statistics.median(of_one) for name, of_one in rates.items()}
    slow = medians["loop, float32"]
    print(
        f"\n{torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"vtag in {choose_precision(DEVICE)} on {DEVICE}"
    )
    for name, rate in medians.items():
        print(
            f"{name:28} {rate:7.3g} windows/s, {rate / slow:5.2f} times the loop in float32, "
            f"{rate / medians['loop, tuned']:5.2f} times the tuned one"
        )
    if json_file is not None:
        json_file.write_text(json.dumps({"windows_per_s": rates}, indent=1))


def i3d_network(file: Path) -> nn.Module:
    """Returns an untrained I3D with sensible batch-norm statistics. Writes it to ``file``, or reads it from there."""
    network = build_network("i3d-kinetics400", 400)
    if file.exists():
        I3D_CHECKPOINT.load(network, file)
        return network.eval()
    torch.manual_seed(0)
    set_norms(network.get_submodule("backbone"), torch.randn(1, 3, 16, 112, 112))
    state = network.eval().state_dict()
    named = {name.replace("backbone.", "blocks.").replace("head.", "blocks.6."): value for name, value in state.items()}
    torch.save({"model_state": named}, file)
    return network


@torch.inference_mode()
def loop(path: Path, network: nn.Module, precision: torch.dtype, windows: int) -> float:
    """Windows per second of the loop, the first window left out."""
    reader = decord.VideoReader(str(path))
    network.to(DEVICE)
    backbone, head = network.get_submodule("backbone"), network.get_submodule("head")
    layout = torch.contiguous_format if precision == torch.float32 else torch.channels_last_3d
    started_s = 0.0
    for number in range(windows + 1):
        if number == 1:
            started_s = time.perf_counter()
        times_s = number * SAMPLING.window_s + np.arange(SAMPLING.num_frames) * SAMPLING.step_s
        indices = np.minimum((times_s * reader.get_avg_fps()).round().astype(int), len(reader) - 1)
        clip = prepared(reader.get_batch(indices).asnumpy())
        features = backbone(clip.to(DEVICE, precision).contiguous(memory_format=layout)).float()
        head(features).softmax(dim=1).cpu().numpy()
    return windows / (time.perf_counter() - started_s)


def prepared(frames: np.ndarray) -> torch.Tensor:
    """``[T, H, W, 3] uint8`` frames, scaled, cropped and normalised: ``[1, 3, T, 224, 224]``."""
    height, width = frames.shape[1:3]
    wide, high = PREPROCESSING.scaled(width, height)
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
    pixels = functional.interpolate(pixels, (high, wide), mode="bilinear")
    size = PREPROCESSING.size
    top, left = (high - size) // 2, (wide - size) // 2
    pixels = pixels[:, :, top : top + size, left : left + size]
    pixels = (pixels - PREPROCESSING.mean[0]) / PREPROCESSING.std[0]
    return pixels.transpose(0, 1)[None]


def copies(video: Path, folder: Path, count: int) -> Path:
    """Makes a folder with ``count`` links to the video."""
    if not folder.exists():
        folder.mkdir()
        for number in range(count):
            (folder / f"{number}.mp4").hardlink_to(video)
    return folder


def vtag_run(videos: Path, options: list[str]) -> float:
    """Windows per second of `vtag run` from the first windows that came back to the last."""
    return rate_and_summary(videos, options)[0]


def rate_and_summary(videos: Path, options: list[str]) -> tuple[float, dict[str, Any]]:
    """Windows per second of `vtag run` from the first windows that came back to the last, and its own summary."""
    with tempfile.TemporaryDirectory(prefix="vtag-loop-") as out:
        command = ["run", str(videos), "--out", f"{out}/tags.parquet", "--json", *options]
        program = [sys.executable, "-c", "from jobs.cli import main; main()"]
        done = subprocess.run([*program, *command], stdout=subprocess.PIPE, check=True, text=True)
    events: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    tagging = [event for event in events if event["event"] == "progress" and event["windows"]]
    first, last = tagging[0], tagging[-1]
    return (last["windows"] - first["windows"]) / (last["elapsed_s"] - first["elapsed_s"]), events[-1]


def with_read_videos(videos: Path, weights: Path) -> float:
    """Windows per second of Ray Data's video reader with one model actor, from the first window on."""
    import ray
    from ray.data import ActorPoolStrategy

    ray.init(address="local", include_dashboard=False, log_to_driver=False)
    try:
        frames = ray.data.read_videos(str(videos))
        step = round(SAMPLING.step_s * 25)
        windows = frames.map_batches(
            LoopActor,
            fn_constructor_kwargs={"weights": weights, "step": step},
            batch_size=SAMPLING.num_frames * step,
            compute=ActorPoolStrategy(size=1),
        )
        done_s = [time.perf_counter() for _ in rows_of(windows)]
    finally:
        ray.shutdown()
    return (len(done_s) - 1) / (done_s[-1] - done_s[0])


def rows_of(dataset: Any) -> Iterator[Any]:
    """The rows of a data set, as they come."""
    for batch in dataset.iter_batches(batch_size=1, prefetch_batches=0):
        yield from batch["label"]


class LoopActor:
    """The network of the loop, in float32, as a Ray Data actor."""

    def __init__(self, weights: Path, step: int):
        self._network, self._step = i3d_network(weights), step

    @torch.inference_mode()
    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Classifies a batch, which has the frames of one window. An incomplete batch at the end is dropped."""
        if len(batch["frame"]) <= (SAMPLING.num_frames - 1) * self._step:
            return {"label": np.empty(0, np.int64)}
        clip = prepared(np.ascontiguousarray(batch["frame"][:: self._step]))
        return {"label": self._network(clip).argmax(dim=1).numpy()}


if __name__ == "__main__":
    main()
