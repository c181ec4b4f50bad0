"""Prints the segments of a result that look most like one of them, with NumPy.

    python examples/similar.py tags.parquet /videos/a.mp4 12.5

The result was made with ``vtag run --embeddings``. The segment is given by its video and by a time in it, in seconds.
"""

import sys
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.dataset as ds

COUNT = 10


def vectors_of(column):
    """Returns a column of embeddings as ``[n, size] float32``, which NumPy multiplies much faster than float16."""
    return column.flatten().to_numpy().reshape(len(column), -1).astype(np.float32)


def main():
    """Reads the arguments and prints the segments."""
    result, video, second = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    if result.suffix == ".parquet":
        tags, embeddings = ds.dataset(result), ds.dataset(result.with_suffix(".embeddings.parquet"))
    else:
        tags, embeddings = ds.dataset(result / "tags"), ds.dataset(result / "embeddings")

    is_there = (pc.field("video") == video) & (pc.field("start_s") <= second) & (pc.field("end_s") > second)
    segments = tags.to_table(["segment"], filter=is_there)["segment"]
    if not len(segments):
        sys.exit(f"{result} has no segment at {second:g} s of {video}")
    is_wanted = (pc.field("video") == video) & (pc.field("segment") == segments[0].as_py())
    wanted = vectors_of(embeddings.to_table(filter=is_wanted)["embedding"].combine_chunks())[0]

    # One batch after another, so that the embeddings need not fit into memory.
    best = []
    for batch in embeddings.to_batches():
        similarities = vectors_of(batch["embedding"]) @ wanted
        for row in np.argsort(-similarities)[:COUNT]:
            best.append((float(similarities[row]), batch["video"][row].as_py(), batch["segment"][row].as_py()))
        best = sorted(best, reverse=True)[:COUNT]
    for similarity, name, segment in best:
        is_found = (pc.field("video") == name) & (pc.field("segment") == segment)
        row = tags.to_table(["start_s", "end_s", "label"], filter=is_found).to_pylist()[0]
        print(f"{similarity:5.3f}  {row['start_s']:8.2f} s to {row['end_s']:8.2f} s  {row['label']:20}  {name}")


if __name__ == "__main__":
    main()
