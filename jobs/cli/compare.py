"""``vtag compare``: scores several models on the same clips, and tests whether a difference could be chance."""

import json
import os
from pathlib import Path
from typing import Literal

import click

from jobs.cli.command.options import (
    cache_options,
    device_option,
    examples,
    json_option,
    precision_option,
    verbose_option,
)


@click.command(
    short_help="Compare models on the same labelled clips.",
    epilog=examples(
        "vtag compare first.safetensors second.safetensors /clips",
        "vtag compare first.safetensors second.safetensors /clips --out report",
    ),
)
@click.argument("models", metavar="MODEL MODEL...", nargs=-1, required=True)
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--split",
    type=click.Choice(["test", "val", "all"]),
    default="test",
    show_default=True,
    help="Clips to score; test, val: those that every model file records as held out for it; all: every clip in DATA.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Also write report.html, metrics.json and the confusion matrices to this folder.",
)
@json_option("Print the scores and costs as JSON instead of tables.")
@cache_options
@device_option
@precision_option("Number format of the models; auto: bf16 if the hardware supports it, else fp32.")
@verbose_option
def compare(
    models: tuple[str, ...],
    data: Path,
    split: str,
    out: Path | None,
    as_json: bool,
    cache: Path | None,
    cache_size: float,
    device: Literal["auto", "cpu", "cuda"],
    precision: Literal["auto", "fp32", "bf16", "fp16"],
    verbose: bool,
) -> None:
    """Compare two or more MODELs (names or model files) on labelled clips in DATA that none of them was trained on.

    Prints a table of the scores by video and the costs of each model, and McNemar's test for each pair of models. All
    models must know the same classes. DATA is what `vtag train` takes.
    """
    from jobs.cluster.cpu_environment import cpu_environment

    # Before PyTorch is imported.
    os.environ.update(cpu_environment())

    from rich.console import Console

    from jobs.cli.command.kept_clips import open_cache
    from jobs.cli.terminal.training_progress import TrainingProgress
    from jobs.cli.terminal.training_report import print_comparison, print_report_folder
    from jobs.cli.terminal.wording import printable
    from jobs.cluster.memory import keep_freed_memory
    from tagger import load_model
    from tagger.errors import doing
    from training import read_data_set
    from training.evaluation.compare import Contender, check_labels, clips_of_none, compare_contenders, judge_together
    from training.evaluation.cost import measure_costs
    from training.evaluation.evaluate import classify_clips
    from training.fitting.watch import clip_counter
    from training.report.report_folder import comparison_metrics, prepare_folder, write_comparison

    if len(models) < 2:
        raise click.UsageError("give at least two models, then DATA.")
    if len(set(models)) < len(models):
        raise click.UsageError("the same model is given twice.")
    if out is not None:
        prepare_folder(out)
    keep_freed_memory()
    taggers = [load_model(model, device=device, precision=precision) for model in models]
    stems = [tagger.source.name for tagger in taggers]
    names = stems if len(set(stems)) == len(stems) else list(models)
    check_labels(list(zip(names, (tagger.labels for tagger in taggers), strict=True)))
    with doing("reading the clips of", data):
        data_set = read_data_set(data)
    clips = clips_of_none(taggers, data_set, split)
    console = Console(quiet=as_json)
    kept = open_cache(cache, cache_size, console)
    if other := sorted(set(data_set.labels).difference(taggers[0].labels)):
        left_out = printable(", ".join(other))
        console.print(f"Left out, because the models do not know them: {left_out}.", markup=False, highlight=False)
    costs, predictions = measure_costs(taggers), []
    for name, tagger in zip(names, taggers, strict=True):
        console.print(name, highlight=False, markup=False)
        with TrainingProgress(console) as progress:
            counter = clip_counter("test", len(clips), on_reading=progress.on_reading)
            with doing("scoring the model", name):
                predictions.append(classify_clips(tagger, clips, on_clip=counter, cache=kept))
    evaluations = judge_together(predictions)
    comparison = compare_contenders(
        [Contender(name, evaluation, cost) for name, evaluation, cost in zip(names, evaluations, costs, strict=True)]
    )
    print_comparison(console, comparison, f"{evaluations[0].videos.examples} clips ({split}), by video")
    if out is not None:
        with doing("writing the report to", out):
            write_comparison(out, comparison, data=data, split=split)
        print_report_folder(console, out)
    if as_json:
        click.echo(json.dumps(comparison_metrics(comparison, split), indent=1))
