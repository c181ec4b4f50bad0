"""Measures the overhead of a job: the CPU seconds of `vtag run` against decoding alone and the model alone.

All three get the same videos and process as many at a time as the job, because two busy hyperthreads use more CPU
seconds for the same work than one. Each is a separate command, and all its processes count. Starting Ray and PyTorch
costs the same for ten videos as for ten million, so everything is measured with N videos and with 3 N: the marginal
ratio is the ratio of the differences. At the end the CPU time of a decoder process is measured while its spans are not
read.
"""

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from tagger.isolation import DecoderProcess, decoder_of_this_thread
from tagger.preprocessing import Preprocessing
from tagger.windows import Sampling
from tests.benchmarks.isolation import encode_clip
from tests.videos import encode

INTERVAL_S = 0.2
BLOCKED_S = 5.0


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=Path, help="a folder of mp4 files to use instead of generated clips")
    parser.add_argument("--count", type=int, default=40, help="N, the number of videos")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="actions38")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder), options.videos, options.count, options.rounds, options.model)
        # The first file is read with decord, the second one with PyAV.
        for name, codec in (("minute.webm", "libvpx-vp9"), ("minute.mp4", "libx264")):
            measure_blocked(encode(Path(folder) / name, codec=codec, seconds=60))


def compare(folder: Path, videos: Path | None, count: int, rounds: int, model: str) -> None:
    """Prints the ratios of every round and their medians."""
    if videos is None:
        paths = [encode_clip(folder, number) for number in range(3 * count)]
    else:
        found = sorted(videos.rglob("*.mp4"))
        # Videos from the whole folder.
        paths = found[:: max(1, len(found) // (3 * count))][: 3 * count]
    lists = {"N": paths[:: len(paths) // count][:count], "3 N": paths}
    ratios: dict[str, list[float]] = {"whole": [], "marginal": []}
    for number in range(rounds):
        used: dict[str, Counter[str]] = {}
        for name, part in lists.items():
            used[name] = cpu_by_kind(folder, part, model)
            print(f"round {number + 1}, {name} = {len(part)} videos: " + in_words(used[name]), flush=True)
        extra = used["3 N"].copy()
        extra.subtract(used["N"])
        for kind, of in (("whole", used["3 N"]), ("marginal", extra)):
            ratios[kind].append(of["job"] / (of["decoding"] + of["model"]))
        print(f"  3 N - N: {in_words(extra)}")
        print("  ratio: " + ", ".join(f"{kind} {values[-1]:.3f}" for kind, values in ratios.items()), flush=True)
    for kind, values in ratios.items():
        print(f"{kind}: job / (decoding alone + model alone) = {statistics.median(values):.3f}, median of {rounds}")


def cpu_by_kind(folder: Path, paths: Sequence[Path], model: str) -> Counter[str]:
    """CPU seconds of decoding alone, the model alone, the job, and the job's kinds of processes."""
    from jobs.tagging.pipeline import SPAN_WINDOWS, choose_workers, windows_per_call
    from tagger.tagger import find_model

    info = find_model(model).info
    workers = choose_workers(os.cpu_count() or 1, 0, "cpu")
    rows = windows_per_call(info, "cpu")
    names = [str(path) for path in paths]
    how = (info.sampling.to_json(), asdict(info.preprocessing), min(rows, SPAN_WINDOWS))
    decoding, windows = cpu_of(command_for(decode_alone, names, workers.decoders, *how))
    calls = round(int(windows) / rows / workers.actors)
    predicting, _ = cpu_of(command_for(predict_alone, names[0], model, calls, rows, workers.actors, workers.threads))
    listed = folder / "list.txt"
    listed.write_text("".join(f"{name}\n" for name in names))
    run = [sys.executable, "-c", "from jobs.cli import main; main()", "run", f"@{listed}", "--model", model]
    job, _ = cpu_of([*run, "--out", str(folder / "tags.parquet"), "--overwrite"])
    totals = Counter({"decoding": decoding.total(), "model": predicting.total(), "job": job.total()})
    totals.update({f"of which {kind}": seconds for kind, seconds in job.items()})
    return totals


def command_for(function: Callable[..., None], *arguments: object) -> list[str]:
    """Returns the command that calls a function of this module in a separate process."""
    return [sys.executable, "-c", f"from {__spec__.name} import {function.__name__} as call; call(*{arguments!r})"]


def in_words(used: Counter[str]) -> str:
    """CPU seconds by name."""
    return ", ".join(f"{name} {seconds:.1f}" for name, seconds in used.items()) + " s"


def cpu_of(command: Sequence[str]) -> tuple[Counter[str], str]:
    """Returns the CPU seconds of a command by kind of process, and its output. Raises CalledProcessError when it fails.

    Processes are sampled five times a second; the CPU time between the last sample and the end of a process is missed.
    """
    used: dict[int, tuple[str, float]] = {}
    with tempfile.TemporaryFile("w+") as output:
        root = psutil.Popen(command, stdout=output)
        while root.poll() is None:
            for process in [root, *root.children(recursive=True)]:
                try:
                    times = process.cpu_times()
                    used[process.pid] = kind_of(process, root, used), times.user + times.system
                except psutil.Error:
                    continue
            time.sleep(INTERVAL_S)
        if root.returncode:
            raise subprocess.CalledProcessError(root.returncode, command)
        output.seek(0)
        kinds: Counter[str] = Counter()
        for kind, seconds in used.values():
            kinds[kind] += seconds
        return kinds, output.read().strip()


def kind_of(process: psutil.Process, root: psutil.Process, used: dict[int, tuple[str, float]]) -> str:
    """Returns the kind of a process: driver, decoder process, model actor, decoding worker, or part of Ray."""
    if process.pid == root.pid:
        return "driver"
    line = " ".join(process.cmdline())
    if "tagger.isolation.child" in line:
        return "decoder processes"
    if "Predictor" in line:
        return "model actors"
    known = used.get(process.pid, ("", 0.0))[0]
    if line.startswith("ray::"):
        # Ray names a worker after its current task.
        return (
            known if known and "IDLE" in line else "decoding workers" if "decode" in line else known or "idle workers"
        )
    return known or "ray itself"


def decode_alone(
    paths: Sequence[str], decoders: int, sampling: dict[str, Any], preprocessing: dict[str, Any], span_windows: int
) -> None:
    """Decodes videos, ``decoders`` at a time, and prints the number of their windows."""

    def count(path: str) -> int:
        spans = decoder_of_this_thread().spans(
            path, Sampling(**sampling), Preprocessing.from_json(preprocessing), span_windows=span_windows
        )
        return sum(len(span.windows) for span in spans)

    with ThreadPoolExecutor(decoders) as pool:
        print(sum(pool.map(count, paths)))


def predict_alone(path: str, model: str, calls: int, rows: int, actors: int, threads: int) -> None:
    """Has ``actors`` processes each classify the windows of one video over and over, in ``calls`` of ``rows``."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_run_actor, args=(path, model, calls, rows, threads)) for _ in range(actors)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()


def _run_actor(path: str, model: str, calls: int, rows: int, threads: int) -> None:
    import pyarrow as pa

    from jobs.tagging.prediction import Predictor
    from jobs.tagging.transport import span_to_table
    from tagger.tagger import find_model

    source = find_model(model)
    sampling, preprocessing = source.info.sampling, source.info.preprocessing
    with DecoderProcess() as decoder:
        (span, *_) = decoder.spans(path, sampling, preprocessing, span_windows=1)
        table = pa.concat_tables([span_to_table(0, span, 0.0)] * rows).combine_chunks()
    predictor = Predictor(source, None, sampling, "cpu", threads, top_k=5, batch_size=None)
    for _ in range(calls):
        predictor(table)


def measure_blocked(path: Path) -> None:
    """Prints the CPU time of a decoder process while its spans are not read."""
    with DecoderProcess() as decoder:
        spans = decoder.spans(path, Sampling(), Preprocessing(), span_windows=4)
        next(spans)
        process = psutil.Process(decoder.pid)
        time.sleep(BLOCKED_S)  # It may decode up to a span ahead; decord decodes the whole video first.
        before = sum(process.cpu_times()[:2])
        time.sleep(BLOCKED_S)
        used_s = sum(process.cpu_times()[:2]) - before
        *_, last = spans
    assert last.end is not None and last.end.choice is not None
    print(f"blocked for {BLOCKED_S:g} s, a decoder process with {last.end.choice.decoder} uses {used_s:.2f} s of CPU")


if __name__ == "__main__":
    main()
