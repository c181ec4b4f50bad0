"""``vtag bench``: how fast this machine is, and how close vtag comes to it."""

import json
import tempfile
from pathlib import Path
from typing import Literal

import click

from jobs.cli.command.options import device_option, json_option, model_options, precision_option, verbose_option


@click.command(short_help="Measure how fast this machine decodes and classifies.")
@click.argument("inputs", metavar="[VIDEO]...", nargs=-1)
@model_options
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    help="How long each figure is measured, the pipeline about four times as long.",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="How often the whole pipeline is measured, in turns with its parts.",
)
@device_option
@precision_option("What the model computes in; auto measures fp32, and what `vtag run` chooses.")
@json_option("Print JSON.")
@verbose_option
def bench(
    inputs: tuple[str, ...],
    model: str,
    weights: Path | None,
    seconds: float,
    rounds: int,
    device: Literal["auto", "cpu", "cuda"],
    precision: Literal["auto", "fp32", "bf16", "fp16"],
    as_json: bool,
    verbose: bool,
) -> None:
    """Measure decoding, the model and the transport between them, and in turns with them the whole pipeline.

    The efficiency is what the pipeline achieves over what its parts allow, the median of several rounds. VIDEO is a
    local video or a folder, of which the first 32 are taken; without one a minute of 320×240 H.264 is made up. The
    machine should be idle otherwise.

    \b
    vtag bench
    vtag bench /videos/one.mp4 --model i3d-kinetics400
    """
    from rich.console import Console

    from jobs.archive.listing import find_videos
    from jobs.cli.terminal.bench_report import print_bench
    from jobs.measure.bench import bench as measure
    from jobs.measure.sample_video import make_sample
    from tagger import find_model

    source = find_model(model, weights)
    with tempfile.TemporaryDirectory(prefix="vtag-bench-") as folder:
        paths = inputs or (str(make_sample(Path(folder) / "sample.mp4")),)
        with Console(stderr=True, quiet=as_json).status("Measuring") as status:
            measured = measure(
                list(find_videos(paths)),
                source,
                device=device,
                precision=precision,
                seconds=seconds,
                rounds=rounds,
                verbose=verbose,
                on_part=lambda part: status.update(f"Measuring {part}"),
            )
    if as_json:
        click.echo(json.dumps(measured.to_json(), indent=1))
    else:
        print_bench(measured, Console())
