"""Bringing the clips of a training in with Ray Data: decoded on all cores of the cluster, features on its GPUs."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

from jobs.ray_session import RaySession
from training.clip_cache import ClipCache
from training.data_set import LabelledClip
from training.decoding import jobs_of
from training.forms import Form
from training.ingest import Ingested, ingest

if TYPE_CHECKING:
    import pyarrow as pa

ACTORS_PER_GPU = 4
"""Processes that share a GPU for computing features: one alone would wait for its decoder most of the time."""

BLOCKS = 1000
"""Most pieces that Ray Data cuts the work into: enough for a lively progress, and not a task for every clip."""


def ingest_with_ray(
    clips: Sequence[LabelledClip],
    make_form: Callable[[], Form],
    cache: ClipCache,
    session: RaySession,
    *,
    uses_gpu: bool,
) -> Iterator[tuple[LabelledClip, Ingested]]:
    """Brings ``clips`` into a form, in any order; yields each with what became of it.

    ``make_form`` makes the form where it is used, on the device of that machine; ``cache`` is in a folder that all
    machines share. With ``uses_gpu`` each process has a share of a GPU. Clips in the cache are not decoded.
    """
    import ray

    jobs = list(jobs_of(clips))
    actors = min(len(jobs), int(session.gpus * ACTORS_PER_GPU if uses_gpu else session.cpus) or 1)
    done = (
        ray.data.from_items(list(range(len(jobs))), override_num_blocks=min(len(jobs), BLOCKS))
        .map_batches(
            _Ingester,
            fn_constructor_args=(ray.put(jobs), make_form, cache),
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=actors),
            num_cpus=1,
            num_gpus=1 / ACTORS_PER_GPU if uses_gpu else 0,
        )
        .iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    )
    for table in done:
        for row in cast("pa.Table", table).to_pylist():
            yield jobs[row["job"]][row["clip"]], Ingested(row["key"], row["rows"], row["problem"])


class _Ingester:
    """An actor that brings jobs in: a table of their numbers becomes one of what became of their clips."""

    def __init__(self, jobs: Any, make_form: Callable[[], Form], cache: ClipCache):
        import ray
        import torch

        # One of many on this machine, each with a core.
        torch.set_num_threads(1)
        self._jobs: list[tuple[LabelledClip, ...]] = ray.get(jobs)
        self._form = make_form()
        self._cache = cache

    def __call__(self, table: "pa.Table") -> "pa.Table":
        """Brings the jobs of ``table`` in."""
        import pyarrow as pa

        rows = []
        for job in table["item"].to_pylist():
            for number, (_, found) in enumerate(ingest(self._jobs[job], self._form, self._cache)):
                rows.append((job, number, found.key, found.rows, found.problem))
        fields = {"job": pa.int64(), "clip": pa.int64(), "key": pa.string(), "rows": pa.int64(), "problem": pa.string()}
        columns = zip(*rows, strict=True)
        arrays = [pa.array(column, kind) for column, kind in zip(columns, fields.values(), strict=True)]
        return pa.table(arrays, schema=pa.schema(list(fields.items())))
