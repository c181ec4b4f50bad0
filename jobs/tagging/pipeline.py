"""The Ray Data pipeline: videos are decoded in tasks, classified by a pool of actors, and come back as rows.

Frames go from the decoding tasks to the actors through Ray's object store and never reach the Ray driver.
"""

import math
from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, cast

import pyarrow as pa

from jobs.archive.video import Video
from jobs.cluster.ray_data import tables
from jobs.cluster.ray_versions import avoid_in_all_steps, avoiding, retries
from jobs.tagging.decoding import decode
from jobs.tagging.prediction import Predictor
from jobs.tagging.tasks import numbers_of_parts, parts_of, task_sizes, threads_of_decoder, videos_in_blocks
from tagger.errors import VtagError
from tagger.model_file import ModelInfo
from tagger.models.registry import ARCHITECTURES
from tagger.tagger import ModelSource
from tagger.video.readers.reader import WantedReader
from tagger.windows import Part, Sampling

if TYPE_CHECKING:
    from ray.data import Dataset

    from tagger.classifier import PrecisionName

WINDOWS_PER_CALL, MAX_WINDOWS_PER_GPU_CALL = 32, 128
"""Number of windows per call of an actor on a GPU: two of the largest batches (tagger/cuda.py). With many actors it is
larger, because each call costs the Ray driver the same time."""

ACTORS_WITH_SHORT_CALLS = 16
"""Number of actors on GPUs for which a call has WINDOWS_PER_CALL windows. Twice as many actors have calls of twice as
many windows. With 150 windows/s of each, 16 actors make 75 calls a second; 200 actors make 240, of 128 windows."""

GFLOP_PER_CALL = 120
"""Arithmetic of one call of an actor on a CPU: a call takes half a second to two seconds. Each call costs the Ray
driver the same time, so calls are not short. The actors cannot share the last calls of a job, so calls are not long."""

MIN_WINDOWS_PER_CALL, MAX_WINDOWS_PER_CALL = 4, 16
"""Minimum and maximum number of windows per call of an actor on a CPU."""

SPAN_WINDOWS = 16
"""Maximum number of windows in one table from a decoder, which keeps them in memory until the table is complete."""

ACTORS_PER_GPU = 2
"""Number of actors per GPU: one computes while the other takes windows or hands over rows."""

DECODING_GPU_SHARE = 0.1
"""Share of a GPU that its decoders claim together, so that Ray makes it visible to them. The model does not use the
GPU's hardware decoder."""

DECODERS_PER_GPU = 16
"""Maximum number of decoders that use one GPU at a time. Each takes some hundred MB of its memory, and a GPU has few
hardware decoders."""

RETRIES = 3
"""Number of retries of a task whose process died. Ray Data's own default is unlimited."""

RESTARTS = 10
"""Number of restarts of a model actor. More than RETRIES, because the loss of its machine counts, too."""

ACTOR_CPUS = 0.1
"""Maximum number of logical CPUs that an actor claims. When machines are lost, all actors move to the remaining ones
and must leave CPUs for decoding there. With 0.1, one machine of ten can take all actors."""


@dataclass(frozen=True)
class Workers:
    """How the work is spread: ``actors`` models with ``threads`` each, and ``decoders`` decoding tasks at a time.

    ``actor_cpus``, ``actor_gpus``, ``decoder_cpus`` and ``decoder_gpus`` are the logical CPUs and GPUs of Ray that each
    of them claims. A decoder with a share of a GPU decodes on it.
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
        """Cores of the whole cluster: there is one decoding task per core."""
        return self.decoders


def windows_per_call(info: ModelInfo, device: str, actors: int = 1) -> int:
    """Returns the number of windows that one of ``actors`` actors takes per call."""
    if device == "cuda":
        windows = WINDOWS_PER_CALL * max(1, actors // ACTORS_WITH_SHORT_CALLS)
        return min(windows, MAX_WINDOWS_PER_GPU_CALL) // info.preprocessing.crops
    if info.architecture not in ARCHITECTURES:
        return MIN_WINDOWS_PER_CALL  # The actors report the unknown architecture when they build it.
    windows = round(GFLOP_PER_CALL / ARCHITECTURES[info.architecture].gflop_of(info))
    return max(MIN_WINDOWS_PER_CALL, min(windows, MAX_WINDOWS_PER_CALL))


def choose_workers(
    cpus: float, gpus: float, device: str = "auto", actors: int | None = None, *, nvdec: bool = False
) -> Workers:
    """Spreads the work over ``cpus`` and ``gpus`` of the whole cluster. With ``nvdec`` the GPUs decode.

    ``actors`` is the number of actors. By default there are ACTORS_PER_GPU actors per GPU; more actors than GPUs share
    them evenly. Without GPUs the default is one single-threaded actor per core: for the built-in network in bfloat16,
    two threads on two cores are 1.5 times as fast as one thread, and two processes are twice as fast (measured on a
    Xeon with AMX).

    Decoding may use every core: it pauses when the actors fall behind, so the operating system finds the right shares.
    Actors together, and decoders together, claim at most half of the logical CPUs. So neither can keep the other from
    starting, even on one CPU. Raises VtagError when ``device`` is ``cuda`` and there is no GPU.
    """
    if device == "cuda" and gpus < 1:
        raise VtagError("--device cuda: no GPU is available to Ray here; use --device cpu or auto")
    cores = max(1, int(cpus))
    use_gpu = device != "cpu" and gpus >= 1
    count = actors or (ACTORS_PER_GPU * int(gpus) if use_gpu else cores)
    for_models = 1 - DECODING_GPU_SHARE if nvdec else 1.0
    return Workers(
        device="cuda" if use_gpu else "cpu",
        actors=count,
        threads=max(1, cores // count),
        actor_cpus=_share(cpus / 2, count, most=ACTOR_CPUS),
        # An actor's share lies on one GPU: three actors on two GPUs take halves, not two thirds.
        actor_gpus=_share(for_models, math.ceil(count / int(gpus)), most=1) if use_gpu else 0,
        decoders=cores,
        decoder_cpus=_share(cpus / 2, cores),
        decoder_gpus=_share(DECODING_GPU_SHARE, min(math.ceil(cores / int(gpus)), DECODERS_PER_GPU)) if nvdec else 0.0,
    )


def _share(whole: float, parts: int, most: float = 0.5) -> float:
    # Ray counts in steps of 1/10,000; the shares must not add up to more than the whole.
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
    numbers: Sequence[int] | None = None,
    reader: WantedReader = "auto",
    avoided: Collection[str] = (),
    parts: Mapping[int, Sequence[Part]] = MappingProxyType({}),
    embeddings: bool = False,
) -> Generator[pa.Table]:
    """Tags ``videos`` and yields tables of SEGMENTS_SCHEMA, with ``embeddings`` if wanted, as they come back, in any
    order.

    Their column ``video`` has the ``numbers`` of the videos; without them, videos count from 0. The nodes with an id in
    ``avoided`` do not decode. Long videos are decoded in parts at the same time. Of videos with numbers in ``parts``,
    only these parts are read. Every window comes back once, and every part of a video, also of an unreadable one, has
    exactly one row with an ``end``. When a process or a machine dies, its unfinished work is repeated. Needs a running
    Ray.

    Raises ModelFileError when the model file has changed. Raises OutOfReachError when videos are out of reach of a
    node: rows that have not come back are then lost, and Ray ends the tasks that still run.
    """
    preprocessing = source.info.preprocessing
    rows = batch_size or windows_per_call(source.info, workers.device, workers.actors)
    clip_bytes = sampling.num_frames * math.prod(preprocessing.shape)
    _configure(workers, rows * clip_bytes)
    avoid_in_all_steps(avoided)
    sizes = list(task_sizes(len(videos), workers.decoders))
    numbers = numbers if numbers is not None else range(len(videos))
    counts = [1] * len(videos)
    if not workers.decoder_gpus and reader != "decord":
        counts = numbers_of_parts(videos, workers.decoders)
    read = [parts.get(number) or parts_of(count) for number, count in zip(numbers, counts, strict=True)]
    blocks = videos_in_blocks(videos, sizes, numbers, read)
    span_windows = min(rows, SPAN_WINDOWS // preprocessing.crops)
    windows = _decoding_step(
        blocks,
        source,
        sampling,
        workers,
        span_windows=span_windows,
        tasks=len(sizes) + sum(map(len, read)) - len(read),
        reader=reader,
        threads=threads_of_decoder(len(videos), workers.decoders),
        avoided=avoided,
    )
    settings = {"precision": precision, "top_k": top_k, "batch_size": batch_size, "embeddings": embeddings}
    segments = _model_step(windows, source, sampling, workers, rows=rows, settings=settings)
    yield from tables(segments)


def _decoding_step(
    blocks: "Dataset",
    source: ModelSource,
    sampling: Sampling,
    workers: Workers,
    *,
    span_windows: int,
    tasks: int,
    reader: WantedReader,
    threads: int,
    avoided: Collection[str],
) -> "Dataset":
    """Returns a data set of WINDOWS_SCHEMA: the decoded videos of ``blocks``, one task per block."""
    from ray.data import TaskPoolStrategy

    return blocks.map_batches(
        cast(Any, decode),  # Ray's own annotation does not allow keyword arguments.
        # With a larger batch size, Ray Data would merge small blocks into one task.
        batch_size=1,
        batch_format="pyarrow",
        fn_kwargs={
            "sampling": sampling,
            "preprocessing": source.info.preprocessing,
            "span_windows": span_windows,
            "nvdec": workers.decoder_gpus > 0,
            "reader": reader,
            "threads": threads,
        },
        compute=TaskPoolStrategy(size=min(workers.decoders, tasks)),
        num_cpus=workers.decoder_cpus,
        num_gpus=workers.decoder_gpus,
        **retries(max_retries=RETRIES),
        **avoiding(avoided),
    )


def _model_step(
    windows: "Dataset", source: ModelSource, sampling: Sampling, workers: Workers, *, rows: int, settings: dict
) -> "Dataset":
    """Returns a data set of SEGMENTS_SCHEMA: the ``windows``, classified in calls of ``rows`` windows.

    ``settings`` are further arguments of ``Predictor``.
    """
    import ray
    from ray.data import ActorPoolStrategy

    return windows.map_batches(
        Predictor,
        batch_size=rows,
        batch_format="pyarrow",
        zero_copy_batch=True,
        fn_constructor_kwargs={
            "source": source,
            # Stored once, for all actors and for machines that join later.
            "content": ray.put(source.content()),
            "sampling": sampling,
            "device": workers.device,
            "threads": workers.threads,
            **settings,
        },
        compute=ActorPoolStrategy(
            size=workers.actors,
            max_tasks_in_flight_per_actor=2,
            # Calls still come one by one. Without this option Ray makes them in a separate thread, and glibc returns
            # freed memory of such a thread to the system at once (jobs/cluster/memory.py): the I3D takes 1.3 times as
            # long.
            enable_true_multi_threading=True,
        ),
        num_cpus=workers.actor_cpus,
        num_gpus=workers.actor_gpus,
        # Retries of calls are unlimited, because many fail before Ray notices a lost machine; max_restarts ends them.
        **retries(max_restarts=RESTARTS, max_task_retries=-1),
    )


def _configure(workers: Workers, call_bytes: int) -> None:
    """Sets the options that Ray Data reads from its context when a data set is made."""
    import ray
    from ray.data import DataContext, ExecutionResources

    store_bytes = int(ray.cluster_resources().get("object_store_memory", 2**30))
    wanted_bytes = 8 * call_bytes * (workers.actors + workers.decoders)
    context = DataContext.get_current()
    # Small blocks, so that results stream and few windows wait in memory.
    context.target_max_block_size = call_bytes
    context.execution_options.resource_limits = ExecutionResources(
        # Ray spills blocks to disk that do not fit into the object store.
        object_store_memory=min(max(256 * 2**20, wanted_bytes), store_bytes // 2)
    )
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # An OutOfReachError keeps its class, its node and its video.
    context.raise_original_map_exception = True
    # No timeout: a long video on a slow disk may take very long to decode.
    context.execution_no_progress_timeout_s = -1
