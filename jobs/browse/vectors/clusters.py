"""Clusters of what looks alike: an archive by what is in it, for people who do not know yet what to ask."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.browse.best_moments import best_moments
from jobs.browse.segments import FinishedResult, Segments, read_segments
from jobs.browse.vectors.reading import Beside, cosines, vector_size, vectors_at

CLUSTERS_SCHEMA = pa.schema(
    [
        pa.field("cluster", pa.int32(), nullable=False),
        pa.field("segments", pa.int64(), nullable=False),
        pa.field("share", pa.float64(), nullable=False),
        pa.field("labels", pa.string(), nullable=False),
        pa.field("video", pa.string(), nullable=False),
        pa.field("start_s", pa.float64(), nullable=False),
        pa.field("end_s", pa.float64(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("similarity", pa.float32(), nullable=False),
    ]
)
"""One row per typical moment, with the size of its cluster, its share of all segments, and its most frequent labels."""

SAMPLE_PER_CLUSTER, MAX_SAMPLE = 1000, 100_000
"""Segments from which a cluster is made, on average, and those from which all are made: 200 MB of 512 float32. The
others only join the nearest cluster."""

MAX_PASSES = 10
"""Passes of k-means through the sample."""

LABELS_SHOWN = 3
"""Most frequent labels of a cluster."""


def find_clusters(finished: FinishedResult, count: int, moments: int) -> pa.Table:
    """Returns the ``moments`` most typical moments of up to ``count`` clusters as a table of CLUSTERS_SCHEMA.

    The largest cluster comes first. The clusters are made by k-means from a random sample of the embeddings; then each
    segment joins the one with the nearest centre. The typical moments of a cluster are those nearest to its centre, of
    different videos. The same result gives the same clusters. Raises OutputError as ``computed`` and ``read_segments``.
    """
    vector_size(finished)
    centres = centres_of(finished, count)

    def nearest(vectors: np.ndarray) -> np.ndarray:
        found = cosines(vectors, centres)
        best = found.argmax(axis=1)
        return np.stack([best, found[np.arange(len(best)), best]], axis=1).astype(np.float32)

    beside = Beside(finished, nearest)
    sizes = np.zeros(len(centres), np.int64)
    labels = np.zeros((len(centres), 0), np.int64)
    names: Sequence[str] = ()
    typical: list[pa.Table | None] = [None] * len(centres)
    for segments in read_segments(finished):
        found = beside.take(len(segments))
        cluster = found[:, 0].astype(np.int64)
        sizes += np.bincount(cluster, minlength=len(centres))
        names = segments.labels
        counts = np.zeros((len(centres), len(names)), np.int64)
        np.add.at(counts, (cluster, segments.label), 1)
        counts[:, : labels.shape[1]] += labels
        labels = counts
        for number in np.unique(cluster):
            typical[number] = _typical(
                segments, np.where(cluster == number, found[:, 1], np.nan), typical[number], moments
            )
    total = sizes.sum()
    tables = [CLUSTERS_SCHEMA.empty_table()]
    order = [number for number in np.argsort(-sizes, kind="stable") if sizes[number]]
    for place, number in enumerate(order, start=1):
        rows = typical[number]
        assert rows is not None
        same = {
            "cluster": place,
            "segments": int(sizes[number]),
            "share": float(sizes[number] / total),
            "labels": _frequent(labels[number], names),
        }
        columns = [pa.array([value] * len(rows), CLUSTERS_SCHEMA.field(name).type) for name, value in same.items()]
        moved = [rows["score" if name == "similarity" else name] for name in CLUSTERS_SCHEMA.names[len(same) :]]
        tables.append(pa.table([*columns, *moved], schema=CLUSTERS_SCHEMA))
    return pa.concat_tables(tables)


def centres_of(finished: FinishedResult, count: int) -> np.ndarray:
    """Returns the centres of the clusters, ``[k, D] float32`` of length 1."""
    from sklearn.cluster import MiniBatchKMeans

    total = sum(map(len, read_segments(finished)))
    random = np.random.default_rng(0)
    rows = np.sort(random.choice(total, min(total, count * SAMPLE_PER_CLUSTER, MAX_SAMPLE), replace=False))
    sample = vectors_at(finished, rows)
    model = MiniBatchKMeans(min(count, len(sample)), random_state=0, n_init=1, max_iter=MAX_PASSES, batch_size=4096)
    centres = model.fit(sample).cluster_centers_.astype(np.float32)
    lengths = np.linalg.norm(centres, axis=1, keepdims=True)
    return np.ascontiguousarray(centres / np.where(lengths > 0, lengths, 1))


def _typical(segments: Segments, scores: np.ndarray, before: pa.Table | None, moments: int) -> pa.Table:
    """Returns the best of the moments ``before`` and those of ``segments``."""
    found = best_moments([segments], lambda _: scores, moments)
    if before is None:
        return found
    found = pa.concat_tables([before, found])
    order = pc.sort_indices(found, [("score", "descending"), ("video", "ascending"), ("segment", "ascending")])
    return found.take(order[:moments])


def _frequent(counts: np.ndarray, names: Sequence[str]) -> str:
    """Returns the most frequent labels and their shares, such as ``Biking 80 %, Swing 20 %``."""
    order = [number for number in np.argsort(-counts, kind="stable")[:LABELS_SHOWN] if counts[number]]
    return ", ".join(f"{names[number]} {counts[number] / counts.sum():.0%}".replace("%", " %") for number in order)
