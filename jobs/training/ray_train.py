"""Trains one network in several workers, with Ray Train.

The clips are ingested first (see ``jobs.training.ray_ingest``). Each worker then runs
``training.fitting.recipe.fit_network``, which reaches the other workers through ``torch.distributed`` only. The first
worker writes checkpoints, metrics and the model file into the run folder. When a worker is lost, all workers restart
from the last checkpoint.
"""

import os
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from jobs.cluster.cpu_environment import cpu_environment
from jobs.cluster.memory import keep_freed_memory
from jobs.cluster.nodes import check_nodes, on_this_node
from jobs.cluster.ray_driver import SendEvent, explain, run_on_ray
from jobs.cluster.ray_session import RaySession
from jobs.cluster.termination import Termination
from jobs.errors import JobError
from jobs.training.board import open_board
from jobs.training.ray_ingest import ingest_clips
from tagger.errors import VtagError
from training.data.data_set import DataSet
from training.data.splits import Split
from training.fitting.config import TrainConfig, check
from training.fitting.recipe import (
    TrainResult,
    fit_network,
    open_cache,
    open_run,
    publish,
    starting_network,
    write_model_file,
)
from training.fitting.run_folder import RAY, RunFolder
from training.fitting.watch import Watch
from training.inputs.clip_cache import ClipCache
from training.inputs.ingest import IngestedClips

MAX_RESTARTS = 3
"""How often all workers are restarted after the loss of one."""

POLL_S = 0.3
"""Seconds between two reads of the workers' events."""


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

    ``config`` names a run folder, which all machines share. ``gpus`` is the number of GPUs of all workers together. By
    default there is one worker per GPU, or without GPUs one worker with all cores of a machine. Raises the same errors
    as ``train``, and JobError when the cluster lacks these resources or workers are lost too often. Without ``finish``
    the run folder keeps the files that are needed to continue.
    """
    check(config)
    config = with_absolute_paths(config)
    # Missing weights are reported before Ray is started.
    network = starting_network(config, data.labels)
    with Termination():
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
    send_event: SendEvent,
    data: DataSet,
    split: Split,
    config: TrainConfig,
    network: nn.Module,
    workers: int | None,
    gpus: int | None,
    finish: bool,
) -> TrainResult:
    """The part of ``train_with_ray`` that runs in the Ray driver. Sends events for ``Watch.on_event``."""
    group = _worker_group(session, workers, gpus, config)
    config = replace(config, device="cuda" if group.gpus else "cpu")
    with ExitStack() as stack:
        run = stack.enter_context(open_run(data, split, config, workers=group.workers))
        assert run is not None
        cache = stack.enter_context(open_cache(config))
        check_nodes(os.fspath(path) for path in (run.path, cache.folder, *_clip_paths(data)))
        watch = Watch.forwarding(send_event)
        known = ingest_clips(network, {"train": split.train, "val": split.val}, config, cache, session, watch)
        result = _fit(_WorkerInput(data, split, config, network, cache, run, known), group, send_event)
        publish(run.model, config.out)
        if finish:
            run.finish()
    return result


@dataclass(frozen=True)
class _WorkerGroup:
    """The number of workers, and the GPUs and cores that each of them has."""

    workers: int
    gpus: int
    cpus: int


@dataclass(frozen=True)
class _WorkerInput:
    """The input of all workers."""

    data: DataSet
    split: Split
    config: TrainConfig
    network: nn.Module
    cache: ClipCache
    run: RunFolder
    known: IngestedClips


def _worker_group(session: RaySession, workers: int | None, gpus: int | None, config: TrainConfig) -> _WorkerGroup:
    import ray

    if gpus is None:
        gpus = 0 if config.device == "cpu" else int(session.gpus)
    if gpus > session.gpus:
        raise JobError(f"--gpus {gpus}: there are {session.gpus:g} GPUs here")
    check_device(config, gpus)
    workers = workers or gpus or 1
    if gpus and workers > gpus:
        raise JobError(
            f"--workers {workers}: each needs a GPU of its own, and there are {gpus}; "
            "use --gpus 0 to train without GPUs"
        )
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    # A worker is on one machine. Workers need one core each; this finds the most cores that every worker can have.
    able = [(int(has.get("CPU", 0)), int(has.get("GPU", 0)) if gpus else workers) for has in nodes]
    for cpus in range(max((cores for cores, _ in able), default=0), 0, -1):
        if sum(min(cores // cpus, places) for cores, places in able) >= workers:
            return _WorkerGroup(workers, 1 if gpus else 0, cpus)
    cores = sum(cores for cores, places in able if places)
    raise JobError(f"--workers {workers}: there are {cores} cores for them, and each needs one")


def check_device(config: TrainConfig, gpus: float) -> None:
    """Raises JobError when ``config`` asks for a GPU and ``gpus`` is 0."""
    if config.device == "cuda" and not gpus:
        raise JobError("--device cuda: no GPU is available to Ray here; use --device cpu or auto")


def with_absolute_paths(config: TrainConfig) -> TrainConfig:
    """Returns ``config`` with absolute paths, because workers have another current folder."""
    paths = {name: getattr(config, name) for name in ("out", "weights", "cache", "run_folder")}
    return replace(config, **{name: path and path.absolute() for name, path in paths.items()})


def _clip_paths(data: DataSet) -> list[Path]:
    return [path for path in dict.fromkeys(clip.path for clip in data.clips) if path.is_file()]


def _fit(worker_input: _WorkerInput, group: _WorkerGroup, send_event: SendEvent) -> TrainResult:
    """Runs the workers and passes on their events."""
    import ray
    from ray.exceptions import RayError

    board = open_board()
    result: TrainResult | None = None
    # The trainer is another process, so that this one can read the board while Ray Train waits for the workers.
    settings = {"input": ray.put(worker_input), "board": board, "threads": group.cpus}
    trainer = ray.remote(num_cpus=0, max_retries=0)(_run_trainer).options(scheduling_strategy=on_this_node())
    running = trainer.remote(group, worker_input.run.path, settings)
    try:
        is_last = False
        while not is_last:
            is_last = bool(ray.wait([running], timeout=POLL_S)[0])
            for name, value in ray.get(board.take.remote()):
                if name == "error":
                    # Raises at once: the other workers may wait for the one that failed.
                    raise value
                if name == "result":
                    result = value
                else:
                    send_event((name, value))
        ray.get(running)
    except RayError as error:
        raise explain(error, "training") from error
    finally:
        ray.cancel(running, force=True)
    if result is None:
        raise JobError("training stopped without a result; the same command continues it")
    return result


def _run_trainer(group: _WorkerGroup, folder: Path, settings: dict[str, Any]) -> None:
    """Starts the workers, restarts them when one is lost, and returns when they have finished."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    resources = {"CPU": group.cpus, **({"GPU": group.gpus} if group.gpus else {})}
    TorchTrainer(
        _train_worker,
        train_loop_config=settings,
        scaling_config=ScalingConfig(
            num_workers=group.workers, use_gpu=bool(group.gpus), resources_per_worker=resources
        ),
        run_config=RunConfig(
            name=RAY,
            storage_path=str(folder),
            failure_config=FailureConfig(max_failures=MAX_RESTARTS),
            # Ray Train calls ``_train_worker`` in a thread of its own. mypy sees the RunConfig of Ray Train V1.
            worker_runtime_env={"env_vars": cpu_environment()},  # type: ignore[call-arg]
        ),
    ).fit()


def _train_worker(settings: dict[str, Any]) -> None:
    """The work of one worker."""
    import ray
    import ray.train.torch
    import torch

    given: _WorkerInput = ray.get(settings["input"])
    board = settings["board"]
    keep_freed_memory()
    if given.config.device == "cuda":
        torch.cuda.set_device(ray.train.torch.get_device())
    else:
        torch.set_num_threads(settings["threads"])

    def post(name: str, value: object) -> None:
        board.post.remote(name, value)

    watch = Watch.forwarding(lambda event: post(*event))
    config, cache = given.config, given.cache
    try:
        trained = fit_network(
            given.data,
            given.split,
            config,
            given.network,
            cache,
            given.run,
            replace(watch, on_reading=_ignore),
            given.known,
        )
        if trained is not None:
            ray.get(
                board.post.remote(
                    "result", write_model_file(given.run.model, given.data, given.split, config, trained, watch)
                )
            )
    except VtagError as error:
        # Not raised here: Ray Train would restart the workers, and the error would come again.
        ray.get(board.post.remote("error", error))


def _ignore(_: object) -> None:
    """Ignores an event: the clips were already reported when they were ingested."""
