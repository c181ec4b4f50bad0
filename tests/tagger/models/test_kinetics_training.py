"""``i3d-lstm`` on the command line, from the download of its weights to the rows of a result."""

import re
from pathlib import Path

import duckdb
import pytest

from jobs.cli import main
from tests.click_runner import CliRunner
from tests.tagger.models.weights_server import WeightsServer
from tests.training.trees import ucf101_tree
from training.fitting.run_folder import read_metrics


def vtag(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    return result.exit_code, " ".join(result.output.split())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kinetics_weights_are_downloaded_and_fine_tuned_and_the_model_tags(
    mirror: WeightsServer, kinetics_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree, out = ucf101_tree(tmp_path / "clips", groups=3), tmp_path / "mine.safetensors"
    # As in the README, with the fewest epochs, and with short views: a quarter of the arithmetic.
    training = ("train", tree, "--model", "i3d-lstm", "--head-epochs", 1, "--epochs", 1, "--batch-size", 2)
    training += ("--train-frames", 4)

    with monkeypatch.context() as patch:
        # The errors come before Ray is started.
        patch.setattr("jobs.training.ray_train.run_on_ray", None)
        patch.setattr("jobs.training.ray_folds.run_on_ray", None)
        # Offline: one line that names the remedy.
        mirror.statuses = [503] * 3
        code, output = vtag(*training, "--out", out)
        assert code == 1 and "--weights FILE" in output
        # The server sends a web page instead of the weights.
        mirror.body = b"<!DOCTYPE html><title>Please log in</title>"
        for more in (("--out", out), ("--split", "logo", "--out", tmp_path / "folds.json")):
            code, output = vtag(*training, *more)
            assert code == 1 and "is not the Kinetics-400 weights" in output
    # The connection breaks half way; then only the rest is downloaded.
    mirror.body = kinetics_checkpoint.read_bytes()
    mirror.breaks_after = [len(mirror.body) // 2]
    mirror.requested_ranges.clear()
    code, output = vtag(*training, "--out", out)
    assert code == 0, output
    assert mirror.requested_ranges == [None, f"bytes={len(mirror.body) // 2}-"]
    assert [(epoch.stage, epoch.number) for epoch in read_metrics(tmp_path / "mine.run")] == [
        ("head", 1),
        ("layers", 1),
    ]
    assert f"Report: {tmp_path / 'mine.run' / 'report' / 'report.html'}" in output
    assert (tmp_path / "mine.run" / "report" / "curves.png").is_file()
    (accuracy,) = re.findall(r"Accuracy: \S+ of videos, \S+ of windows", output)

    code, output = vtag("evaluate", out, tree)
    assert code == 0 and accuracy in output, output

    clip = next(tree.rglob("*.mp4"))
    # One actor has all cores. Its threads would spin while they wait for each other.
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    code, output = vtag("run", clip, "--model", out, "--out", tmp_path / "tags.parquet", "--actors", 1)
    assert code == 0, output
    rows = duckdb.sql(f"SELECT DISTINCT label, ood_score >= 0 FROM '{tmp_path / 'tags.parquet'}'").fetchall()
    assert rows and {label for label, _ in rows} <= {"Across", "Down"} and all(is_scored for _, is_scored in rows)
