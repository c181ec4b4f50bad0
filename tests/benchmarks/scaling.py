"""Measures whether twice the cores do twice the work: one CPU worker, two on one machine, and one on each of two.

    python -m tests.benchmarks.scaling [--rounds N] [--videos N] [--long] [--json FILE]

Tags copies of a minute of 320×240 video with the built-in model on local Ray clusters, or with ``--long`` a single
1080p video with a key frame every second. The single worker has one core for everything, Ray and the driver included.
Prints windows per second, medians over the rounds, their share of the rate of as many single workers, and the
efficiency that `vtag run` reports. The two machines are two Ray nodes on this machine: the cost of a network between
them is not measured.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from jobs.measure.sample_video import RATE, make_sample
from tests.benchmarks.isolation import encode_minute, join
from tests.benchmarks.loop import copies, rate_and_summary


@dataclass(frozen=True)
class Layout:
    """A cluster: CPUs of each of its nodes."""

    name: str
    nodes: tuple[int, ...]

    @property
    def cores(self) -> int:
        """CPUs of all nodes, and the cores of this machine that everything runs on."""
        return sum(self.nodes)


LONG: dict[str, Any] = {"size": "1920x1080", "options": {"preset": "veryfast", "g": str(RATE), "bf": "2"}}
"""Settings for the sample of a long video."""

LAYOUTS = (Layout("1 worker", (1,)), Layout("2 workers", (2,)), Layout("2 nodes", (1, 1)))


@click.command()
@click.option("--rounds", default=3, show_default=True)
@click.option("--videos", default=10, show_default=True, help="Minutes of video for each core.")
@click.option("--long", "is_long", is_flag=True, help="A single video of so many minutes, for all clusters.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write the figures to this file.")
@click.option("--one", type=int, hidden=True, help="Measure this layout, in this process.")
@click.option("--folder", type=click.Path(path_type=Path), hidden=True)
def main(rounds: int, videos: int, is_long: bool, json_file: Path | None, one: int | None, folder: Path | None) -> None:
    """Measures and prints."""
    if one is not None and folder is not None:
        click.echo(json.dumps(measure(LAYOUTS[one], folder)))
        return
    rates: dict[str, list[float]] = {layout.name: [] for layout in LAYOUTS}
    efficiencies: dict[str, list[float]] = {layout.name: [] for layout in LAYOUTS}
    with tempfile.TemporaryDirectory(prefix="vtag-scaling-") as name:
        minute = make_sample(Path(name, "minute.mp4"), **LONG) if is_long else encode_minute(Path(name))
        if is_long:
            long = Path(name, "long")
            long.mkdir()
            join(minute, long / "long.mp4", videos)
        for number in range(rounds):
            for index, layout in enumerate(LAYOUTS):
                source = long if is_long else copies(minute, Path(name, str(layout.cores)), videos * layout.cores)
                command = [sys.executable, "-m", "tests.benchmarks.scaling", "--one", str(index), "--folder", source]
                # A separate process, whose children inherit the cores that it may use.
                done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
                rate, efficiency = json.loads(done.stdout.splitlines()[-1])
                rates[layout.name].append(rate)
                efficiencies[layout.name].append(efficiency)
                print(f"round {number + 1}: {layout.name}: {rate:.3g} windows/s", flush=True)
    single = statistics.median(rates[LAYOUTS[0].name])
    for layout in LAYOUTS:
        rate = statistics.median(rates[layout.name])
        print(
            f"{layout.name:10} {rate:7.3g} windows/s, {rate / layout.cores / single:5.2f} of as many single workers; "
            f"efficiency {statistics.median(efficiencies[layout.name]):.2f}"
        )
    if json_file is not None:
        json_file.write_text(json.dumps({"windows_per_s": rates, "efficiency": efficiencies}, indent=1))


def measure(layout: Layout, videos: Path) -> tuple[float, float]:
    """Returns windows per second on a cluster of this layout, and the efficiency that the job reports."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: layout.cores])
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    try:
        for cpus in layout.nodes:
            cluster.add_node(num_cpus=cpus, object_store_memory=2**30, include_dashboard=False)
        rate, summary = rate_and_summary(videos, ["--address", cluster.address])
        return rate, summary["efficiency"]["total"]
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
