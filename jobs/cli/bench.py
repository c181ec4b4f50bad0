"""``vtag bench``: measures the speed of this machine and the share of it that the pipeline reaches."""

import json
import tempfile
from pathlib import Path
from typing import Literal

import click

from jobs.cli.command.options import (
    COUNT,
    Duration,
    device_option,
    examples,
    finite,
    json_option,
    model_options,
    precision_option,
    verbose_option,
)


@click.command(
    short_help="Measure how fast this machine decodes and classifies.",
    epilog=examples(
        "vtag bench",
        "vtag bench /videos/one.mp4 --model i3d-kinetics400",
        "vtag bench /videos --every 10s",
        "vtag bench /videos --seconds 2 --rounds 1 --json",
    ),
)
@click.argument("inputs", metavar="[VIDEO]...", nargs=-1)
@model_options
@click.option(
    "--every",
    "every_s",
    metavar="TIME",
    type=Duration(),
    help="Time from one window to the next, as in `vtag run`: 10s, 500ms or 2min; by default there are no pauses.",
)
@click.option(
    "--seconds",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    callback=finite,
    default=5.0,
    show_default=True,
    help="Seconds to measure each part; the whole pipeline takes about four times as long.",
)
@click.option(
    "--rounds",
    metavar="N",
    type=COUNT,
    default=3,
    show_default=True,
    help="How often to measure the whole pipeline, in turns with its parts.",
)
@device_option
@precision_option("Number format of the model; auto: fp32 and the format that `vtag run` chooses.")
@json_option("Print the figures as JSON instead of text.")
@verbose_option
def bench(
    inputs: tuple[str, ...],
    model: str,
    weights: Path | None,
    frames: int | None,
    every_s: float | None,
    seconds: float,
    rounds: int,
    device: Literal["auto", "cpu", "cuda"],
    precision: Literal["auto", "fp32", "bf16", "fp16"],
    as_json: bool,
    verbose: bool,
) -> None:
    """Measure the speed of decoding, of the model, of the transport between them and of the whole pipeline.

    The efficiency is the speed of the pipeline divided by the speed that its parts allow: the median of several rounds.
    VIDEO is a local video or a folder; vtag uses the first 32 videos. Without VIDEO, it makes a sample video: one
    minute of 320×240 H.264. Run this on an otherwise idle machine.
    """
    from rich.console import Console

    from jobs.archive.listing import find_videos
    from jobs.cli.terminal.bench_report import print_bench
    from jobs.measure.bench import bench as measure
    from jobs.measure.sample_video import make_sample
    from tagger import find_model

    source = find_model(model, weights, frames=frames)
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
                hop_s=every_s,
                verbose=verbose,
                on_part=lambda part: status.update(f"Measuring {part}"),
            )
    if as_json:
        click.echo(json.dumps(measured.to_json(), indent=1))
    else:
        print_bench(measured, Console())
