"""``vtag evaluate``: scores a model on labelled clips."""

import json
import os
from pathlib import Path
from typing import Literal

import click

from jobs.cli.command.options import cache_options, device_option, examples, precision_option, verbose_option


@click.command(
    short_help="Score a model on labelled clips.",
    epilog=examples(
        "vtag evaluate model.safetensors /clips",
        "vtag evaluate model.safetensors /clips --out report",
        "vtag evaluate model.safetensors /other-clips --split all --json scores.json",
    ),
)
@click.argument("model")
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--split",
    type=click.Choice(["test", "val", "all"]),
    default="test",
    show_default=True,
    help="Clips to score; test, val: the groups that the model file records as held out; all: every clip in DATA.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Also write report.html, metrics.json and plots to this folder.",
)
@click.option(
    "--json",
    "json_path",
    metavar="FILE",
    help="Also write the scores as JSON to this file; -: print the JSON alone, on standard output.",
)
@cache_options
@device_option
@precision_option("Number format of the model; auto: bf16 if the hardware supports it, else fp32.")
@verbose_option
def evaluate(
    model: str,
    data: Path,
    split: str,
    out: Path | None,
    json_path: str | None,
    cache: Path | None,
    cache_size: float,
    device: Literal["auto", "cpu", "cuda"],
    precision: Literal["auto", "fp32", "bf16", "fp16"],
    verbose: bool,
) -> None:
    """Score MODEL (a name or a model file) on the labelled clips in DATA, by video and by window, for each class.

    DATA may have clips of classes that MODEL does not know. They are scored apart: how well MODEL tells them from clips
    of the classes that it knows. DATA is what `vtag train` takes.
    """
    from jobs.cluster.cpu_environment import cpu_environment

    # Before PyTorch is imported.
    os.environ.update(cpu_environment())

    from rich.console import Console

    from jobs.cli.command.kept_clips import open_cache
    from jobs.cli.terminal.training_progress import TrainingProgress
    from jobs.cli.terminal.training_report import print_evaluation, print_report_folder
    from jobs.cluster.memory import keep_freed_memory
    from tagger import load_model
    from tagger.errors import doing
    from training import clips_of_split, evaluate_clips, read_data_set, unknown_clips
    from training.fitting.config import check_out
    from training.fitting.watch import clip_counter
    from training.report.report_folder import evaluation_metrics, prepare_folder, write_evaluation

    if out is not None:
        prepare_folder(out)
    if json_path is not None and json_path != "-":
        check_out(Path(json_path))
    keep_freed_memory()
    tagger = load_model(model, device=device, precision=precision)
    with doing("reading the clips of", data):
        data_set = read_data_set(data)
    known = clips_of_split(tagger, data_set, split)
    clips = [*known, *unknown_clips(tagger, data_set)]
    console = Console(quiet=json_path == "-")
    kept = open_cache(cache, cache_size, console)
    with TrainingProgress(console) as progress:
        on_clip = clip_counter("test", len(clips), on_reading=progress.on_reading)
        with doing("scoring the model", model):
            evaluation = evaluate_clips(tagger, clips, on_clip=on_clip, cache=kept)
    print_evaluation(console, evaluation, f"{tagger.source.name} on {len(known)} clips ({split})")
    if out is not None:
        with doing("writing the report to", out):
            write_evaluation(out, tagger.source, evaluation, data=data, split=split)
        print_report_folder(console, out)
    text = json.dumps(evaluation_metrics(tagger.source, evaluation, split), indent=1)
    if json_path == "-":
        click.echo(text)
    elif json_path:
        Path(json_path).write_text(text + "\n", "utf-8")
