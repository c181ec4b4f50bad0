"""Tests of the registry, and of the documented shapes of the networks."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from tagger.classifier import Classifier
from tagger.errors import ModelFileError
from tagger.model_file import ModelInfo
from tagger.models.kinetics import kinetics400_labels
from tagger.models.registry import ARCHITECTURES, build_network
from tagger.tagger import find_model

# architecture: its input, its features, its logits for 20 classes
SHAPES = {
    "i3d-kinetics400": ((2, 3, 16, 224, 224), (2, 2048, 8, 7, 7)),
    "x3d-m-kinetics400": ((2, 3, 16, 224, 224), (2, 192, 16, 7, 7)),
    "i3d-lstm": ((2, 3, 16, 224, 224), (2, 8, 2048)),
    "cnn3d-lstm": ((2, 3, 16, 112, 112), (2, 16, 2048)),
    "i3d-lite-lstm": ((2, 3, 16, 224, 224), (2, 16, 5120)),
}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_model_has_its_documented_shapes(architecture: str) -> None:
    clips, features = SHAPES[architecture]
    with torch.device("meta"):  # shapes without arithmetic
        network = build_network(architecture, classes=20).eval()
        assert network.backbone(torch.empty(clips)).shape == features
        assert network.head(torch.empty(features)).shape == (2, 20)
        assert network(torch.empty(clips)).shape == (2, 20)


@pytest.mark.parametrize(
    ("name", "options", "change"),
    [
        *((name, {}, {}) for name in ARCHITECTURES),
        ("i3d-lite-lstm", {"changes": True, "order": False}, {}),
        ("i3d-lite-lstm", {"changes": True, "order": True}, {}),
        ("i3d-lite-lstm", {"changes": True, "order": True}, {"view": "three"}),
        ("cnn3d-lstm", {"differences": True}, {}),
        ("cnn3d-lstm", {"differences": False}, {"size": 224, "resize": 256}),
    ],
)
def test_the_declared_gflop_of_every_model_is_about_right(
    name: str, options: dict[str, bool], change: dict[str, Any]
) -> None:
    known = ARCHITECTURES[name]
    info = ModelInfo(name, ("walk",) * 20, known.samplings[0], replace(known.preprocessing, **change), options=options)
    network = build_network(name, 20, options)
    classifier = Classifier(network, info.preprocessing, device="cpu", precision="fp32")
    assert known.gflop_of(info) == pytest.approx(classifier.operations(info.sampling.num_frames) / 1e9, rel=0.05)


@pytest.mark.parametrize("architecture", ["i3d-lstm", "cnn3d-lstm", "i3d-lite-lstm"])
def test_every_trainable_model_can_have_the_textbook_head(architecture: str) -> None:
    clips, features = SHAPES[architecture]
    with torch.device("meta"):
        network = build_network(architecture, 20, {"head": "lstm-last"})
        assert [type(layer) for layer in network.head.children()] == [nn.LSTM, nn.Dropout, nn.Linear]
        assert network.head.lstm.input_size == features[-1]
        assert network(torch.empty(clips)).shape == (2, 20)


@pytest.mark.parametrize("architecture", ["i3d-lstm", "cnn3d-lstm", "i3d-lite-lstm"])
def test_every_trainable_model_can_have_a_head_without_an_lstm(architecture: str) -> None:
    clips, _ = SHAPES[architecture]
    with torch.device("meta"):
        network = build_network(architecture, 20, {"head": "mean"})
        assert not any(isinstance(module, torch.nn.LSTM) for module in network.modules())
        assert network(torch.empty(clips)).shape == (2, 20)


def test_the_models_that_are_small_enough_to_ship_stay_below_20_mb() -> None:
    for architecture in ("cnn3d-lstm", "i3d-lite-lstm"):
        network = build_network(architecture, classes=101)
        size = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
        bytes_per_weight = {"cnn3d-lstm": 4, "i3d-lite-lstm": 2}[architecture]  # the latter ships in half precision
        assert size * bytes_per_weight / 4 < 20e6


@pytest.mark.parametrize(
    ("architecture", "options"),
    [("i4d", {}), ("cnn3d-lstm", {"depth": 3}), ("cnn3d-lstm", {"head": "gru"}), ("i3d-lstm", {"hidden": 0})],
)
def test_an_unknown_architecture_or_option_is_a_model_file_error(architecture: str, options: dict) -> None:
    with pytest.raises(ModelFileError, match=architecture) as caught:
        build_network(architecture, 20, options)
    assert "\n" not in str(caught.value)


def test_the_kinetics_labels_are_400_different_names_in_alphabetical_order() -> None:
    labels = kinetics400_labels()
    assert len(set(labels)) == 400
    assert (labels[0], labels[-1]) == ("abseiling", "zumba")
    assert list(labels) == sorted(labels)


def test_a_model_in_a_bucket_is_refused() -> None:
    with pytest.raises(ModelFileError, match=r"s3://b/m\.safetensors: models are read from local files only"):
        find_model("s3://b/m.safetensors")
