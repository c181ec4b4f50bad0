"""How long a user waits: for `vtag --help`, and for the first classified windows of `vtag run`.

    python -m tests.benchmarks.startup VIDEOS [--rounds N] [--json FILE] [options of vtag run]

Both from the start of the process, on a machine with nothing else to do. The first of each is not counted: it reads the
program from the disk. A job is interrupted as soon as it has told of its first windows, which it does at once when the
first of VIDEOS can be read.
"""

import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

PROGRAM = [sys.executable, "-c", "from jobs.cli import main; main()"]


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("videos")
@click.option("--rounds", default=5, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write the figures to this file.")
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def main(videos: str, rounds: int, json_file: Path | None, options: tuple[str, ...]) -> None:
    """Measures and prints."""
    times: dict[str, list[float]] = {"--help": [], "first windows": []}
    help_s()
    first_windows_s(videos, options)
    for _ in range(rounds):
        times["--help"].append(help_s())
        times["first windows"].append(first_windows_s(videos, options))
    for name, taken in times.items():
        each = ", ".join(f"{value:.2f}" for value in taken)
        print(f"{name:14} after {statistics.median(taken):.2f} s, the median of {each}")
    if json_file is not None:
        json_file.write_text(json.dumps({"startup_s": times}, indent=1))


def help_s() -> float:
    """Seconds that `vtag --help` takes."""
    started = time.perf_counter()
    subprocess.run([*PROGRAM, "--help"], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def first_windows_s(videos: str, options: tuple[str, ...]) -> float:
    """Seconds until a job has classified its first windows."""
    with tempfile.TemporaryDirectory(prefix="vtag-startup-") as out:
        command = [*PROGRAM, "run", videos, "--out", f"{out}/tags.parquet", "--json", *options]
        started = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as job:
            assert job.stdout is not None and job.stderr is not None
            for line in job.stdout:
                if json.loads(line).get("windows"):
                    passed_s = time.perf_counter() - started
                    job.send_signal(signal.SIGINT)
                    # What it still has to say must not block it.
                    job.stdout.read()
                    return passed_s
            raise SystemExit(f"no window was classified: {job.stderr.read()}")


if __name__ == "__main__":
    main()
