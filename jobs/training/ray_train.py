"""Training one network in several workers, with Ray Train.

The clips are brought in first (see ``jobs.training.ray_ingest``). Each worker then runs
``training.fitting.recipe.fit_network``, which knows of the others through ``torch.distributed`` only; the first of them
writes checkpoints, metrics and the model file into the run folder. When a worker is lost all of them begin again from
the last checkpoint.
"""

import os
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from jobs.archive.video import Video
from jobs.cluster.memory import keep_freed_memory
from jobs.cluster.nodes import check_nodes, here
from jobs.cluster.ray_driver import Tell, run_on_ray
from jobs.cluster.ray_session import RaySession
from jobs.cluster.termination import Sigterm
from jobs.errors import JobError, WorkerError
from jobs.training.board import open_board
from jobs.training.ray_ingest import bring_in
from tagger.errors import VtagError
from training.data.data_set import DataSet
from training.data.splits import Split
from training.fitting.config import TrainConfig, check
from training.fitting.recipe import (
    TrainResult,
    fit_network,
    kept_clips,
    open_run,
    publish,
    starting_network,
    write_judged,
)
from training.fitting.run_folder import RAY, RunFolder
from training.fitting.watch import Watch
from training.inputs.clip_cache import ClipCache
from training.inputs.ingest import Known

FAILURES = 3
"""Times that workers are started again after one of them was lost."""

POLL_S = 0.3
"""Seconds between two looks at what the workers report."""


def train_with_ray(
    data: DataSet,
    split: Split,
    config: TrainConfig,
    *,
    workers: int | None = None,
    gpus: int | None = None,
    address: str | None = None,
    verbose: bool = False,
    watch: Watch | None = None,
    finish: bool = True,
) -> TrainResult:
    """Trains as ``training.train`` does, on the cluster at ``address`` or on this machine, in ``workers`` workers.

    ``config`` names a run folder, which all machines share. ``gpus`` is how many GPUs the workers have together; by
    default all there are, and as many workers, or one worker with all cores of a machine. Raises JobError when that
    cannot be had or workers are lost again and again, and what ``train`` raises. Without ``finish`` the run folder
    keeps what is needed to go on.
    """
    check(config)
    config = travelling(config)
    # Weights that cannot be had are better known before Ray is started.
    network = starting_network(config, len(data.labels))
    with Sigterm():
        result: TrainResult = run_on_ray(
            "training",
            train_on_session,
            *(data, split, config, network, workers, gpus, finish),
            on_event=(watch or Watch()).on_event,
            address=address,
            verbose=verbose,
        )
    return result


def train_on_session(
    session: RaySession,
    tell: Tell,
    data: DataSet,
    split: Split,
    config: TrainConfig,
    network: nn.Module,
    workers: int | None,
    gpus: int | None,
    finish: bool,
) -> TrainResult:
    """What ``train_with_ray`` does on Ray. Tells what ``Watch.on_event`` takes."""
    team = _team(session, workers, gpus, config)
    config = replace(config, device="cuda" if team.gpus else "cpu")
    with ExitStack() as stack:
        run = stack.enter_context(open_run(data, split, config, workers=team.workers))
        assert run is not None
        cache = stack.enter_context(kept_clips(config))
        check_nodes([Video(os.fspath(path), 1, 0) for path in (run.path, cache.folder, *_paths(data))])
        watch = Watch.telling(tell)
        known = bring_in(network, {"train": split.train, "val": split.val}, config, cache, session, watch)
        result = _fit(_Task(data, split, config, network, cache, run, known), team, tell)
        publish(run.model, config.out)
        if finish:
            run.finish()
    return result


@dataclass(frozen=True)
class _Team:
    """How many workers there are, and how many GPUs and cores each has."""

    workers: int
    gpus: int
    cpus: int


@dataclass(frozen=True)
class _Task:
    """What all workers have to know."""

    data: DataSet
    split: Split
    config: TrainConfig
    network: nn.Module
    cache: ClipCache
    run: RunFolder
    known: Known


def _team(session: RaySession, workers: int | None, gpus: int | None, config: TrainConfig) -> _Team:
    import ray

    if gpus is None:
        gpus = 0 if config.device == "cpu" else int(session.gpus)
    if gpus > session.gpus:
        raise JobError(f"--gpus {gpus}: there are {session.gpus:g} GPUs here")
    check_device(config, gpus)
    workers = workers or gpus or 1
    if gpus and workers > gpus:
        raise JobError(
            f"--workers {workers}: each needs a GPU of its own, and there are {gpus}; give --gpus 0 for none"
        )
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    # A worker is on one machine. With GPUs a core each is enough for a start; as many as all can have is better.
    able = [(int(has.get("CPU", 0)), int(has.get("GPU", 0)) if gpus else workers) for has in nodes]
    for cpus in range(max((cores for cores, _ in able), default=0), 0, -1):
        if sum(min(cores // cpus, places) for cores, places in able) >= workers:
            return _Team(workers, 1 if gpus else 0, cpus)
    cores = sum(cores for cores, places in able if places)
    raise JobError(f"--workers {workers}: there are {cores} cores for them, and each needs one")


def check_device(config: TrainConfig, gpus: float) -> None:
    """Raises JobError when ``config`` wants a GPU and of the ``gpus`` that may be used there is none."""
    if config.device == "cuda" and not gpus:
        raise JobError("--device cuda: there is no GPU to be had; use --device cpu or auto")


def travelling(config: TrainConfig) -> TrainConfig:
    """``config`` with paths that mean the same in another folder."""
    paths = {name: getattr(config, name) for name in ("out", "weights", "cache", "run_folder")}
    return replace(config, **{name: path and path.absolute() for name, path in paths.items()})


def _paths(data: DataSet) -> list[Path]:
    return [path for path in dict.fromkeys(clip.path for clip in data.clips) if path.is_file()]


def _fit(task: _Task, team: _Team, tell: Tell) -> TrainResult:
    """Lets the workers train, and passes on what they report."""
    import ray
    from ray.exceptions import RayError

    board = open_board()
    result: TrainResult | None = None
    # In a process of its own, so that this one can read the board while Ray Train waits for the workers.
    settings = {"task": ray.put(task), "board": board, "threads": team.cpus}
    lead = ray.remote(num_cpus=0, max_retries=0)(_lead).options(scheduling_strategy=here())
    led = lead.remote(team, task.run.path, settings)
    try:
        is_last = False
        while not is_last:
            is_last = bool(ray.wait([led], timeout=POLL_S)[0])
            for what, value in ray.get(board.take.remote()):
                if what == "error":
                    # The other workers may wait for the one that has it.
                    raise value
                if what == "result":
                    result = value
                else:
                    tell((what, value))
        ray.get(led)
    except RayError as error:
        raise WorkerError(
            f"training ended, and goes on with the same command ({str(error).strip().splitlines()[-1][:300]})"
        ) from error
    finally:
        ray.cancel(led, force=True)
    if result is None:
        raise JobError("training ended without a result, and goes on with the same command")
    return result


def _lead(team: _Team, folder: Path, settings: dict[str, Any]) -> None:
    """Starts the workers, and starts them again when one was lost; ends with them."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    resources = {"CPU": team.cpus, **({"GPU": team.gpus} if team.gpus else {})}
    TorchTrainer(
        _work,
        train_loop_config=settings,
        scaling_config=ScalingConfig(num_workers=team.workers, use_gpu=bool(team.gpus), resources_per_worker=resources),
        run_config=RunConfig(name=RAY, storage_path=str(folder), failure_config=FailureConfig(max_failures=FAILURES)),
    ).fit()


def _work(settings: dict[str, Any]) -> None:
    """What a worker does."""
    import ray
    import ray.train.torch
    import torch

    task: _Task = ray.get(settings["task"])
    board = settings["board"]
    if task.config.device == "cuda":
        torch.cuda.set_device(ray.train.torch.get_device())
    else:
        keep_freed_memory()
        torch.set_num_threads(settings["threads"])

    def post(what: str, value: object) -> None:
        board.post.remote(what, value)

    watch = Watch.telling(lambda event: post(*event))
    config, cache = task.config, task.cache
    try:
        trained = fit_network(
            task.data, task.split, config, task.network, cache, task.run, replace(watch, on_reading=_nobody), task.known
        )
        if trained is not None:
            ray.get(
                board.post.remote("result", write_judged(task.run.model, task.data, task.split, config, trained, watch))
            )
    except VtagError as error:
        # It would come again, however often the workers were started.
        ray.get(board.post.remote("error", error))


def _nobody(_: object) -> None:
    """The clips have been told of when they were brought in."""
