"""``vtag train``: trains a model on labelled clips and writes a model file."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
from click.core import ParameterSource

from jobs.cli.command.options import examples, refuse_unused, verbose_option
from jobs.cli.command.train_options import hardware_options, network_options, optimizer_options, split_options

if TYPE_CHECKING:
    from tagger import ModelSource
    from training.data.data_set import DataSet
    from training.data.training_plan import SplitName


def _check_usage(ctx: click.Context) -> None:
    """Raises UsageError when options are missing, contradict each other or would change nothing."""
    given = ctx.params
    out, split, device, gpus = given["out"], given["split"], given["device"], given["gpus"]
    if given["freeze_backbone"] and given["train_layers"]:
        raise click.UsageError("--freeze-backbone and --train-layers contradict each other; give one of them.")
    if (split == "logo" or isinstance(split, Path)) and (given["val_groups"] or given["test_groups"]):
        raise click.UsageError("--val-groups and --test-groups are for --split holdout and random.")
    if out is not None and not out.name:
        raise click.UsageError("--out is empty; give the path of a file.")
    if out is None and not given["dry_run"]:
        raise click.UsageError("Missing option '--out'.")
    if out and split == "logo" and out.suffix != ".json":
        raise click.UsageError("--split logo makes no model, only scores; --out must end in .json, such as folds.json.")
    if device == "cpu" and gpus:
        raise click.UsageError("--device cpu and --gpus contradict each other; give one of them.")
    if device == "cuda" and gpus == 0:
        raise click.UsageError("--device cuda and --gpus 0 contradict each other; give one of them.")
    is_scratch = given["model"] == "cnn3d-lstm" and given["start"] is None
    refuse_unused(
        ctx, is_scratch, ("pretrained_rate", "head_epochs", "decay_to_start"), "cnn3d-lstm starts from scratch"
    )
    is_frozen = given["freeze_backbone"] or given["train_layers"] == 0
    refuse_unused(
        ctx,
        is_frozen,
        ("pretrained_rate", "head_epochs", "train_frames", "decay_to_start"),
        "the head alone is trained, for --epochs",
    )
    refuse_unused(
        ctx,
        given["optimizer"] == "lbfgs",
        ("batch_size", "learning_rate", "ema", "patience"),
        "--optimizer lbfgs takes all windows at once",
    )
    refuse_unused(ctx, given["weight_decay"] == 0, ("decay_to_start",), "--weight-decay 0 decays nothing")
    fixed = ("head", "input", "size", "view", "weights")
    refuse_unused(ctx, given["start"] is not None, fixed, "the model file of --from fixes it")
    refuse_unused(ctx, split == "logo", ("workers", "gpus"), "each fold of --split logo is trained by one worker")
    refuse_unused(ctx, given["cache_size"] == 0, ("cache",), "--cache-size 0 keeps nothing")


def _find_start(ctx: click.Context, start: str) -> "ModelSource":
    """Finds the model of ``--from``. Raises UsageError when ``--model`` is another network, or as ``find_model``."""
    from tagger import find_model
    from tagger.models.registry import ARCHITECTURES

    if start in ARCHITECTURES:
        raise click.UsageError(f"--from {start}: name a model file, or actions38; --model names a network.")
    source = find_model(start)
    model, found = ctx.params["model"], source.info.architecture
    if ctx.get_parameter_source("model") is ParameterSource.COMMANDLINE and model != found:
        raise click.UsageError(
            f"--model {model} and --from {start} contradict each other: the file is a model of {found}; leave out "
            "--model."
        )
    return source


@click.command(
    short_help="Train a model on your own labelled clips.",
    epilog=examples(
        "vtag train /clips --dry-run",
        "vtag train /clips --freeze-backbone --out model.safetensors",
        "vtag train /clips --model i3d-lstm --train-layers 2 --out model.safetensors",
        "vtag train clips.csv --out model.safetensors --seed 1",
        "vtag train /more-clips --from model.safetensors --out better.safetensors",
        "vtag train /ucf11 --model cnn3d-lstm --split logo --out folds.json",
        "vtag train /ucf11 --model cnn3d-lstm --input frames --out model.safetensors",
    ),
)
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@network_options
@optimizer_options
@split_options
@hardware_options
@click.option(
    "--run-folder",
    type=click.Path(file_okay=False, path_type=Path),
    show_default="OUT with the ending .run",
    help="Folder for settings, metrics.jsonl, TensorBoard logs, checkpoints and the report. The same command continues "
    "an interrupted training from it.",
)
@click.option("--restart", is_flag=True, help="Start anew instead of continuing an unfinished training.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Train nothing; print the classes, clips, groups, hours, unreadable clips and the split of DATA.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print only the scores.")
@verbose_option
@click.pass_context
def train(
    ctx: click.Context,
    data: Path,
    model: str,
    start: str | None,
    out: Path | None,
    weights: Path | None,
    freeze_backbone: bool,
    train_layers: int | None,
    train_frames: int | None,
    head_epochs: int,
    cache: Path | None,
    cache_size: float,
    head: Literal["lstm", "lstm-last", "mean"],
    input: Literal["frames", "differences"] | None,
    size: int | None,
    view: Literal["whole", "centre", "three"] | None,
    epochs: int,
    optimizer: Literal["adamw", "lbfgs"],
    batch_size: int,
    learning_rate: float,
    pretrained_rate: float,
    weight_decay: float,
    decay_to_start: bool,
    ema: float | None,
    patience: int,
    class_weights: Literal["balanced", "none"],
    precision: Literal["auto", "fp32", "bf16", "fp16"],
    split: "SplitName | Path | None",
    val_groups: tuple[str, ...] | None,
    test_groups: tuple[str, ...] | None,
    leave_out: tuple[str, ...],
    background: Path | None,
    seed: int,
    device: Literal["auto", "cpu", "cuda"],
    workers: int | None,
    gpus: int | None,
    address: str | None,
    run_folder: Path | None,
    restart: bool,
    dry_run: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Train a model on the clips in DATA and write it to a model file for `vtag run --model`.

    DATA has one folder of clips for each class: CLASS/CLIP.mp4, CLASS/GROUP/CLIP.mp4, or UCF-11, UCF-50 and UCF-101 as
    they are distributed. Folders train, val and test above the class folders split the clips. DATA can also be a
    manifest: a CSV or Parquet file with the columns path and label, and optionally group, split (train, val or test),
    start_s and end_s.

    The clips are split into training, validation and test; clips of one group stay together. The best epoch is chosen
    on the validation clips. The printed scores are those on the test clips.
    """
    from rich.console import Console

    from jobs.cli.command.train_with_progress import inspect_data_set, print_start, train_folds, train_model
    from jobs.cli.terminal.data_set_report import print_data_set
    from tagger.errors import doing
    from training.data.training_plan import plan_training, read_labelled

    _check_usage(ctx)
    source = None if start is None else _find_start(ctx, start)

    def read() -> "DataSet":
        with doing("reading the clips of", data):
            return read_labelled(data, without=leave_out, background=background)

    make_plan = partial(plan_training, split=split, seed=seed, val_groups=val_groups, test_groups=test_groups)
    if out is None or dry_run:
        inspect_data_set(read(), make_plan, start=source)
        return

    from training.fitting.config import TrainConfig, check
    from training.fitting.loop import LoopSettings

    config = TrainConfig(
        model=model if source is None else source.info.architecture,
        out=out,
        weights=weights,
        start=source,
        train_layers=0 if freeze_backbone else train_layers,
        train_frames=train_frames,
        head_epochs=head_epochs,
        cache=cache,
        cache_bytes=round(cache_size * 10**9),
        head=head,
        input=input,
        size=size,
        view=view,
        loop=LoopSettings(
            epochs=epochs,
            optimizer=optimizer,
            batch_size=batch_size,
            learning_rate=learning_rate,
            pretrained_rate=pretrained_rate,
            weight_decay=weight_decay,
            decay_to_start=decay_to_start,
            ema=ema,
            patience=patience,
            class_weights=class_weights,
            seed=seed,
        ),
        device=device,
        precision=precision,
        run_folder=run_folder or out.with_suffix(".folds.run" if split == "logo" else ".run"),
        restart=restart,
    )
    # The check comes before DATA is read, which takes minutes when DATA is large.
    check(config)
    console = Console(quiet=quiet)
    plan = make_plan(read())
    print_data_set(console, plan)
    if source is not None:
        print_start(console, plan, source)
    if plan.folds:
        train_folds(plan, config, console, address=address, verbose=verbose)
    else:
        train_model(plan, config, console, workers=workers, gpus=gpus, address=address, verbose=verbose)
