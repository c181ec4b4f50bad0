"""The progress of a running training, with hand-made steps."""

import io

import pytest
from rich.console import Console

from jobs.cli.terminal.training_progress import TrainingProgress
from training.fitting.epochs import Step
from training.fitting.watch import Reading


@pytest.mark.parametrize(("stage", "pace"), [("head", "40.0 windows/s"), ("layers", "40.0 clips/s")])
def test_the_pace_is_in_windows_for_the_head_and_in_clips_for_layers(stage: str, pace: str) -> None:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=200)
    with TrainingProgress(console) as progress:
        progress.on_step(Step(stage, 2, 8, 100, 200, 2.5, 0.5, 0.75))
    assert f"loss 0.500, accuracy 0.750, {pace}" in text.getvalue()


def test_skipped_clips_are_counted_for_each_part_when_two_parts_are_read_at_once() -> None:
    text = io.StringIO()
    with TrainingProgress(Console(file=text, width=200)) as progress:
        progress.on_reading(Reading("train", 1, 2, "a.mp4 is not a video"))
        progress.on_reading(Reading("val", 1, 1, None))
        progress.on_reading(Reading("train", 2, 2, None))
    assert text.getvalue().splitlines() == [
        "Skipped: a.mp4 is not a video",
        "Validation clips: 1 read",
        "Training clips: 1 read, 1 skipped",
    ]
