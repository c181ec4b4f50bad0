"""Measures rows per second and memory of questions to a large result: events, smoothed events, and searches.

The result is one sorted file, made up here. As in footage, a window often has the label of the window before it. Each
question is asked in a process of its own, so that their peak memory is measured apart.
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from jobs.browse.events import Rules, find_events
from jobs.browse.search import search_label
from jobs.browse.segments import open_result
from jobs.result.identity import RunIdentity, file_metadata
from jobs.result.output import find_output
from tagger import Sampling
from tagger.schema import TAGS_SCHEMA, VIDEOS_SCHEMA

TOP_K = 5


def main() -> None:
    """Makes a result, asks the questions, and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000, help="segments of the result")
    parser.add_argument("--per-video", type=int, default=100, help="segments of a video")
    parser.add_argument("--labels", type=int, default=20, help="labels of the model")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for hop_s in (None, 1.0):
            path = str(Path(folder, f"hop-{hop_s}.parquet"))
            make_result(path, options, hop_s)
            questions: dict[str, Callable[[str], int]] = {"events": events, "events --smooth 3": smoothed}
            if hop_s is None:
                questions |= {"events --min-confidence 0.7 --max-gap 4": limited, "search": search}
            for name, question in questions.items():
                measure(f"{name}{' of overlapping windows' if hop_s else ''}", question, path, options.rows)


def make_result(path: str, options: argparse.Namespace, hop_s: float | None) -> None:
    """Writes a result of ``options.rows`` segments."""
    sampling = Sampling(hop_s=hop_s)
    metadata = file_metadata(RunIdentity("benchmark", "0", sampling.to_json(), TOP_K), "run")
    output = find_output(path)
    names = [f"/archive/camera-{n // 1000:05d}/recording-{n:09d}.mp4" for n in range(options.rows // options.per_video)]
    with output.tags.writer(TAGS_SCHEMA.with_metadata(metadata)) as writer:
        for portion in portions(names, options.per_video, options.labels, sampling):
            writer.write_table(portion.replace_schema_metadata(metadata))
    videos = [
        {"video": name, "segments": options.per_video, "status": "ok", "decode_s": 0.0, "predict_s": 0.0}
        for name in names
    ]
    with output.videos.writer(VIDEOS_SCHEMA.with_metadata(metadata)) as writer:
        writer.write_table(pa.Table.from_pylist(videos, VIDEOS_SCHEMA).replace_schema_metadata(metadata))


def portions(names: list[str], per_video: int, labels: int, sampling: Sampling) -> Iterator[pa.Table]:
    """Yields the segments of a thousand videos at a time."""
    random = np.random.default_rng(0)
    words = pa.array([f"label {number}" for number in range(labels)])
    for first in range(0, len(names), 1000):
        some = names[first : first + 1000]
        rows = len(some) * per_video
        changes = random.random(rows) < 0.4
        best = random.integers(labels, size=rows)[np.maximum.accumulate(np.where(changes, np.arange(rows), 0))]
        others = (best[:, None] + np.arange(TOP_K) * (1 + random.integers(3, size=(rows, 1)))) % labels
        shares = np.sort(random.dirichlet(np.ones(TOP_K), rows))[:, ::-1].astype(np.float32)
        number = np.tile(np.arange(per_video, dtype=np.int32), len(some))
        bounds = pa.array(np.arange(0, rows * TOP_K + 1, TOP_K, dtype=np.int32))
        columns = [
            pa.array(some).take(pa.array(np.repeat(np.arange(len(some)), per_video))),
            pa.array(number),
            pa.array(number * sampling.effective_hop_s),
            pa.array(number * sampling.effective_hop_s + sampling.window_s),
            words.take(pa.array(others[:, 0])),
            pa.array(shares[:, 0]),
            pa.array(random.random(rows).astype(np.float32)),
            pa.ListArray.from_arrays(bounds, words.take(pa.array(others.ravel()))),
            pa.ListArray.from_arrays(bounds, pa.array(shares.ravel())),
        ]
        yield pa.table(columns, schema=TAGS_SCHEMA)


def events(path: str) -> int:
    """Returns the number of events."""
    return sum(map(len, find_events(open_result(path), Rules())))


def smoothed(path: str) -> int:
    """Returns the number of events of probabilities that were averaged over three windows."""
    return sum(map(len, find_events(open_result(path), Rules(smooth=3))))


def limited(path: str) -> int:
    """Returns the number of events with a lowest confidence and a longest gap."""
    return sum(map(len, find_events(open_result(path), Rules(min_confidence=0.7, max_gap_s=4.0))))


def search(path: str) -> int:
    """Returns the number of moments found."""
    return len(search_label(open_result(path), "label 1", 100, max_ood=0.9)[1])


def measure(name: str, question: Callable[[str], int], path: str, rows: int) -> None:
    """Asks a question in a new process."""
    process = multiprocessing.get_context("spawn").Process(target=_measured, args=(name, question, path, rows))
    process.start()
    process.join()
    assert process.exitcode == 0


def _measured(name: str, question: Callable[[str], int], path: str, rows: int) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF)
    started = time.perf_counter()
    found = question(path)
    seconds = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    print(
        f"{name}: {found:,} rows from {rows:,} segments in {seconds:.2f} s ({cpu_s:.2f} s of CPU), "
        f"{rows / seconds / 1e6:.2f} million/s, peak memory {used.ru_maxrss / 1e6:.2f} GB"
    )


if __name__ == "__main__":
    main()
