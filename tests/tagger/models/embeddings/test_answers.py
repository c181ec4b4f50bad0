"""Answers from embeddings: one line for a model whose answers cannot be computed from them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tagger import ModelFileError, ModelInfo, Preprocessing, Sampling, find_model, load_model, save_model_file
from tagger.model_file import EmbeddingSpace
from tests.tagger.test_classifier import noise

INFO = ModelInfo(
    "cnn3d-lstm",
    ("a", "b"),
    Sampling(),
    Preprocessing(32, 32),
    options={"head": "mean"},
    embedding=EmbeddingSpace(4, 6, "0123"),
)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"embedding": None}, "m cannot be computed from embeddings"),
        ({"options": {"head": "lstm"}}, "m looks at the order of the frames"),
        ({}, "m has 2 classes, and its embeddings do not keep all that these need"),
    ],
)
def test_the_message_says_why_answers_cannot_be_computed(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    weights = {
        "head.dense.weight": torch.eye(2, 6),
        "head.dense.bias": torch.zeros(2),
        "embedder.mean": torch.zeros(6),
        # The embeddings keep other features than those that the head uses.
        "embedder.projection": torch.eye(6)[3:],
    }
    save_model_file(tmp_path / "m.safetensors", replace(INFO, **changes), weights)
    with pytest.raises(ModelFileError, match=says):
        find_model(str(tmp_path / "m.safetensors")).load_answers()


def test_the_message_names_weights_that_are_missing(tmp_path: Path) -> None:
    save_model_file(tmp_path / "m.safetensors", INFO, {"head.dense.bias": torch.zeros(2)})
    with pytest.raises(ModelFileError, match=r"m\.safetensors does not hold the weights it describes"):
        find_model(str(tmp_path / "m.safetensors")).load_answers()


def test_the_built_in_model_answers_from_its_embeddings_as_from_the_clips() -> None:
    model = load_model(device="cpu")
    clips = noise(3, 16, 224)
    probabilities, scores, embeddings = model.classifier.classify_and_embed(clips)
    found, found_scores = model.source.load_answers().classify(embeddings)
    np.testing.assert_allclose(found, probabilities, atol=1e-3)
    assert scores is not None and found_scores is not None
    # The scores have steps of 0.001.
    np.testing.assert_allclose(found_scores, scores, atol=0.005)
    assert embeddings.dtype == np.float16 and embeddings.nbytes <= 3 * 1024
    assert model.source.file_here.stat().st_size < 20e6
