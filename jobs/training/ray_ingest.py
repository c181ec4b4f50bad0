"""Ingests the clips of a training with Ray Data: decodes on all cores of the cluster, computes features on its GPUs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import nn

from jobs.cluster.memory import keep_freed_memory
from jobs.cluster.ray_data import tables
from jobs.cluster.ray_driver import explain
from jobs.cluster.ray_session import RaySession
from training.data.data_set import LabelledClip, Part
from training.fitting.config import TrainConfig
from training.fitting.stages import head_forms, layer_forms
from training.fitting.watch import Watch, clip_counter
from training.inputs.clip_cache import ClipCache
from training.inputs.clip_decoding import jobs_of
from training.inputs.forms import Form
from training.inputs.ingest import Ingested, IngestedClips, ingest

if TYPE_CHECKING:
    import pyarrow as pa

ACTORS_PER_GPU = 4
"""Number of actors that share a GPU to compute features. A single actor would wait for its decoder most of the time."""

BLOCKS = 1000
"""Maximum number of blocks that Ray Data divides the work into: enough for frequent progress, and not a task for
every clip."""

_DecodeJob = tuple[Part, tuple[LabelledClip, ...]]
"""The part, and its clips that are decoded together (see ``training.inputs.clip_decoding.jobs_of``)."""


def ingest_clips(
    network: nn.Module,
    parts: Mapping[Part, Sequence[LabelledClip]],
    config: TrainConfig,
    cache: ClipCache,
    session: RaySession,
    watch: Watch,
) -> IngestedClips:
    """Ingests the clips of ``parts`` (``train``, ``val`` or both) for all stages of a training.

    ``network`` is the network before training. ``watch`` gets each clip. For the rest see ``ingest_with_ray``.
    """
    import ray

    shared = ray.put(network)
    known: dict[str, Ingested] = {}
    for stage in config.stages:
        counters = {part: clip_counter(part, len(some), on_reading=watch.on_reading) for part, some in parts.items()}
        make_forms = partial(_forms, shared, config, stage)
        uses_gpu = stage == "head" and config.device == "cuda"
        for part, clip, found in ingest_with_ray(parts, make_forms, cache, session, uses_gpu=uses_gpu):
            known[found.key] = found
            counters[part](clip, found.problem)
    return known


def _forms(network: Any, config: TrainConfig, stage: str) -> Mapping[Part, Form]:
    import ray

    if stage == "head":
        return head_forms(ray.get(network), config.sampling, config.preprocessing, config.device, config.precision)
    return layer_forms(config.sampling, config.preprocessing)


def ingest_with_ray(
    parts: Mapping[Part, Sequence[LabelledClip]],
    make_forms: Callable[[], Mapping[Part, Form]],
    cache: ClipCache,
    session: RaySession,
    *,
    uses_gpu: bool,
) -> Iterator[tuple[Part, LabelledClip, Ingested]]:
    """Ingests the clips of ``parts`` in the form of each part, and yields each clip with its result, in any order.

    A form makes one array of a clip: its frames, or the features that a network computes of them. Each actor calls
    ``make_forms``, which makes the forms for its device. ``cache`` is in a folder that all machines share. With
    ``uses_gpu`` each actor has a share of a GPU. Clips in the cache are not decoded. Raises JobError, or vtag's own
    error that an actor raised.
    """
    import ray
    from ray.exceptions import RayError

    # All parts in one data set: actors import PyTorch and take seconds to start.
    jobs: list[_DecodeJob] = [(part, job) for part, clips in parts.items() for job in jobs_of(clips)]
    actors = min(len(jobs), int(session.gpus * ACTORS_PER_GPU if uses_gpu else session.cpus) or 1)
    numbers = ray.data.from_items(list(range(len(jobs))), override_num_blocks=min(len(jobs), BLOCKS))
    done = numbers.map_batches(
        _Ingester,
        fn_constructor_args=(ray.put(jobs), make_forms, cache),
        batch_size=1,
        batch_format="pyarrow",
        # Calls come in the main thread, as in jobs/tagging/pipeline.py.
        compute=ray.data.ActorPoolStrategy(size=actors, enable_true_multi_threading=True),
        num_cpus=1,
        num_gpus=1 / ACTORS_PER_GPU if uses_gpu else 0,
    )
    try:
        for table in tables(done):
            for row in table.to_pylist():
                part, clips = jobs[row["job"]]
                yield part, clips[row["clip"]], Ingested(row["key"], row["rows"], row["problem"])
    except RayError as error:
        raise explain(error, "reading the clips") from error


class _Ingester:
    """An actor that ingests clips: takes a table of job numbers and returns a table with the result of each clip."""

    def __init__(self, jobs: Any, make_forms: Callable[[], Mapping[Part, Form]], cache: ClipCache):
        import ray
        import torch

        keep_freed_memory()
        # Many actors run on this machine, each on one core.
        torch.set_num_threads(1)
        self._jobs: list[_DecodeJob] = ray.get(jobs)
        self._forms = make_forms()
        self._cache = cache

    def __call__(self, table: "pa.Table") -> "pa.Table":
        """Ingests the clips of the jobs in ``table``."""
        import pyarrow as pa

        rows = []
        for job in table["item"].to_pylist():
            part, clips = self._jobs[job]
            for number, (_, found) in enumerate(ingest(clips, self._forms[part], self._cache)):
                rows.append((job, number, found.key, found.rows, found.problem))
        fields = {"job": pa.int64(), "clip": pa.int64(), "key": pa.string(), "rows": pa.int64(), "problem": pa.string()}
        columns = zip(*rows, strict=True)
        arrays = [pa.array(column, kind) for column, kind in zip(columns, fields.values(), strict=True)]
        return pa.table(arrays, schema=pa.schema(list(fields.items())))
