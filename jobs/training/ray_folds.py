"""Training the folds of a data set on Ray: a task for each, as many at a time as there is room for."""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from torch import nn

from jobs.archive.video import Video
from jobs.cluster.nodes import check_nodes
from jobs.cluster.ray_driver import Tell, run_on_ray
from jobs.cluster.ray_session import RaySession
from jobs.errors import WorkerError
from jobs.training.ray_ingest import bring_in
from jobs.training.ray_train import check_device, travelling
from tagger.errors import VtagError
from training.data.data_set import DataSet, LabelledClip, Part
from training.data.folds import Fold
from training.fitting.config import TrainConfig
from training.fitting.recipe import begin_run, kept_clips, starting_network
from training.fitting.trial import FoldResult, train_fold
from training.fitting.watch import Reading, Watch

FOLD_CPUS = 4
"""Cores for a fold: more hardly help a small model, and another fold can use them."""


def run_folds(
    data: DataSet,
    folds: Sequence[Fold],
    config: TrainConfig,
    *,
    address: str | None = None,
    verbose: bool = False,
    on_fold: Callable[[FoldResult], None] = lambda result: None,
    on_reading: Callable[[Reading], None] = lambda reading: None,
) -> tuple[FoldResult, ...]:
    """Trains ``folds`` on the cluster at ``address`` or on this machine, and returns their results in order.

    Where there are GPUs each fold has one. With a run folder or a cache the clips are brought in first, for all folds
    together, and ``on_reading`` is called for each. ``on_fold`` gets each fold that is finished. A run folder is left
    unfinished, so that the results can be written down first. Raises DataSetError and the like as ``train`` does,
    JobError when a machine cannot do its part or a process is killed.
    """
    config = travelling(config)
    # Weights that cannot be had are better known before Ray is started.
    network = starting_network(config, len(data.labels)) if _brings_in(config) else None

    def on_event(event: FoldResult | Reading) -> None:
        if isinstance(event, Reading):
            on_reading(event)
        else:
            on_fold(event)

    results: tuple[FoldResult, ...] = run_on_ray(
        "training",
        run_folds_on_session,
        *(data, folds, config, network),
        on_event=on_event,
        address=address,
        verbose=verbose,
    )
    return results


def _brings_in(config: TrainConfig) -> bool:
    """Whether the clips are decoded first: folds share nearly all of them, and would decode the same ones at once."""
    return config.cache_bytes > 0 and (config.run_folder is not None or config.cache is not None)


def run_folds_on_session(
    session: RaySession,
    tell: Tell,
    data: DataSet,
    folds: Sequence[Fold],
    config: TrainConfig,
    network: nn.Module | None,
) -> tuple[FoldResult, ...]:
    """What ``run_folds`` does on Ray. Tells each Reading and each FoldResult."""
    import ray
    from ray.exceptions import RayError, RayTaskError

    with ExitStack() as stack:
        shared_paths = _videos(data)
        if config.run_folder is not None:
            names = [fold.name for fold in folds]
            run = stack.enter_context(begin_run(config, {"all": data.clips}, folds=names, precision=config.precision))
            shared_paths.append(Video(os.fspath(run.path), 1, 0))
        check_device(config, session.gpus)
        if network is not None:
            cache = stack.enter_context(kept_clips(config))
            shared_paths.append(Video(os.fspath(cache.folder), 1, 0))
        check_nodes(shared_paths)
        uses_gpus = session.gpus > 0 and config.device != "cpu"
        config = replace(config, device="cuda" if uses_gpus else "cpu")
        if network is not None:
            bring_in(network, _parts(folds), config, cache, session, Watch(tell))
        task = ray.remote(num_cpus=_cpus(ray.nodes(), uses_gpus), num_gpus=1 if uses_gpus else 0)(train_fold)
        # What is the same for all folds travels once.
        shared = ray.put(data), ray.put(config)
        numbers: dict[Any, int] = {task.remote(shared[0], fold, shared[1]): i for i, fold in enumerate(folds)}
        results: dict[int, FoldResult] = {}
        waiting = list(numbers)
        try:
            while waiting:
                (done, *_), waiting = ray.wait(waiting)
                result = results[numbers[done]] = ray.get(done)
                tell(result)
        except RayTaskError as error:
            if isinstance(error.cause, VtagError):
                raise error.cause from error
            raise
        except RayError as error:
            raise WorkerError(f"a process that trained a fold ended: {' '.join(str(error).split())[:300]}") from error
    return tuple(results[i] for i in range(len(folds)))


def _cpus(nodes: Sequence[dict], uses_gpus: bool) -> float:
    """Cores for a fold, no more than the smallest machine that may take one has."""
    having = [node["Resources"] for node in nodes if node["Alive"]]
    able = [has["CPU"] for has in having if has.get("CPU") and (has.get("GPU") or not uses_gpus)]
    return min([FOLD_CPUS, *able])


def _parts(folds: Sequence[Fold]) -> dict[Part, tuple[LabelledClip, ...]]:
    """The clips that any of ``folds`` trains on, and those that any validates on."""
    parts: tuple[Part, ...] = ("train", "val")
    return {part: tuple(dict.fromkeys(clip for fold in folds for clip in getattr(fold.split, part))) for part in parts}


def _videos(data: DataSet) -> list[Video]:
    return [Video(os.fspath(path), 1, 0) for path in dict.fromkeys(clip.path for clip in data.clips) if path.is_file()]
