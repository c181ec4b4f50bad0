"""Training the folds of a data set on Ray: a task for each, as many at a time as there is room for."""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from jobs.cluster import check_nodes
from jobs.job import JobError, Video
from jobs.ray_session import ray_session
from jobs.team import travelling
from tagger.errors import VtagError
from training.config import TrainConfig
from training.data_set import DataSet
from training.folds import Fold
from training.recipe import begin_run
from training.trial import FoldResult, train_fold

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
) -> tuple[FoldResult, ...]:
    """Trains ``folds`` on the cluster at ``address`` or on this machine, and returns their results in order.

    Where there are GPUs each fold has one. ``on_fold`` is called with each fold that is finished. A run folder is left
    unfinished, so that the results can be written down first. Raises DataSetError and the like as ``train`` does,
    JobError when a machine cannot do its part or a process is killed.
    """
    import ray
    from ray.exceptions import RayError, RayTaskError

    with ExitStack() as stack:
        shared_paths = _videos(data)
        if config.run_folder is not None:
            names = [fold.name for fold in folds]
            run = stack.enter_context(begin_run(config, {"all": data.clips}, folds=names, precision=config.precision))
            shared_paths.append(Video(os.fspath(run.path.absolute()), 1, 0))
        session = stack.enter_context(ray_session(address, verbose=verbose))
        check_nodes(shared_paths)
        uses_gpus = session.gpus > 0 and config.device != "cpu"
        task = ray.remote(num_cpus=_cpus(ray.nodes(), uses_gpus), num_gpus=1 if uses_gpus else 0)(train_fold)
        # What is the same for all folds travels once.
        shared = ray.put(data), ray.put(travelling(config))
        numbers: dict[Any, int] = {task.remote(shared[0], fold, shared[1]): i for i, fold in enumerate(folds)}
        results: dict[int, FoldResult] = {}
        waiting = list(numbers)
        try:
            while waiting:
                (done, *_), waiting = ray.wait(waiting)
                result = results[numbers[done]] = ray.get(done)
                on_fold(result)
        except RayTaskError as error:
            if isinstance(error.cause, VtagError):
                raise error.cause from error
            raise
        except RayError as error:
            raise JobError(f"a process that trained a fold ended: {' '.join(str(error).split())[:300]}") from error
    return tuple(results[i] for i in range(len(folds)))


def _cpus(nodes: Sequence[dict], uses_gpus: bool) -> float:
    """Cores for a fold, no more than the smallest machine that may take one has."""
    having = [node["Resources"] for node in nodes if node["Alive"]]
    able = [has["CPU"] for has in having if has.get("CPU") and (has.get("GPU") or not uses_gpus)]
    return min([FOLD_CPUS, *able])


def _videos(data: DataSet) -> list[Video]:
    return [Video(os.fspath(path), 1, 0) for path in dict.fromkeys(clip.path for clip in data.clips) if path.is_file()]
