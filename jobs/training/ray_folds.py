"""Trains the folds of a data set on Ray: one task per fold, as many at a time as the cluster has room for."""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from torch import nn

from jobs.cluster.cpu_environment import cpu_environment
from jobs.cluster.memory import keep_freed_memory
from jobs.cluster.nodes import check_nodes
from jobs.cluster.ray_driver import SendEvent, run_on_ray
from jobs.cluster.ray_session import RaySession
from jobs.errors import WorkerError, without_names
from jobs.training.ray_ingest import ingest_clips
from jobs.training.ray_train import check_device, with_absolute_paths
from tagger.errors import VtagError
from training.data.data_set import DataSet, LabelledClip, Part
from training.data.folds import Fold
from training.fitting.config import TrainConfig
from training.fitting.recipe import begin_run, open_cache, starting_network
from training.fitting.trial import FoldResult, train_fold
from training.fitting.watch import Reading, Watch

FOLD_CPUS = 4
"""Number of cores per fold. More cores hardly help a small model, and other folds can use them."""


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

    With GPUs, each fold has one. With a run folder or a cache, and a cache size above 0, the clips are ingested
    (decoded and cached) first for all folds together, and ``on_reading`` is called for each clip. ``on_fold`` gets each
    finished fold. The run folder stays unfinished, so that the caller can write the results first. Raises the same
    errors as ``train``, and JobError when a machine cannot do its part or a process is killed.
    """
    config = with_absolute_paths(config)
    # Missing weights are reported before Ray is started.
    network = starting_network(config, data.labels) if _ingests_first(config) else None

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


def _ingests_first(config: TrainConfig) -> bool:
    """Returns whether the clips are ingested before the folds start.

    The folds share nearly all clips and would otherwise decode the same ones at the same time.
    """
    return config.cache_bytes > 0 and (config.run_folder is not None or config.cache is not None)


def run_folds_on_session(
    session: RaySession,
    send_event: SendEvent,
    data: DataSet,
    folds: Sequence[Fold],
    config: TrainConfig,
    network: nn.Module | None,
) -> tuple[FoldResult, ...]:
    """The part of ``run_folds`` that runs in the Ray driver. Sends each Reading and each FoldResult."""
    import ray
    from ray.exceptions import RayError, RayTaskError

    with ExitStack() as stack:
        shared_paths = _clip_paths(data)
        if config.run_folder is not None:
            names = [fold.name for fold in folds]
            run = stack.enter_context(begin_run(config, {"all": data.clips}, folds=names, precision=config.precision))
            shared_paths.append(os.fspath(run.path))
        check_device(config, session.gpus)
        if network is not None:
            cache = stack.enter_context(open_cache(config))
            shared_paths.append(os.fspath(cache.folder))
        check_nodes(shared_paths)
        uses_gpus = session.gpus > 0 and config.device != "cpu"
        config = replace(config, device="cuda" if uses_gpus else "cpu")
        if network is not None:
            ingest_clips(network, _parts(folds), config, cache, session, Watch(send_event))
        task = ray.remote(
            num_cpus=_cpus(ray.nodes(), uses_gpus),
            num_gpus=1 if uses_gpus else 0,
            runtime_env={"env_vars": cpu_environment()},
        )(train_fold_task)
        # What all folds share is stored once.
        shared = ray.put(data), ray.put(config)
        numbers: dict[Any, int] = {task.remote(shared[0], fold, shared[1]): i for i, fold in enumerate(folds)}
        results: dict[int, FoldResult] = {}
        waiting = list(numbers)
        try:
            while waiting:
                (done, *_), waiting = ray.wait(waiting)
                result = results[numbers[done]] = ray.get(done)
                send_event(result)
        except RayTaskError as error:
            if isinstance(error.cause, VtagError):
                raise error.cause from error
            raise
        except RayError as error:
            raise WorkerError(f"a process that trained a fold ended: {without_names(str(error))[:300]}") from error
    return tuple(results[i] for i in range(len(folds)))


def train_fold_task(data: DataSet, fold: Fold, config: TrainConfig) -> FoldResult:
    """Trains a fold as ``training.train_fold`` does, in a process that keeps freed memory."""
    keep_freed_memory()
    return train_fold(data, fold, config)


def _cpus(nodes: Sequence[dict], uses_gpus: bool) -> float:
    """Returns the cores per fold: not more than the smallest machine has that can train a fold."""
    having = [node["Resources"] for node in nodes if node["Alive"]]
    able = [has["CPU"] for has in having if has.get("CPU") and (has.get("GPU") or not uses_gpus)]
    return min([FOLD_CPUS, *able])


def _parts(folds: Sequence[Fold]) -> dict[Part, tuple[LabelledClip, ...]]:
    """Returns the training clips and the validation clips of all ``folds``, each clip once per part."""
    parts: tuple[Part, ...] = ("train", "val")
    return {part: tuple(dict.fromkeys(clip for fold in folds for clip in getattr(fold.split, part))) for part in parts}


def _clip_paths(data: DataSet) -> list[str]:
    return [os.fspath(path) for path in dict.fromkeys(clip.path for clip in data.clips) if path.is_file()]
