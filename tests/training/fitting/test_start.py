"""A training starts from a model file: with its network and windows, and with its weights."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from jobs.cli.command.train_with_progress import print_start
from tagger import (
    ModelFileError,
    ModelInfo,
    OutputError,
    Preprocessing,
    Sampling,
    find_model,
    load_model,
    read_model_info,
    save_model_file,
)
from tagger.model_file import read_weights
from tagger.models.i3d_lite import SamePadConv3d
from tagger.models.registry import build_network
from tagger.preprocessing import View
from tests.training.trees import ucf101_tree
from training import LoopSettings, Split, TrainConfig, evaluate_clips, read_data_set, split_by_group, train
from training.data.training_plan import TrainingPlan
from training.fitting.config import check
from training.fitting.recipe import open_run, starting_network

LABELS = ("Across", "Down")
SMALL = Sampling(num_frames=8, sampling_rate=2)

OPTIONS = {
    "cnn3d-lstm": {"filters": [4, 4, 8], "hidden": 8, "differences": True},
    "i3d-lite-lstm": {"changes": True, "order": True, "hidden": 8},
    "i3d-lstm": {"hidden": 8},
}
TRAIN_LAYERS = {"cnn3d-lstm": None, "i3d-lite-lstm": 1, "i3d-lstm": 0}

UNMOVED = LoopSettings(epochs=1, batch_size=4, learning_rate=1e-12, seed=5)
"""At this learning rate the weights stay as they are."""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ucf101_tree(tmp_path_factory.mktemp("ucf101"), groups=4)


def model_file(
    path: Path,
    architecture: str,
    labels: tuple[str, ...] = LABELS,
    seed: int = 0,
    view: View = "centre",
    **training: object,
) -> Path:
    """Writes a model file with random weights, for small windows of 64×64 pixels."""
    torch.manual_seed(seed)
    options = OPTIONS[architecture]
    network = build_network(architecture, len(labels), options)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, SamePadConv3d) and module.groups > 1:
                # As after a training: multiples of one kernel.
                module.weight[:, :, 0] = module.weight[:, :, 1] / 2
                module.weight[:, :, 2] = module.weight[:, :, 1] / -4
        # Norms that fit the activations, which otherwise fade from layer to layer.
        for module in network.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.momentum = 1.0
        network.get_submodule("backbone").train()(torch.randn(2, 3, 8, 64, 64))
        # Larger weights, so that the logits differ from clip to clip.
        network.get_parameter("head.dense.weight").mul_(20)
    info = ModelInfo(architecture, labels, SMALL, Preprocessing(64, 72, view=view), options=options, training=training)
    weights = {name: w.half().float() if w.is_floating_point() else w for name, w in network.state_dict().items()}
    save_model_file(path, info, weights)
    return path


def config_from(file: Path, out: Path, **more: object) -> TrainConfig:
    start = find_model(str(file))
    return TrainConfig(start.info.architecture, out, start=start, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("architecture", "view"),
    [
        ("cnn3d-lstm", "centre"),
        ("cnn3d-lstm", "three"),
        ("i3d-lite-lstm", "whole"),
        pytest.param("i3d-lite-lstm", "three", marks=pytest.mark.slow),
        pytest.param("i3d-lstm", "centre", marks=pytest.mark.slow),
    ],
)
def test_a_training_begins_with_the_logits_of_the_file_that_it_starts_from(
    tree: Path, tmp_path: Path, architecture: str, view: View
) -> None:
    file = model_file(tmp_path / "first.safetensors", architecture, view=view)
    data = read_data_set(tree)
    split = split_by_group(data)
    layers = TRAIN_LAYERS[architecture]
    config = config_from(
        *(file, tmp_path / "second.safetensors"), loop=UNMOVED, head_epochs=1, train_layers=layers, precision="fp32"
    )
    trained = train(data, split, config)
    started = evaluate_clips(load_model(str(file), precision="fp32"), split.test)
    expected = started.predictions.logits
    assert np.abs(expected[0] - expected[1]).max() > 0.01
    assert np.allclose(trained.evaluation.predictions.logits, expected, atol=2e-3)
    assert trained.evaluation.videos.accuracy == started.videos.accuracy
    info, first = read_model_info(trained.out), read_model_info(file)
    assert (info.options, info.sampling, info.preprocessing) == (first.options, first.sampling, first.preprocessing)
    assert info.training["from"] == {
        "model": "first",
        "sha256": find_model(str(file)).hash,
        "weights": "backbone and head",
    }


def test_with_other_labels_a_training_begins_with_the_backbone_of_the_file(tree: Path, tmp_path: Path) -> None:
    file = model_file(tmp_path / "first.safetensors", "cnn3d-lstm", ("Across", "Up"))
    data = read_data_set(tree)
    config = config_from(file, tmp_path / "second.safetensors", loop=UNMOVED, train_layers=0)
    trained = train(data, split_by_group(data), config)
    before, after = read_weights(file), read_weights(trained.out)
    assert all(torch.allclose(after[name], before[name], atol=1e-6) for name in before if name.startswith("backbone."))
    assert not torch.allclose(after["head.dense.weight"], before["head.dense.weight"], atol=1e-2)
    assert read_model_info(trained.out).labels == LABELS
    assert read_model_info(trained.out).training["from"]["weights"] == "backbone"


def test_a_training_from_a_file_keeps_its_view(tmp_path: Path) -> None:
    file = model_file(tmp_path / "first.safetensors", "cnn3d-lstm", view="three")
    out = tmp_path / "second.safetensors"
    assert config_from(file, out).preprocessing == read_model_info(file).preprocessing
    with pytest.raises(ModelFileError, match=f"^--view whole: the view of {file} is fixed; leave out --view$"):
        check(config_from(file, out, view="whole"))


def test_an_unfinished_training_from_another_file_is_not_continued(tree: Path, tmp_path: Path) -> None:
    data = read_data_set(tree)
    split = split_by_group(data)
    first, second = (model_file(tmp_path / f"{seed}.safetensors", "cnn3d-lstm", seed=seed) for seed in (0, 1))
    config = config_from(first, tmp_path / "m.safetensors", run_folder=tmp_path / "m.run")
    with open_run(data, split, config):
        pass
    with open_run(data, split, config):
        pass
    other = replace(config, start=find_model(str(second)))
    with (
        pytest.raises(OutputError, match=r"unfinished training with other settings \(from: "),
        open_run(data, split, other),
    ):
        pass


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "i3d-lite-lstm"}, "is a model of cnn3d-lstm: the training cannot be one of i3d-lite-lstm"),
        ({"weights": Path("w.pth")}, "--weights and --from contradict each other"),
        ({"train_layers": 2}, "cnn3d-lstm is trained as a whole, or with --freeze-backbone"),
    ],
)
def test_settings_that_do_not_fit_the_file_are_refused(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    config = config_from(model_file(tmp_path / "first.safetensors", "cnn3d-lstm"), tmp_path / "m.safetensors")
    check(replace(config, train_layers=0))
    with pytest.raises(ModelFileError, match=message):
        check(replace(config, **changes))  # type: ignore[arg-type]


def test_a_file_without_the_weights_that_it_describes_is_refused(tmp_path: Path) -> None:
    file = model_file(tmp_path / "first.safetensors", "cnn3d-lstm")
    weights = read_weights(file)
    del weights["backbone.blocks.0.0.weight"]
    save_model_file(file, read_model_info(file), weights)
    for labels in (LABELS, ("a", "b", "c")):
        with pytest.raises(ModelFileError, match=r"first\.safetensors does not hold the weights it describes"):
            starting_network(config_from(file, tmp_path / "m.safetensors"), labels)


def printed(file: Path, tree: Path, test_group: str) -> str:
    data = read_data_set(tree)

    def clips(*groups: str) -> tuple:
        return tuple(clip for clip in data.clips if clip.group in groups)

    plan = TrainingPlan(data, Split(clips("01"), clips("02"), clips(test_group)))
    text = io.StringIO()
    print_start(Console(file=text), plan, find_model(str(file)))
    return text.getvalue()


def test_a_line_says_which_weights_a_training_starts_with_and_another_that_its_scores_are_too_high(
    tree: Path, tmp_path: Path
) -> None:
    held_out = {"val": {"Across": ["02"], "Down": ["02"]}, "test": {"Across": ["03"], "Down": ["03"]}}
    trained = {"data": tree.name, "groups": held_out}
    same = model_file(tmp_path / "same.safetensors", "cnn3d-lstm", **trained)
    assert printed(same, tree, "03") == "Starting from same (cnn3d-lstm): backbone and head.\n"
    seen = "same was trained on 2 of the 2 test clips: the scores are too high.\n"
    assert printed(same, tree, "04") == f"Starting from same (cnn3d-lstm): backbone and head.\n{seen}"
    # Only clips of the class Across were in the training of this model.
    other = model_file(tmp_path / "other.safetensors", "cnn3d-lstm", ("Across", "Up"), **trained)
    assert "(cnn3d-lstm): backbone only; its labels are others.\nother was trained on 1 of" in printed(
        other, tree, "04"
    )
    # Nothing is known about data with another name.
    elsewhere = model_file(tmp_path / "elsewhere.safetensors", "cnn3d-lstm", data="x", groups=held_out)
    assert "too high" not in printed(elsewhere, tree, "04")
