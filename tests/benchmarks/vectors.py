"""Measures questions to a large result with embeddings: vectors per second, CPU time and peak memory.

    python -m tests.benchmarks.vectors [--rows N] [--per-video N] [--size D] [QUESTION...]

The result is one sorted file, made up here, with random vectors around some centres. Each question is asked in a
process of its own, so that their peak memory is measured apart. ``reading`` reads all vectors and does nothing with
them, ``scoring`` compares vectors in memory with one example: so the two parts of ``search --like`` are seen apart.
"""

import argparse
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from jobs.browse.marks import Mark
from jobs.browse.segments import open_result
from jobs.browse.teaching.marked_segments import find_marked
from jobs.browse.uncertain import uncertain_moments
from jobs.browse.vectors.clusters import find_clusters
from jobs.browse.vectors.examples import read_examples
from jobs.browse.vectors.like import search_like
from jobs.browse.vectors.reading import computed, cosines, vector_size, vectors_at
from jobs.browse.vectors.similar import find_similar
from jobs.cli.questions.similar import RANDOM_SIMILARITY
from jobs.result.identity import RunIdentity, file_metadata
from jobs.result.merge import EMBEDDINGS_GROUP_ROWS
from jobs.result.output import find_output
from tagger import Sampling
from tagger.schema import TAGS_SCHEMA, VIDEOS_SCHEMA, embeddings_schema
from tests.benchmarks.browse import TOP_K, measure, portions

SCORED = 20_000
"""Vectors in memory that ``scoring`` compares, again and again."""


def main() -> None:
    """Makes a result, asks the questions, and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("questions", nargs="*", default=["reading", "scoring", "like"], choices=[*QUESTIONS])
    parser.add_argument("--rows", type=int, default=5_000_000, help="segments of the result")
    parser.add_argument("--per-video", type=int, default=100, help="segments of a video")
    parser.add_argument("--size", type=int, default=512, help="values of a vector")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "tags.parquet"))
        make_result(path, options.rows, options.per_video, options.size)
        bytes_each = Path(find_output(path).embeddings.path).stat().st_size / options.rows
        print(f"{options.rows:,} embeddings of {bytes_each:.0f} bytes in the file")
        for name in options.questions:
            measure(name, QUESTIONS[name], path, options.rows)


def make_result(
    path: str, rows: int, per_video: int, size: int, embeddings: Mapping[str, object] | None = None
) -> None:
    """Writes a result of ``rows`` segments with embeddings, whose identity is ``embeddings``."""
    identity = RunIdentity(
        "benchmark", "0", Sampling().to_json(), TOP_K, dict(embeddings or {"size": size, "version": 0})
    )
    metadata = file_metadata(identity, "run")
    output = find_output(path)
    names = [f"/archive/camera-{n // 1000:05d}/recording-{n:09d}.mp4" for n in range(rows // per_video)]
    random = np.random.default_rng(0)
    centres = random.standard_normal((200, size), np.float32)
    vectors_schema = embeddings_schema(size).with_metadata(metadata)
    with (
        output.tags.writer(TAGS_SCHEMA.with_metadata(metadata)) as tags,
        output.embeddings.writer(vectors_schema) as embedded,
    ):
        for portion in portions(names, per_video, 20, Sampling()):
            tags.write_table(portion.replace_schema_metadata(metadata))
            for begin in range(0, len(portion), EMBEDDINGS_GROUP_ROWS):
                part = portion.slice(begin, EMBEDDINGS_GROUP_ROWS)
                vectors = centres[random.integers(len(centres), size=len(part))]
                vectors = vectors + 0.7 * random.standard_normal(vectors.shape, np.float32)
                # That of a real embedding is positive.
                vectors[:, -1] = np.abs(vectors[:, -1]) + 1
                vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
                column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.astype(np.float16).ravel()), size)
                embedded.write_table(pa.table([part["video"], part["segment"], column], schema=vectors_schema))
    videos = [
        {"video": name, "segments": per_video, "status": "ok", "decode_s": 0.0, "predict_s": 0.0} for name in names
    ]
    with output.videos.writer(VIDEOS_SCHEMA.with_metadata(metadata)) as writer:
        writer.write_table(pa.Table.from_pylist(videos, VIDEOS_SCHEMA).replace_schema_metadata(metadata))


def reading(path: str) -> int:
    """Returns the number of vectors."""
    return sum(map(len, computed(open_result(path), lambda vectors: vectors[:, 0].copy())))


def scoring(path: str) -> int:
    """Compares as many vectors as the result has with an example, in one thread and without reading."""
    finished = open_result(path)
    rows = sum(source.tags.parquet().metadata.num_rows for source in finished.result.sources)
    vectors = np.random.default_rng(0).standard_normal((SCORED, vector_size(finished)), np.float32).astype(np.float16)
    wanted = vectors[:1].astype(np.float32)
    for _ in range(0, rows, SCORED):
        cosines(vectors, wanted)
    return rows


def like(path: str) -> int:
    """Returns the number of moments like one of the result."""
    finished = open_result(path)
    name = "/archive/camera-00000/recording-000000000.mp4@20"
    return len(search_like(finished, read_examples(finished, [name]), top=100))


def similar(path: str) -> int:
    """Returns the number of similar stretches."""
    return len(find_similar(open_result(path), RANDOM_SIMILARITY).stretches)


def clusters(path: str) -> int:
    """Returns the number of typical moments of 50 clusters."""
    return len(find_clusters(open_result(path), 50, moments=3))


def uncertain(path: str) -> int:
    """Returns the number of moments to label next."""
    return len(uncertain_moments(open_result(path), 100))


def marked(path: str) -> int:
    """Reads the vectors that ``vtag teach`` needs of a result, for 20 marks. Returns their number."""
    finished = open_result(path)
    marks = [Mark("", f"/archive/camera-00000/recording-{number:09d}.mp4", 20.0, 21.0, "Swing") for number in range(20)]
    found = find_marked(finished, marks)
    rows = np.sort(np.append([segment.row for segment in found.segments], found.sample))
    return len(vectors_at(finished, rows))


QUESTIONS: dict[str, Callable[[str], int]] = {
    "reading": reading,
    "scoring": scoring,
    "like": like,
    "similar": similar,
    "clusters": clusters,
    "uncertain": uncertain,
    "marked": marked,
}

if __name__ == "__main__":
    main()
