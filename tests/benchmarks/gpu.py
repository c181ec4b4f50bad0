"""Measures a GPU: each model by batch size, a hand-written loop, decoding by picture size, and whole jobs.

    python -m tests.benchmarks.gpu [--seconds S] [--videos N] [--json FILE] [PART]...

PART is `models`, `loop`, `decoding` or `jobs`; by default all of them. The I3D has untrained weights, which take the
same time. As in a job, windows are copied from the machine's memory and probabilities back to it. A share is relative
to the product of two large matrices in the same precision.
"""

import json
import math
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import click
import numpy as np
import pyarrow.parquet as pq
import torch

from jobs.measure.ceilings import peak_flop_per_s, times_s
from jobs.measure.sample_video import make_sample
from jobs.tagging.decode_trial import measure_decoding
from jobs.tagging.pipeline import DECODERS_PER_GPU
from tagger.classifier import Classifier, choose_precision
from tagger.models.fast import fused
from tagger.models.kinetics import KINETICS, KINETICS_PREPROCESSING
from tagger.models.registry import BUILTIN, CNN3D_PREPROCESSING, build_network, builtin_model_path
from tagger.tagger import find_model, load_model
from tagger.video import probe
from tagger.video.readers.reader import DecoderName
from tests.benchmarks.loop import LOOP_WINDOWS, SAMPLING, copies, i3d_network, loop

PARTS = ("models", "loop", "decoding", "jobs")
BATCH_SIZES = (1, 4, 16, 32)
CALL_WINDOWS = 64
"""Windows per call of a model."""
SIZES = ("320x240", "1280x720", "1920x1080")


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(PARTS))
@click.option("--seconds", default=2.0, show_default=True, help="How long each figure is measured.")
@click.option("--videos", default=600, show_default=True, help="Minutes of video in each job.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write the figures to this file.")
def main(parts: tuple[str, ...], seconds: float, videos: int, json_file: Path | None) -> None:
    """Measures and prints."""
    if not torch.cuda.is_available():
        raise click.ClickException("there is no GPU here")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {torch.get_num_threads()} threads", flush=True)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="vtag-gpu-") as name:
        folder = Path(name)
        measures: dict[str, Callable[[], Any]] = {
            "models": lambda: models(folder, seconds),
            "loop": lambda: hand_written_loop(folder),
            "decoding": lambda: decoding(folder, seconds),
            "jobs": lambda: [job(folder, model, videos) for model in (KINETICS, BUILTIN)],
        }
        for part in parts or PARTS:
            found[part] = measures[part]()
            if json_file is not None:
                json_file.write_text(json.dumps(found, indent=1))


def models(folder: Path, seconds: float) -> dict[str, Any]:
    """Returns windows per second and share of the peak of each model by batch size, in the precision that vtag chooses.

    Batches of 16 are also measured with PyTorch's 3D layers in place of 2D kernels (``flat``).
    """
    device = torch.device("cuda")
    precision = choose_precision(device)
    peak = peak_flop_per_s(device, precision, seconds)
    print(f"matrix products in {precision}: {peak / 1e12:.0f} TFLOP/s")
    cnn3d = build_network("cnn3d-lstm", 11, {"differences": True})
    classifiers = {
        KINETICS: Classifier(i3d_network(folder / "weights.pyth"), KINETICS_PREPROCESSING),
        BUILTIN: load_model(str(builtin_model_path())).classifier,
        "cnn3d-lstm": Classifier(cnn3d, CNN3D_PREPROCESSING),
    }
    found: dict[str, Any] = {"peak_flop_per_s": peak}
    for name, classifier in classifiers.items():
        side = 112 if name == "cnn3d-lstm" else 224
        clips = np.random.default_rng(0).integers(0, 256, (CALL_WINDOWS, 16, side, side, 3), dtype=np.uint8)
        flop = classifier.operations(16)
        for size, is_flat in [*((size, True) for size in (*BATCH_SIZES, None)), (16, False)]:
            # A batch of another size discards the CUDA graph that was recorded last.
            classifier.logits(clips[:1], 1)
            with mock.patch.object(fused, "FLAT_DEVICES", fused.FLAT_DEVICES if is_flat else frozenset()):
                rate = CALL_WINDOWS / statistics.median(times_s(partial(classifier.logits, clips, size), seconds))
            how = f"batch {size or 'automatic'}" + ("" if is_flat else ", in 3D")
            found[f"{name}, {how}"] = {"windows_per_s": rate, "share": rate * flop / peak}
            print(
                f"{name:16} {how:16} {rate:7,.0f} windows/s, {100 * rate * flop / peak:4.1f} % of the peak", flush=True
            )
    return found


def hand_written_loop(folder: Path) -> float:
    """Returns windows per second of a hand-written loop, decoding included (``tests.benchmarks.loop``)."""
    minute = make_sample(folder / "loop.mp4")
    rate = statistics.median(
        loop(minute, i3d_network(folder / "weights.pyth"), torch.float32, LOOP_WINDOWS) for _ in range(3)
    )
    print(f"decord + pytorchvideo loop in float32: {rate:.3g} windows/s", flush=True)
    return rate


def decoding(folder: Path, seconds: float) -> dict[str, Any]:
    """Returns windows per second of one core, of all cores, and of the GPU's decoder, by picture size."""
    cores = torch.get_num_threads()
    preprocessing = find_model(BUILTIN).info.preprocessing
    found: dict[str, Any] = {}
    for size in SIZES:
        path = make_sample(folder / f"{size}.mp4", size=size, seconds=20)
        videos = [(str(path), probe(path))]
        ways: list[tuple[DecoderName, int]] = [("pyav", 1), ("pyav", cores), ("pyav-fast", cores)]
        ways += [("pyav-nvdec", count) for count in (1, min(cores, DECODERS_PER_GPU))]
        for reader, count in ways:
            rate = measure_decoding(videos, SAMPLING, preprocessing, reader, count, seconds)
            found[f"{size}, {reader}, {count}"] = rate.windows_per_s
            print(
                f"{size:>9} {reader:10} {count:3} processes: {rate.windows_per_s:7,.0f} windows/s, "
                f"{rate.frames_per_s:7,.0f} frames/s",
                flush=True,
            )
    return found


def job(folder: Path, model: str, count: int) -> dict[str, Any]:
    """Returns windows per second of a whole job, without its start-up, and how busy the GPU was."""
    minutes = copies(make_sample(folder / "job.mp4"), folder / "minutes", count)
    out = folder / f"{model}.parquet"
    weights = ["--weights", str(folder / "weights.pyth"), "--frames", "16"] if model == KINETICS else []
    if weights:
        i3d_network(folder / "weights.pyth")
    command = ["run", str(minutes), "--out", str(out), "--json", "--model", model, *weights]
    begun_s = time.time()
    events: list[tuple[float, dict[str, Any]]] = []
    with Utilisation() as utilisation:
        program = [sys.executable, "-c", "from jobs.cli import main; main()", *command]
        with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as running:
            assert running.stdout is not None
            events.extend((time.time(), json.loads(line)) for line in running.stdout)
    if running.returncode:
        raise click.ClickException(f"vtag run ended with {running.returncode}")
    tagging = [(when, event) for when, event in events if event["event"] == "progress" and event["windows"]]
    (first_s, first), (last_s, last) = tagging[0], tagging[-1]
    rate = (last["windows"] - first["windows"]) / (last_s - first_s)
    decoders = pq.read_table(out.with_suffix(".videos.parquet"))["decoder"].value_counts().to_pylist()
    figures = {
        "windows_per_s": rate,
        "windows": last["windows"],
        "first_after_s": first_s - begun_s,
        "gpu_busy": utilisation.mean(first_s, last_s),
        "decoders": {each["values"]: each["counts"] for each in decoders},
        "summary": events[-1][1],
    }
    print(
        f"vtag run, {model}: {rate:,.0f} windows/s of {last['windows']:,} windows, the GPU busy for "
        f"{100 * figures['gpu_busy']:.0f} % of the time; first windows after {first_s - begun_s:.1f} s; "
        f"videos by decoder: {figures['decoders']}",
        flush=True,
    )
    return figures


class Utilisation:
    """Samples the utilisation of the GPU with nvidia-smi five times a second."""

    def __init__(self) -> None:
        self._samples: list[tuple[float, float]] = []
        query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "200"]
        self._asking = subprocess.Popen(query, stdout=subprocess.PIPE, text=True)
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> "Utilisation":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._asking.terminate()
        self._asking.wait()
        self._thread.join()

    def _read(self) -> None:
        assert self._asking.stdout is not None
        for line in self._asking.stdout:
            if line.strip().isdigit():
                self._samples.append((time.time(), int(line) / 100))

    def mean(self, from_s: float, to_s: float) -> float:
        """Returns the mean utilisation, 0 to 1, between two times."""
        between = [share for when, share in self._samples if from_s <= when <= to_s]
        return statistics.mean(between) if between else math.nan


if __name__ == "__main__":
    main()
