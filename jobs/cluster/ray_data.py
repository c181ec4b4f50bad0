"""Reads the tables of a Ray Data pipeline."""

import gc
from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import pyarrow as pa
    from ray.data import Dataset


def tables(data: "Dataset") -> Generator["pa.Table"]:
    """Yields the blocks of ``data`` as tables as they come, and then frees the cores and GPUs of its actors."""
    try:
        batches = data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
        yield from cast(Iterable["pa.Table"], batches)
    finally:
        # Ray 2.53 leaves the handles of its actors in a reference cycle. Until Python collects it, an actor may keep
        # its core, and a training that asks for all cores waits for ever.
        gc.collect()
