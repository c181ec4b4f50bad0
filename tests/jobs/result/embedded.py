"""Made-up embeddings, for the tests of results: an embedding follows from the label and the number of its segment.

So a test can tell whether a vector is beside the row that it belongs to.
"""

import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa

from jobs.result.merge import SEGMENT_KEY, TableFiles
from jobs.result.output import find_output
from jobs.result.published import read_result


def vector_of(label: str, segment: int, size: int) -> np.ndarray:
    """Returns a vector of length 1, ``[size] float16``."""
    values = np.random.RandomState(zlib.crc32(f"{label} {segment}".encode())).standard_normal(size)
    return (values / np.linalg.norm(values)).astype(np.float16)


def add_embeddings(rows: pa.Table, size: int) -> pa.Table:
    """Returns rows of SEGMENTS_SCHEMA, all with a segment, with a column of embeddings."""
    vectors = [
        vector_of(labels[0], segment, size)
        for labels, segment in zip(rows["top_labels"].to_pylist(), rows["window"].to_pylist(), strict=True)
    ]
    flat = pa.array(np.concatenate([np.empty(0, np.float16), *vectors]))
    return rows.append_column("embedding", pa.FixedSizeListArray.from_arrays(flat, size))


def vectors_of(embeddings: pa.Table) -> np.ndarray:
    """Returns the vectors of a table of embeddings, ``[n, size] float16``."""
    column = embeddings["embedding"].combine_chunks()
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), column.type.list_size)


def check_embeddings(out: str | Path) -> int:
    """Checks the embeddings of the result at ``out``: one for each row of the tags, in their order, with its vector.

    Checks the files of the manifest and those for readers of ``*.parquet``. Returns the number of rows.
    """
    output = find_output(out)
    result = read_result(output)
    assert result is not None and result.identity.embeddings is not None
    rows = sum(_check(source) for source in result.sources)
    assert sum(_check(part.shown(output)) for part in result.parts) in (rows, 0)
    assert not result.parts or output.embeddings.names() == output.tags.names()
    return rows


def _check(files: TableFiles) -> int:
    assert files.embeddings is not None
    tags, embeddings = files.tags.parquet().read(), files.embeddings.parquet().read()
    assert embeddings.select(SEGMENT_KEY).equals(tags.select(SEGMENT_KEY))
    vectors = vectors_of(embeddings)
    for vector, label, segment in zip(vectors, tags["label"].to_pylist(), tags["segment"].to_pylist(), strict=True):
        np.testing.assert_array_equal(vector, vector_of(label, segment, len(vector)))
    return tags.num_rows
