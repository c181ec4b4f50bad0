"""Reads the embeddings of a result, block by block, on all cores, in the order of its segments.

Only what is computed from a block is kept, so memory does not grow with the archive.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits

from jobs.browse.segments import FinishedResult, readable
from jobs.storage.location import Location
from tagger.errors import OutputError
from tagger.system.limits import usable_cores

BLOCK_ROWS = 5000
"""Vectors that are read at a time: 5 MB of 512 float16. Files of vtag have row groups of this size."""

TASK_GROUPS = 8
"""Row groups that one task reads, because it opens the file once."""

WIDE_ROWS = 256
"""Vectors that are float32 at a time: 512 KB, which the cache of a core holds."""

Compute = Callable[[np.ndarray], np.ndarray]
"""Turns vectors ``[n, D] float16`` into an array with ``n`` rows. It is called in several threads."""


@dataclass(frozen=True)
class _Task:
    """Row groups ``first`` to ``last - 1`` of a file. Their rows begin with row ``begin`` of the result."""

    file: Location
    first: int
    last: int
    begin: int


def vector_size(finished: FinishedResult) -> int:
    """Returns the number of values of an embedding. Raises OutputError when the result has no embeddings."""
    size = finished.result.identity.embedding_size
    if size is None:
        raise OutputError(
            f"{finished.path} has no embeddings; give its command of vtag run again with --embeddings --overwrite"
        )
    return size


def computed(finished: FinishedResult, compute: Compute) -> Iterator[np.ndarray]:
    """Yields ``compute`` of all embeddings, block by block in the order of the segments.

    Raises OutputError when there are none, or they cannot be read.
    """
    size = vector_size(finished)

    def work(task: _Task) -> list[np.ndarray]:
        return [compute(vectors) for vectors in _vectors(task, size)]

    for blocks in _in_order(work, _tasks(finished)):
        yield from blocks


class Beside:
    """Gives what ``computed`` yields in portions of any number of rows, such as those of ``read_segments``."""

    def __init__(self, finished: FinishedResult, compute: Compute):
        self._path = finished.path
        self._blocks = computed(finished, compute)
        self._held: list[np.ndarray] = []

    def take(self, rows: int) -> np.ndarray:
        """Returns the next ``rows`` rows. Raises OutputError when there are fewer, and as ``computed``."""
        have = sum(map(len, self._held))
        while have < rows:
            block = next(self._blocks, None)
            if block is None:
                raise misfit(self._path)
            self._held.append(block)
            have += len(block)
        together = np.concatenate(self._held)
        self._held = [together[rows:].copy()]
        return together[:rows]


def vectors_at(finished: FinishedResult, rows: np.ndarray) -> np.ndarray:
    """Returns the embeddings of segments, ``[n, D] float32``, given by their sorted numbers in the whole result.

    Reads only the row groups with these segments. Raises OutputError as ``computed``.
    """
    size = vector_size(finished)

    def work(task: _Task) -> np.ndarray:
        found, begin = [np.empty((0, size), np.float16)], task.begin
        for vectors in _vectors(task, size):
            low, high = np.searchsorted(rows, [begin, begin + len(vectors)])
            found.append(vectors[rows[low:high] - begin])
            begin += len(vectors)
        return np.concatenate(found)

    tasks = (
        task for task, begin, end in _row_groups(finished) if np.searchsorted(rows, begin) < np.searchsorted(rows, end)
    )
    found = np.concatenate([np.empty((0, size), np.float16), *_in_order(work, tasks)])
    if len(found) != len(rows):
        raise misfit(finished.path)
    return found.astype(np.float32)


def cosines(vectors: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Returns the cosines of ``[n, D] float16`` vectors to ``[k, D] float32`` vectors, all of length 1: ``[n, k]``."""
    found = np.empty((len(vectors), len(wanted)), np.float32)
    for begin in range(0, len(vectors), WIDE_ROWS):
        rows = slice(begin, begin + WIDE_ROWS)
        np.matmul(vectors[rows].astype(np.float32), wanted.T, out=found[rows])
    return found


def misfit(path: str) -> OutputError:
    """Returns the error about embeddings and tags that have different rows."""
    return OutputError(f"{path}: the rows of its embeddings do not fit those of its tags; see vtag verify")


def _in_order(work: Callable[[_Task], Any], tasks: Iterator[_Task]) -> Iterator[Any]:
    """Yields ``work`` of all tasks in their order. A few are worked on at a time."""
    threads = usable_cores()
    # The threads of a matrix product would wait for each other, and take the cores from other tasks.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads) as pool:
        running: deque[Future[Any]] = deque()
        try:
            for task in tasks:
                running.append(pool.submit(work, task))
                if len(running) > 2 * threads:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()


def _row_groups(finished: FinishedResult) -> Iterator[tuple[_Task, int, int]]:
    """Yields a task for each row group, and the numbers of its first row and of the row after its last."""
    begin = 0
    for source in finished.result.sources:
        assert source.embeddings is not None
        with readable(source.embeddings), source.embeddings.parquet() as file:
            lengths = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
        for number, length in enumerate(lengths):
            yield _Task(source.embeddings, number, number + 1, begin), begin, begin + length
            begin += length


def _tasks(finished: FinishedResult) -> Iterator[_Task]:
    for _, groups in itertools.groupby(_row_groups(finished), lambda group: str(group[0].file)):
        tasks = [task for task, *_ in groups]
        for first in range(0, len(tasks), TASK_GROUPS):
            some = tasks[first : first + TASK_GROUPS]
            yield _Task(some[0].file, some[0].first, some[-1].last, some[0].begin)


def _vectors(task: _Task, size: int) -> Iterator[np.ndarray]:
    """Yields the vectors of a task as ``[n, size] float16``."""
    with readable(task.file), task.file.parquet() as file:
        groups = list(range(task.first, task.last))
        for batch in file.iter_batches(BLOCK_ROWS, row_groups=groups, columns=["embedding"], use_threads=False):
            column: pa.FixedSizeListArray = batch.column(0)
            yield column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), size)
