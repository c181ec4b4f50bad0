"""`vtag train` and `vtag evaluate`, as a person types them."""

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from jobs.cli import main
from jobs.cli.train import parse_groups
from tests.training.trees import ucf101_tree


def vtag(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], terminal_width=120)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ucf101_tree(tmp_path_factory.mktemp("ucf101"), groups=5)


def test_train_prints_the_split_each_epoch_and_scores_that_evaluate_prints_again(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.safetensors"
    trained = vtag(
        *("train", tree, "--model", "cnn3d-lstm", "--out", out),
        *("--epochs", 2, "--batch-size", 4, "--val-groups", "04", "--test-groups", "05"),
    )
    assert trained.exit_code == 0, trained.output
    assert "10 clips of 2 classes" in trained.output
    assert "6 training, 2 validation, 2 test clips" in trained.output
    assert "Epoch 1/2" in trained.output and "Epoch 2/2" in trained.output
    assert f"vtag run YOUR_FOLDER --model {out}" in trained.output

    evaluated = vtag("evaluate", out, tree, "--json", tmp_path / "scores.json")
    assert evaluated.exit_code == 0, evaluated.output
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["split"] == "test" and scores["videos"]["examples"] == 2
    accuracy = f"Accuracy: {scores['videos']['accuracy']:.3f} of videos"
    assert accuracy in evaluated.output and accuracy in trained.output

    alone = vtag("evaluate", out, tree, "--split", "all", "--json", "-")
    assert json.loads(alone.output)["videos"]["examples"] == 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--test-groups", "9"), "there are no groups 9"),
        (("--model", "cnn3d-lstm", "--freeze-backbone"), "starts from scratch"),
        (("--out", "/nowhere/at/all.safetensors"), "the folder /nowhere/at does not exist"),
    ],
)
def test_what_cannot_be_trained_ends_with_one_line(
    tree: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = vtag("train", tree, "--out", tmp_path / "m.safetensors", *arguments, "-q")
    assert result.exit_code == 1
    assert message in result.output and len(result.output.splitlines()) == 1


def test_evaluating_classes_that_the_model_does_not_know_is_refused(tree: Path) -> None:
    result = vtag("evaluate", "ucf20", tree)
    assert result.exit_code == 1
    assert "classes that the model does not know: Across, Down" in result.output


@pytest.mark.parametrize(
    ("text", "groups"),
    [("17", ("17",)), ("17,19", ("17", "19")), ("08-10", ("08", "09", "10")), ("home, park", ("home", "park"))],
)
def test_groups_are_listed_or_given_as_a_range(text: str, groups: tuple[str, ...]) -> None:
    assert parse_groups(text) == groups


@pytest.mark.parametrize("text", ["", ",", "9-7"])
def test_groups_that_name_nothing_are_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        parse_groups(text)
