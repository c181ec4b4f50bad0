"""The whole way from an archive to a taught label: each command takes what the one before it has written or printed."""

import csv
import io
import shlex
from pathlib import Path

import pytest
import torch

from jobs.cli import main
from tagger import ModelInfo, Preprocessing, Sampling, save_model_file
from tagger.model_file import EmbeddingSpace
from tagger.models.embeddings.embedder import Embedder
from tagger.models.registry import build_network
from tests.click_runner import CliRunner
from tests.jobs.tagging.driver_in_this_process import DriverInThisProcess
from tests.training.trees import CLASSES, write_square

LOOKS = CLASSES | {"Rowing": ((-3, -3), (60, 230, 60))}
"""Movement and colour of the square of each class. No model here knows Rowing before it is taught."""

VIDEOS = 8
"""Videos of each class, with one segment each."""


def vtag(*arguments: object) -> str:
    """Runs a command that has to succeed, and returns what it prints."""
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def next_command(printed: str, heading: str) -> list[str]:
    """Returns the arguments of the command that vtag has printed under ``heading``."""
    (line,) = (line for line in printed.splitlines() if line.startswith(f"{heading}:"))
    program, *arguments = shlex.split(line.split(":", 1)[1])
    assert program == "vtag"
    return arguments


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def write_video(folder: Path, label: str, number: int) -> Path:
    return write_square(folder / f"{label}-{number}.mp4", *LOOKS[label], seed=number, frames=64)


def class_of(video: str) -> str:
    """What a person sees in a video."""
    return Path(video).name.split("-")[0]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The file of a model with a random network, which knows the labels of CLASSES by name only."""
    torch.manual_seed(0)
    options = {"filters": [8, 8, 8], "head": "mean"}
    network = build_network("cnn3d-lstm", len(CLASSES), options)
    channels = network.head.dense.weight.shape[1]
    network.embedder = Embedder.fit(torch.rand(50, channels), channels + 1)
    space = EmbeddingSpace(channels + 1, channels, "tiny")
    preprocessing = Preprocessing(32, 32)
    info = ModelInfo("cnn3d-lstm", tuple(CLASSES), Sampling(), preprocessing, options=options, embedding=space)
    save_model_file(tmp_path / "old.safetensors", info, network.state_dict())
    return tmp_path / "old.safetensors"


def test_a_new_label_is_found_by_example_marked_taught_and_kept_by_the_next_run(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.cluster.ray_driver.RayDriver", DriverInThisProcess)
    monkeypatch.setattr(DriverInThisProcess, "read", [])
    monkeypatch.chdir(tmp_path)
    for label in LOOKS:
        for number in range(VIDEOS):
            write_video(tmp_path / "archive", label, number)

    vtag("run", "archive", "--out", "tags.parquet", "--embeddings", "--model", model)
    before = rows_of(vtag("events", "tags.parquet", "--csv"))
    assert len(before) == len(LOOKS) * VIDEOS and {row["label"] for row in before} <= set(CLASSES)

    # Ten moments like one of a video: some of them show something else. A person corrects the list.
    example = tmp_path / "archive" / "Rowing-0.mp4"
    found = rows_of(
        vtag("search", "tags.parquet", "--like", f"{example}@1", "--top", "10", "--mark", "Rowing", "--csv")
    )
    shows = [class_of(row["video"]) == "Rowing" for row in found]
    assert len(found) == 10 and 2 <= sum(shows) < 10
    for row, is_right in zip(found, shows, strict=True):
        row["label"] = row["label"] if is_right else f"not {row['label']}"
    # Some more moments, about which the model is least certain.
    unsure = rows_of(vtag("uncertain", "tags.parquet", "--top", "6", "--csv"))
    for row in unsure:
        row["label"] = class_of(row["video"])
    for name, rows in (("found.csv", found), ("unsure.csv", unsure)):
        with Path(name).open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)

    taught = vtag("teach", "tags.parquet", "found.csv", "unsure.csv", "--model", model, "--out", "mine.safetensors")
    relabelled = vtag(*next_command(taught, "The archive again"))
    events = next_command(relabelled, "Its events")

    def videos_with_rowing() -> set[str]:
        return {Path(row["video"]).name for row in rows_of(vtag(*events, "--label", "rowing", "--csv"))}

    marked = {Path(row["video"]).name for row in [*found, *unsure]}
    unmarked = {f"Rowing-{number}.mp4" for number in range(VIDEOS)} - marked
    assert unmarked, "some videos of the new label have no mark"
    assert unmarked <= videos_with_rowing()

    # The next run goes on with the new labels.
    DriverInThisProcess.read.clear()
    for label in LOOKS:
        write_video(tmp_path / "archive", label, VIDEOS)
    vtag(*("archive" if word == "VIDEOS" else word for word in next_command(relabelled, "New videos")))
    assert sorted(DriverInThisProcess.read) == sorted(f"{label}-{VIDEOS}.mp4" for label in LOOKS)
    new = {name for name in videos_with_rowing() if name.endswith(f"-{VIDEOS}.mp4")}
    assert new == {f"Rowing-{VIDEOS}.mp4"}
