"""The Ray Data pipeline: videos are decoded in tasks, classified by a pool of actors, and come back as rows.

Frames go from the decoding tasks to the actors through Ray's object store and never reach the Ray driver.
"""

import itertools
import math
import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import pyarrow as pa

from jobs.archive.video import Video
from jobs.cluster.nodes import check_nodes
from jobs.cluster.ray_versions import retries
from jobs.tagging.decoding import decode
from jobs.tagging.prediction import Predictor
from tagger.errors import VtagError
from tagger.models.registry import ARCHITECTURES
from tagger.tagger import ModelSource
from tagger.windows import Sampling

if TYPE_CHECKING:
    from ray.data import Dataset

    from tagger.classifier import PrecisionName

WINDOWS_PER_CALL = 32
"""Windows that an actor on a GPU takes at a time: as many as the largest batches of two (tagger/cuda.py)."""

CALL_GFLOP = 120
LEAST_WINDOWS, MOST_WINDOWS = 4, 16
"""On a CPU about so much arithmetic is one call, within these bounds: half a second to two. Each call costs the Ray
driver the same, and what the last ones have to do is not shared any more."""

SPAN_WINDOWS = 16
"""Most windows that travel together from a decoder; they lie in its memory until they are complete."""

TASKS_PER_DECODER = 4
VIDEOS_PER_TASK = 64
"""How videos are cut into decoding tasks (``task_sizes``). A task costs the Ray driver about as much as a row, and 1 to
1.5 ms before the first one begins; all of its videos are read again when its process dies."""

VIDEOS_PER_DATA_SET = 100_000
VIDEOS_PER_DECODER = 1000
"""Videos that are tagged with one data set, at least so many and so many for each decoder. The models are loaded again
for the next one, which takes ten seconds."""

ACTORS_PER_GPU = 2
"""While one takes its windows or hands over its rows, the other one computes."""

DECODING_GPU = 0.1
"""The share of a GPU that its decoders claim when it decodes, so that Ray shows it to them. Its hardware decoder is
none of what the model uses."""

DECODERS_PER_GPU = 16
"""Most decoders that use one GPU at a time: each takes some hundred MB of its memory, and it has few hardware decoders.
"""

RETRIES = 3
"""How often a task is done again whose process died. Ray Data's own default is for ever."""

RESTARTS = 10
"""How often a model actor is started again. Machines that go away under it count, too, so they are more."""

ACTOR_CPUS = 0.1
"""Most logical CPUs that an actor claims. When machines go away, the actors move to those that are left, where they
must not take all CPUs, for then nothing would be decoded any more: with this, one machine of ten may be left."""


@dataclass(frozen=True)
class Workers:
    """How the work is spread: model actors with their threads and devices, and decoding tasks at a time.

    ``actor_cpus``, ``actor_gpus``, ``decoder_cpus`` and ``decoder_gpus`` are what each of them claims of Ray's logical
    CPUs and GPUs. With a share of a GPU a decoder uses it.
    """

    device: Literal["cpu", "cuda"]
    actors: int
    threads: int
    actor_cpus: float
    actor_gpus: float
    decoders: int
    decoder_cpus: float
    decoder_gpus: float = 0.0

    @property
    def cores(self) -> int:
        """The cores of the whole cluster: there is a decoding task for each."""
        return self.decoders


def windows_per_call(architecture: str, device: str) -> int:
    """Windows that an actor takes at a time."""
    if device == "cuda":
        return WINDOWS_PER_CALL
    if architecture not in ARCHITECTURES:
        return LEAST_WINDOWS  # The actors, which are to build it, have the words for that.
    return max(LEAST_WINDOWS, min(round(CALL_GFLOP / ARCHITECTURES[architecture].gflop), MOST_WINDOWS))


def choose_workers(
    cpus: float, gpus: float, device: str = "auto", actors: int | None = None, *, nvdec: bool = False
) -> Workers:
    """Spreads the work over ``cpus`` and ``gpus`` of the whole cluster. Raises VtagError for a device that is missing.

    ``nvdec`` is whether the GPUs decode.

    With GPUs, ACTORS_PER_GPU; more actors than GPUs share them evenly. Without, one single-threaded actor per core:
    for the built-in network in bfloat16 two threads on two cores are 1.5 times as fast as one, two processes twice as
    fast (measured on a Xeon with AMX). Decoding may use every core: it is paused when the actors fall behind, so the
    operating system finds the right shares. Half of the logical CPUs go to either side, so neither can keep the other
    from starting, even on one CPU.
    """
    if device == "cuda" and gpus < 1:
        raise VtagError("--device cuda: no GPU is available to Ray here; use --device cpu or auto")
    cores = max(1, int(cpus))
    use_gpu = device != "cpu" and gpus >= 1
    count = actors or (ACTORS_PER_GPU * int(gpus) if use_gpu else cores)
    for_models = 1 - DECODING_GPU if nvdec else 1.0
    return Workers(
        device="cuda" if use_gpu else "cpu",
        actors=count,
        threads=max(1, cores // count),
        actor_cpus=_share(cpus / 2, count, most=ACTOR_CPUS),
        # An actor's share lies on one GPU: three actors on two GPUs take halves, not two thirds.
        actor_gpus=_share(for_models, math.ceil(count / int(gpus)), most=1) if use_gpu else 0,
        decoders=cores,
        decoder_cpus=_share(cpus / 2, cores),
        decoder_gpus=_share(DECODING_GPU, min(math.ceil(cores / int(gpus)), DECODERS_PER_GPU)) if nvdec else 0.0,
    )


def _share(whole: float, parts: int, most: float = 0.5) -> float:
    # Ray counts in steps of 1/10,000; the shares must not add up to more than there is.
    return min(most, math.floor(whole / parts * 10_000) / 10_000)


def tag_videos(
    videos: Sequence[Video],
    source: ModelSource,
    sampling: Sampling,
    workers: Workers,
    *,
    top_k: int,
    batch_size: int | None = None,
    precision: "PrecisionName" = "auto",
    first: int = 0,
) -> Generator[pa.Table]:
    """Tags ``videos`` and yields tables of SEGMENTS_SCHEMA as they come; ``video`` is the number in ``videos``, from
    ``first`` on.

    Needs a running Ray. Rows come in any order. Every window of every video comes back once, and every video has
    exactly one row with an ``end``, whatever was wrong with it. What a process or a machine had under way when it died
    is done again. Raises JobError when a machine of the cluster cannot do its part, ModelFileError when the model is
    not what it was.
    """
    import ray
    from ray.data import ActorPoolStrategy, TaskPoolStrategy

    check_nodes(videos)
    rows = batch_size or windows_per_call(source.info.architecture, workers.device)
    size = source.info.preprocessing.size
    clip_bytes = sampling.num_frames * size * size * 3
    _configure(workers, rows * clip_bytes)
    sizes = list(task_sizes(len(videos), workers.decoders))
    windows = in_blocks(videos, sizes, first).map_batches(
        cast(Any, decode),  # Ray's own annotation leaves no room for keyword arguments.
        # With more, Ray Data would put small blocks together into one task.
        batch_size=1,
        batch_format="pyarrow",
        fn_kwargs={
            "sampling": sampling,
            "preprocessing": source.info.preprocessing,
            "span_windows": min(rows, SPAN_WINDOWS),
            "nvdec": workers.decoder_gpus > 0,
        },
        compute=TaskPoolStrategy(size=min(workers.decoders, len(sizes))),
        num_cpus=workers.decoder_cpus,
        num_gpus=workers.decoder_gpus,
        **retries(max_retries=RETRIES),
    )
    segments = windows.map_batches(
        Predictor,
        batch_size=rows,
        batch_format="pyarrow",
        zero_copy_batch=True,
        fn_constructor_kwargs={
            "source": source,
            # Once, for all actors and for machines that join later.
            "content": ray.put(source.content()),
            "sampling": sampling,
            "device": workers.device,
            "precision": precision,
            "threads": workers.threads,
            "top_k": top_k,
            "batch_size": batch_size,
        },
        compute=ActorPoolStrategy(
            size=workers.actors,
            max_tasks_in_flight_per_actor=2,
            # Calls still come one by one. Without this option Ray makes them in a thread of its own, and glibc gives
            # the memory of such a thread back to the system whenever it is freed (jobs/cluster/memory.py): the I3D
            # takes 1.3 times as long.
            enable_true_multi_threading=True,
        ),
        num_cpus=workers.actor_cpus,
        num_gpus=workers.actor_gpus,
        # Retries of calls are bounded by the restarts. While a lost machine is not missed yet, many are used up.
        **retries(max_restarts=RESTARTS, max_task_retries=-1),
    )
    yield from segments.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)


def task_sizes(videos: int, decoders: int) -> Iterator[int]:
    """How many videos each decoding task reads, in order, for so many ``decoders`` at a time.

    Tasks become smaller towards the end, so that the decoders finish together (guided self-scheduling, Polychronopoulos
    and Kuck 1987).
    """
    while videos > 0:
        size = max(1, min(videos // (TASKS_PER_DECODER * decoders), VIDEOS_PER_TASK))
        yield size
        videos -= size


def videos_at_a_time(decoders: int) -> int:
    """How many videos are tagged with one data set of Ray Data. A bound for the memory of the Ray driver."""
    return max(VIDEOS_PER_DATA_SET, VIDEOS_PER_DECODER * decoders)


def in_blocks(videos: Sequence[Video], sizes: Sequence[int], first: int = 0) -> "Dataset":
    """The videos by number, from ``first`` on, and name, as a data set with a block of each of the ``sizes``."""
    import ray

    # Names travel as bytes: they need not be text.
    names = iter([os.fsencode(video.path) for video in videos])
    blocks = []
    for size in sizes:
        numbers = range(first, first + size)
        blocks.append(pa.table({"video": numbers, "path": list(itertools.islice(names, size))}))
        first += size
    # Not from_arrow, which has a task look at each block, and that waits for a whole CPU.
    return ray.data.from_blocks(blocks)


def _configure(workers: Workers, call_bytes: int) -> None:
    """Sets what Ray Data takes from its context when a data set is made."""
    import ray
    from ray.data import DataContext, ExecutionResources

    store_bytes = int(ray.cluster_resources().get("object_store_memory", 2**30))
    wanted_bytes = 8 * call_bytes * (workers.actors + workers.decoders)
    context = DataContext.get_current()
    # Small blocks, so that results stream and little waits in memory.
    context.target_max_block_size = call_bytes
    context.execution_options.resource_limits = ExecutionResources(
        # What does not fit into the store would be written to disk.
        object_store_memory=min(max(256 * 2**20, wanted_bytes), store_bytes // 2)
    )
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # A long video decoded from a slow disk is no reason to give up.
    context.execution_no_progress_timeout_s = -1
