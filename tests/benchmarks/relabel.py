"""Measures ``vtag relabel`` on a made-up result: rows per second, compared with reading the embeddings alone.

    python -m tests.benchmarks.relabel [--rows N] [--per-video N] [--size D] [--labels N] [--rounds N]

The result is one sorted file with random vectors. Reading and relabelling take turns, each in a process of its own, so
that their peak memory is measured apart. ``answers`` classifies vectors in memory and keeps the best labels: the rest
of the time is for writing the tags.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from threadpoolctl import threadpool_limits

from jobs.browse.vectors.relabel import answerer, relabel
from tagger import find_model
from tests.benchmarks.browse import TOP_K, measure
from tests.benchmarks.vectors import make_result, reading
from tests.jobs.browse.made_up_models import CALIBRATION, write_model

ANSWERED = 20_000
"""Vectors in memory that ``answers`` classifies, again and again."""


def main() -> None:
    """Makes a result and two models, and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000, help="segments of the result")
    parser.add_argument("--per-video", type=int, default=100, help="segments of a video")
    parser.add_argument("--size", type=int, default=384, help="values of a vector")
    parser.add_argument("--labels", type=int, default=39, help="labels of the model")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        names = [f"label {number}" for number in range(options.labels)]
        model = write_model(Path(folder, "mine.safetensors"), names, options.size - 1, ood=CALIBRATION)
        path = str(Path(folder, "tags.parquet"))
        make_result(path, options.rows, options.per_video, options.size, model.embeddings)
        for _ in range(options.rounds):
            for name, question in (("reading", reading), ("answers", answers), ("relabel", relabelled)):
                measure(name, question, path, options.rows)


def answers(path: str) -> int:
    """Classifies as many vectors as the result has, in one thread and without reading."""
    model = find_model(str(Path(path).with_name("mine.safetensors")))
    answer = answerer(model.load_answers(), TOP_K)
    size = model.embeddings["size"]
    vectors = np.random.default_rng(0).standard_normal((ANSWERED, size), np.float32)
    vectors[:, -1] = 1
    vectors = vectors.astype(np.float16)
    rows = int(pq.read_metadata(path).num_rows)
    with threadpool_limits(1, "blas"):
        for _ in range(0, rows, ANSWERED):
            answer(vectors)
    return rows


def relabelled(path: str) -> int:
    """Labels the result anew, at another place. Returns the number of segments."""
    new = Path(path).parent / "new"
    new.mkdir()
    done = relabel(path, find_model(str(Path(path).with_name("mine.safetensors"))), str(new / "tags.parquet"))
    shutil.rmtree(new)
    assert done is not None
    return done.segments


if __name__ == "__main__":
    main()
