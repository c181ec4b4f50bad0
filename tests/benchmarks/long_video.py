"""Measures the memory of a job on one video of hours: Ray's object store and its limits, and each process at its peak.

The video is one encoded minute, joined many times. The model is small and untrained, but slower than decoding, so that
as many windows as possible wait between decoding and model. Other arguments are passed on to `vtag run`.
"""

import argparse
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.benchmarks.isolation import encode_minute, join
from tests.benchmarks.run_resources import Usage, megabytes, record_usage

INTERVAL_S = 0.5


@dataclass
class Peaks:
    """The highest values that were seen so far."""

    store_bytes: int = 0
    store_size: int = 0
    data_limit: float = 0.0
    usages: dict[int, Usage] = field(default_factory=dict)
    resident_kb: dict[int, int] = field(default_factory=dict)


def main() -> None:
    """Runs the job and prints its peaks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=3.0)
    options, rest = parser.parse_known_args()
    from jobs.cli import main as vtag

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        minute = encode_minute(folder)
        video = join(minute, folder / "long.mp4", round(options.hours * 60))
        arguments = ["run", str(video), "--model", str(make_model(folder)), "--out", str(folder / "tags.parquet")]
        peaks, is_done = Peaks(), threading.Event()
        watcher = threading.Thread(target=watch, args=(peaks, is_done))
        watcher.start()
        sys.argv = ["vtag", *arguments, *rest]
        try:
            vtag()
        except SystemExit as end:
            print(f"exit status {end.code}")
        finally:
            is_done.set()
            watcher.join()
    print(
        f"object store: at most {megabytes(peaks.store_bytes)} in use of {megabytes(peaks.store_size)}; "
        f"Ray Data's share of it {megabytes(round(peaks.data_limit))}"
    )
    for pid, usage in sorted(peaks.usages.items(), key=lambda item: -item[1].peak_bytes):
        if usage.peak_bytes > 30e6:
            resident = megabytes(1000 * peaks.resident_kb.get(pid, 0))
            print(f"  {megabytes(usage.peak_bytes):>9} PSS {resident:>9} resident  {usage.name}")


def make_model(folder: Path) -> Path:
    """Writes a cnn3d-lstm with random weights and 224×224 pixels of input."""
    import torch

    from tagger import ModelInfo, Preprocessing, Sampling, save_model_file
    from tagger.models.registry import build_network

    torch.manual_seed(0)
    options = {"filters": [4, 4, 4], "hidden": 8}
    network = build_network("cnn3d-lstm", 4, options)
    path = folder / "untrained.safetensors"
    info = ModelInfo("cnn3d-lstm", ("a", "b", "c", "d"), Sampling(), Preprocessing(), options=options)
    save_model_file(path, info, network.state_dict())
    return path


def watch(peaks: Peaks, is_done: threading.Event) -> None:
    """Samples the object store and all processes until the job is done."""
    this = psutil.Process()
    while not is_done.wait(INTERVAL_S):
        record_store(peaks)
        for process in [this, *this.children(recursive=True)]:
            record_usage(process, name_of(process, this), peaks.usages)
            try:
                # The kernel's own high-water mark; memory that is shared counts in full.
                status = Path(f"/proc/{process.pid}/status").read_text()
                peaks.resident_kb[process.pid] = int(status.split("VmHWM:")[1].split()[0])
            except (OSError, IndexError):
                continue


def name_of(process: psutil.Process, this: psutil.Process) -> str | None:
    """Returns a name for a driver or decoder process; None for others, such as Ray's workers, which name themselves."""
    if process.pid == this.pid:
        return "driver"
    try:
        return "decoder process" if "tagger.isolation.child" in process.cmdline() else None
    except psutil.Error:
        return None


def record_store(peaks: Peaks) -> None:
    """Records how much of Ray's object store is in use, and how much of it Ray Data may use."""
    import ray
    from ray.data import DataContext

    if not ray.is_initialized():
        return
    try:
        size = int(ray.cluster_resources()["object_store_memory"])
        used = size - int(ray.available_resources()["object_store_memory"])
    except Exception:  # Ray is about to start, or to end.
        return
    peaks.store_size, peaks.store_bytes = size, max(peaks.store_bytes, used)
    peaks.data_limit = DataContext.get_current().execution_options.resource_limits.object_store_memory or 0.0


if __name__ == "__main__":
    main()
