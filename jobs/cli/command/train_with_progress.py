"""The work of ``vtag train``: a dry run, a training, or one training for each fold, with its progress in the terminal.

torch is imported for training only; a dry run does not need it.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress

from jobs.cli.command.endings import keep
from jobs.cli.command.kept_clips import remove_outdated_clips
from jobs.cli.terminal.data_set_report import print_inventory
from jobs.cli.terminal.wording import count, printable
from tagger.errors import DataSetError, doing
from training.data.data_set import DataSet
from training.data.inventory import take_inventory
from training.data.splits import Split
from training.data.training_plan import TrainingPlan
from training.fitting.run_folder import RANDOM, RunFolder

if TYPE_CHECKING:
    from tagger import ModelSource
    from training import TrainConfig, TrainResult

MIN_CALIBRATION_WINDOWS = 50
"""Number of validation windows below which a calibration is reported as rough."""


def inspect_data_set(
    data: DataSet, make_plan: Callable[[DataSet], TrainingPlan], *, start: "ModelSource | None" = None
) -> None:
    """Prints the classes and clips of ``data``, and the split that ``make_plan`` makes of them.

    Prints also how a training would begin with the model ``start``. When ``data`` cannot be split, prints the rest and
    then raises DataSetError.
    """
    problem: DataSetError | None = None
    try:
        plan = make_plan(data)
    except DataSetError as error:
        # The inventory helps to see why the data cannot be split.
        plan, problem = TrainingPlan(data), error
    stderr = Console(stderr=True)
    stderr.quiet = not stderr.is_terminal
    with Progress(console=stderr, transient=True) as bars:
        opened = bars.add_task("Opening videos", total=len({clip.path for clip in data.clips}))
        inventory = take_inventory(data, lambda probed: bars.update(opened, completed=probed))
    print_inventory(Console(), plan, inventory)
    if start is not None:
        print_start(Console(), plan, start)
    if problem:
        raise problem


def print_start(console: Console, plan: TrainingPlan, start: "ModelSource") -> None:
    """Prints which weights of the model ``start`` a training begins with, and whether they make the scores too high."""
    from training.fitting.start import clips_seen_before, keeps_head

    which = "backbone and head" if keeps_head(start, plan.data.labels) else "backbone only; its labels are others"
    name = printable(start.name)
    console.print(
        f"Starting from {name} ({start.info.architecture}): {which}.", highlight=False, markup=False, soft_wrap=True
    )
    splits = [*(fold.split for fold in plan.folds), *([plan.split] if plan.split else [])]
    tested = tuple(clip for split in splits for clip in split.test)
    if seen := clips_seen_before(start, plan.data, tested):
        console.print(
            f"{name} was trained on {len(seen):,} of the {count(len(tested), 'test clip')}: the scores are too high.",
            highlight=False,
            markup=False,
            soft_wrap=True,
            style="yellow",
        )


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
    """Trains the model of ``plan.split`` and prints its scores, next to those of ``plan.leaking`` if there is one.

    ``console`` shows the progress. ``train_with_ray`` describes the other arguments and the errors.
    """
    from jobs.cli.terminal.training_progress import TrainingProgress
    from jobs.cli.terminal.training_report import print_evaluation, print_report_folder
    from jobs.cli.terminal.trial_report import print_leak
    from jobs.training.ray_train import train_with_ray
    from tagger import find_model
    from training.fitting.trial import trial_config
    from training.report.report_folder import prepare_folder, write_evaluation

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

    with run.held(), _resume_hint(console, config), doing("training", config.out):
        if config.cache is not None:
            remove_outdated_clips(config.cache, console)
        result = train(split, config)
        print_evaluation(Console(), result.evaluation, f"{config.out} on {len(split.test)} held-out clips")
        if plan.leaking:
            console.print("\nNow training on the split at random:", highlight=False)
            leaking = train(plan.leaking, trial_config(config, RANDOM))
            print_leak(Console(), leaking.evaluation, result.evaluation)
        with doing("writing the report to", run.report):
            prepare_folder(run.report)
            source = find_model(str(config.out.absolute()))
            write_evaluation(run.report, source, result.evaluation, data=plan.data.root, split="test")
        run.finish()
    console.print(
        f"\nBest epoch {result.best_epoch} of {config.loop.epochs}; temperature {result.temperature:.2f}.",
        highlight=False,
    )
    if result.calibrated_on < MIN_CALIBRATION_WINDOWS:
        more = "more validation clips would help" if plan.given_split else "--val-groups can hold out more"
        console.print(
            f"Calibrated on {count(result.calibrated_on, 'validation window')} only: confidences are rough, and "
            f"ood_score has at most that many steps; {more}.",
            highlight=False,
            style="yellow",
        )
    console.print(f"Metrics and TensorBoard logs: {config.run_folder}", highlight=False, soft_wrap=True, markup=False)
    print_report_folder(console, run.report)
    console.print(
        f"Next: vtag run YOUR_FOLDER --model {config.out} --out tags.parquet", highlight=False, soft_wrap=True
    )


def train_folds(
    plan: TrainingPlan, config: "TrainConfig", console: Console, *, address: str | None = None, verbose: bool = False
) -> None:
    """Trains a model for each of ``plan.folds``, prints the scores and writes them to ``config.out`` as JSON.

    ``console`` shows the progress. ``run_folds`` describes the other arguments and the errors.
    """
    from jobs.cli.terminal.training_report import print_report_folder
    from jobs.cli.terminal.trial_report import FoldProgress, print_folds
    from jobs.training.ray_folds import run_folds
    from training.fitting.trial import folds_json
    from training.report.report_folder import prepare_folder, write_folds

    assert config.run_folder is not None
    run = RunFolder(config.run_folder)
    progress = FoldProgress(console, len(plan.folds))
    with run.held(), _resume_hint(console, config), doing("training the folds for", config.out):
        if config.cache is not None:
            remove_outdated_clips(config.cache, console)
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
        with doing("writing the report to", run.report):
            prepare_folder(run.report)
            write_folds(
                run.report,
                results,
                data=plan.data.root,
                sampling=config.sampling,
                preprocessing=config.preprocessing,
            )
        run.finish()
    print_folds(Console(), results)
    print_report_folder(console, run.report)


@contextmanager
def _resume_hint(console: Console, config: "TrainConfig") -> Iterator[None]:
    """Says how to continue the training when it is interrupted or stopped by an unexpected error."""
    without = " without --restart" if config.restart else ""
    keep(f"finished epochs are kept, and the same command{without} continues", config.run_folder)
    try:
        yield
    except KeyboardInterrupt:
        console.print(f"The same command{without} continues after the last finished epoch.", highlight=False)
        raise
