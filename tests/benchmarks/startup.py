"""Measures how long a user waits for `vtag --help`, and for the first classified windows of `vtag run`.

    python -m tests.benchmarks.startup VIDEOS [--rounds N] [--before FOLDER] [--json FILE] [options of vtag run]

Both times start with the process, on a machine without other load. The first round is not counted: it reads the program
from the disk. A job is interrupted as soon as it reports its first windows, which it does at once when the first of
VIDEOS can be read. With `--before`, another checkout of vtag, the two take turns.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

# -P leaves out the current folder, which would come before the checkout.
PROGRAM = [sys.executable, "-P", "-c", "from jobs.cli import main; main()"]


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("videos")
@click.option("--rounds", default=5, show_default=True)
@click.option("--before", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Another checkout.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write the figures to this file.")
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def main(videos: str, rounds: int, before: Path | None, json_file: Path | None, options: tuple[str, ...]) -> None:
    """Measures and prints."""
    here = Path(__file__).parents[2]
    checkouts = {"before": before, "": here} if before else {"": here}
    times: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        for name, folder in checkouts.items():
            taken = {"--help": help_s(folder), "first windows": first_windows_s(folder, videos, options)}
            for what, value in taken.items() if number else ():
                times.setdefault(f"{what} {name}".strip(), []).append(value)
    for name, values in times.items():
        each = ", ".join(f"{value:.2f}" for value in values)
        print(f"{name:20} after {statistics.median(values):.2f} s, the median of {each}")
    if before:
        pairs = zip(times["first windows"], times["first windows before"], strict=True)
        print(f"ratio {statistics.median(now / then for now, then in pairs):.2f}, the median over the rounds")
    if json_file is not None:
        json_file.write_text(json.dumps({"startup_s": times}, indent=1))


def help_s(checkout: Path) -> float:
    """Seconds that `vtag --help` takes."""
    started = time.perf_counter()
    subprocess.run([*PROGRAM, "--help"], env=_environment(checkout), stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def first_windows_s(checkout: Path, videos: str, options: tuple[str, ...]) -> float:
    """Seconds until a job has classified its first windows."""
    with tempfile.TemporaryDirectory(prefix="vtag-startup-") as out:
        command = [*PROGRAM, "run", videos, "--out", f"{out}/tags.parquet", "--json", *options]
        started = time.perf_counter()
        with subprocess.Popen(
            command, env=_environment(checkout), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as job:
            assert job.stdout is not None and job.stderr is not None
            for line in job.stdout:
                if json.loads(line).get("windows"):
                    passed_s = time.perf_counter() - started
                    job.send_signal(signal.SIGINT)
                    # The rest of its output must be read, or the job would block.
                    job.stdout.read()
                    return passed_s
            raise SystemExit(f"no window was classified: {job.stderr.read()}")


def _environment(checkout: Path) -> dict[str, str]:
    paths = [str(checkout), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


if __name__ == "__main__":
    main()
