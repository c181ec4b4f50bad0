"""What ``vtag train`` does when it knows what is wanted: it looks at clips, trains a model, or judges one of each fold.

Looking needs no torch, which is imported for training only.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress

from jobs.cli.terminal.data_set_report import print_inventory
from jobs.cli.terminal.wording import count
from tagger.errors import DataSetError
from training.data.data_set import DataSet
from training.data.inventory import take_inventory
from training.data.splits import Split
from training.data.training_plan import TrainingPlan
from training.fitting.run_folder import RANDOM, RunFolder

if TYPE_CHECKING:
    from training import TrainConfig, TrainResult

FEW_WINDOWS = 50
"""Fewer validation windows than this say little about how confident a model may be."""


def look_at(data: DataSet, split: Callable[[DataSet], TrainingPlan]) -> None:
    """Prints what there is in ``data`` and how ``split`` splits it. Raises DataSetError, then, when it cannot."""
    problem: DataSetError | None = None
    try:
        plan = split(data)
    except DataSetError as error:
        # What cannot be split is looked at with more reason.
        plan, problem = TrainingPlan(data), error
    stderr = Console(stderr=True)
    stderr.quiet = not stderr.is_terminal
    with Progress(console=stderr, transient=True) as bars:
        opened = bars.add_task("Opening videos", total=len({clip.path for clip in data.clips}))
        inventory = take_inventory(data, lambda probed: bars.update(opened, completed=probed))
    print_inventory(Console(), plan, inventory)
    if problem:
        raise problem


def train_model(
    plan: TrainingPlan,
    config: "TrainConfig",
    console: Console,
    *,
    workers: int | None = None,
    gpus: int | None = None,
    address: str | None = None,
    verbose: bool = False,
) -> None:
    """Trains the model of ``plan.split`` and prints its scores, and beside them those of ``plan.leaking``.

    ``console`` shows how it gets on. See ``train_with_ray`` for the rest, and for what is raised.
    """
    from jobs.cli.terminal.training_progress import TrainingProgress
    from jobs.cli.terminal.training_report import print_evaluation
    from jobs.cli.terminal.trial_report import print_leak
    from jobs.training.ray_train import train_with_ray
    from training.fitting.trial import trial_config

    assert config.run_folder is not None and plan.split is not None
    run, split = RunFolder(config.run_folder), plan.split

    def train(split: Split, config: "TrainConfig") -> "TrainResult":
        with TrainingProgress(console) as progress:
            return train_with_ray(
                plan.data,
                split,
                config,
                workers=workers,
                gpus=gpus,
                address=address,
                verbose=verbose,
                watch=progress.watch,
                finish=False,
            )

    with run.held(), _how_to_go_on(console, config):
        result = train(split, config)
        print_evaluation(Console(), result.evaluation, f"{config.out} on {len(split.test)} held-out clips")
        if plan.leaking:
            console.print("\nNow the split at random:", highlight=False)
            leaking = train(plan.leaking, trial_config(config, RANDOM))
            print_leak(Console(), leaking.evaluation, result.evaluation)
        run.finish()
    console.print(
        f"\nBest epoch {result.best_epoch} of {config.loop.epochs}; temperature {result.temperature:.2f}.",
        highlight=False,
    )
    if result.calibrated_on < FEW_WINDOWS:
        more = f"give {plan.given_by} more rows for it" if plan.given_by else "--val-groups can hold out more"
        console.print(
            f"Calibrated on {count(result.calibrated_on, 'validation window')} only: confidences are rough, and "
            f"ood_score has no more steps than that; {more}.",
            highlight=False,
            style="yellow",
        )
    console.print(f"Metrics and TensorBoard logs: {config.run_folder}", highlight=False, soft_wrap=True, markup=False)
    console.print(
        f"Next: vtag run YOUR_FOLDER --model {config.out} --out tags.parquet", highlight=False, soft_wrap=True
    )


def train_folds(
    plan: TrainingPlan, config: "TrainConfig", console: Console, *, address: str | None = None, verbose: bool = False
) -> None:
    """Trains a model for each of ``plan.folds``, prints their scores and writes them to ``config.out`` as JSON.

    ``console`` shows how it gets on. See ``run_folds`` for the rest, and for what is raised.
    """
    from jobs.cli.terminal.trial_report import FoldProgress, print_folds
    from jobs.training.ray_folds import run_folds
    from training.fitting.trial import folds_json

    assert config.run_folder is not None
    run = RunFolder(config.run_folder)
    progress = FoldProgress(console, len(plan.folds))
    with run.held(), _how_to_go_on(console, config):
        results = run_folds(
            plan.data,
            plan.folds,
            config,
            address=address,
            verbose=verbose,
            on_fold=progress.on_fold,
            on_reading=progress.on_reading,
        )
        temporary = config.out.with_name(f".{config.out.name}.{os.getpid()}.tmp")
        temporary.write_text(json.dumps(folds_json(results), indent=1) + "\n", "utf-8")
        temporary.replace(config.out)
        run.finish()
    print_folds(Console(), results)


@contextmanager
def _how_to_go_on(console: Console, config: "TrainConfig") -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        without = " without --restart" if config.restart else ""
        console.print(f"The same command{without} goes on after the last epoch that is finished.", highlight=False)
        raise
