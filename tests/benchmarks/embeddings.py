"""Measures what embeddings cost: CPU time of whole runs and of the model, with and without them in turns, and bytes.

    python -m tests.benchmarks.embeddings VIDEOS [--count N] [--rounds N] [--model MODEL]

VIDEOS is a folder of videos. The CPU time of a whole run differs by some percent from one run to the next, also without
any change. So the same calls of the model are also compared in one process, call by call.
"""

import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

import click
import pyarrow.parquet as pq

from tests.benchmarks.blocked import cpu_of

CALLS = 20
"""Number of calls of the model that are measured in each round, with embeddings and without."""

CALL_WINDOWS = 8
"""Number of windows in a call: that of an actor of the built-in model on a CPU."""


@click.command()
@click.argument("videos", type=click.Path(exists=True, path_type=Path))
@click.option("--count", default=100, show_default=True, help="Number of videos, spread over the whole folder.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--model", default="actions38", show_default=True)
def main(videos: Path, count: int, rounds: int, model: str) -> None:
    """Measures and prints."""
    found = sorted(path for path in videos.rglob("*") if path.suffix in (".mp4", ".avi", ".mkv", ".mpg"))
    paths = found[:: max(1, len(found) // count)][:count]
    with tempfile.TemporaryDirectory() as folder:
        ratios = [ratio_of_runs(Path(folder), paths, model, number) for number in range(rounds)]
        print(f"CPU time of a run with embeddings / without: {in_words(ratios)}")
        print_bytes(Path(folder) / "tags.parquet")
    measure_model(paths, model, rounds)


def ratio_of_runs(folder: Path, paths: list[Path], model: str, number: int) -> float:
    """Returns the CPU time of a run with embeddings as a ratio to one without. The two are in random order."""
    listed = folder / "list.txt"
    listed.write_text("".join(f"{path}\n" for path in paths))
    out = folder / "tags.parquet"
    run = [sys.executable, "-c", "from jobs.cli import main; main()", "run", f"@{listed}", "--model", model]
    ways = {"without": out.with_name("plain.parquet"), "with": out}
    used = {}
    for way in random.Random(number).sample(sorted(ways), 2):
        options = ["--embeddings"] if way == "with" else []
        started_s = time.monotonic()
        used[way] = cpu_of([*run, "--out", str(ways[way]), "--overwrite", *options])[0].total()
        print(f"round {number + 1}, {way} embeddings: {used[way]:.1f} s of CPU, {time.monotonic() - started_s:.1f} s")
    return used["with"] / used["without"]


def print_bytes(out: Path) -> None:
    """Prints the sizes of the files of a result."""
    rows = pq.read_metadata(out).num_rows
    sizes = {path.name: path.stat().st_size for path in (out, out.with_suffix(".embeddings.parquet"))}
    print(f"{rows} segments: " + ", ".join(f"{name} {size / rows:.0f} bytes each" for name, size in sizes.items()))


def measure_model(paths: list[Path], model: str, rounds: int) -> None:
    """Compares calls of the model on the first windows of the videos, in this process and with one thread."""
    import numpy as np
    import torch

    from tagger import load_model
    from tagger.isolation import decoder_of_this_thread

    torch.set_num_threads(1)
    tagger = load_model(model)
    clips: list[np.ndarray] = []
    for path in paths:
        for span in decoder_of_this_thread().spans(str(path), tagger.sampling, tagger.source.info.preprocessing):
            clips += list(span.clips)
        if len(clips) >= CALL_WINDOWS:
            break
    batch = np.stack(clips[:CALL_WINDOWS])
    calls = {"without": tagger.classifier.classify, "with": tagger.classifier.classify_and_embed}
    for call in calls.values():
        call(batch)
    ratios = []
    for _ in range(rounds):
        times_s: dict[str, list[float]] = {way: [] for way in calls}
        for _ in range(CALLS):
            for way in random.sample(sorted(calls), 2):
                started_s = time.thread_time()
                calls[way](batch)
                times_s[way].append((time.thread_time() - started_s) / len(batch))
        medians = {way: statistics.median(each) for way, each in times_s.items()}
        ratios.append(medians["with"] / medians["without"])
        print(
            f"model: {1000 * medians['without']:.2f} ms of CPU a window, {1000 * medians['with']:.2f} with embeddings"
        )
    print(f"CPU time of the model with embeddings / without: {in_words(ratios)}")


def in_words(ratios: list[float]) -> str:
    """The median and the range of some ratios."""
    return f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"


if __name__ == "__main__":
    main()
