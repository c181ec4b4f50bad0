"""Embeddings: vectors of length 1, the same in every batch and on every machine."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tagger.classifier import Classifier
from tagger.model_file import EmbeddingSpace, ModelInfo
from tagger.models.embeddings.embedding import (
    EMBEDDING_SIZE,
    embedding_identity,
    normalised,
    normalised_features,
    projection,
)
from tagger.models.heads import power_normalised
from tagger.models.registry import build_network
from tagger.ood import OODCalibration
from tagger.preprocessing import Preprocessing
from tagger.windows import Sampling
from tests.tagger.test_classifier import PRECISIONS, PrecisionName, a_cnn3d, noise


@pytest.mark.parametrize("precision", PRECISIONS)
def test_embeddings_come_with_the_same_probabilities_and_scores_as_without(precision: PrecisionName) -> None:
    classifier = a_cnn3d(2.0, precision, OODCalibration((-3.0, -2.0, -1.0)))
    clips = noise(3, 4, 32)
    probabilities, scores, embeddings = classifier.classify_and_embed(clips)
    expected = classifier.classify(clips)
    np.testing.assert_array_equal(probabilities, expected[0])
    np.testing.assert_array_equal(scores, expected[1])
    assert embeddings.dtype == np.float16
    assert embeddings.shape == (3, classifier.embedding_size) and classifier.embedding_size <= 512
    np.testing.assert_allclose(np.linalg.norm(embeddings.astype(np.float32), axis=1), 1, atol=1e-3)
    assert np.abs(embeddings[0] - embeddings[1]).max() > 1e-4, "clips differ"


def test_the_embedding_of_a_clip_does_not_depend_on_the_batch() -> None:
    classifier = a_cnn3d()
    clips = noise(5, 4, 32)
    together = classifier.classify_and_embed(clips)[2]
    for i in range(5):
        np.testing.assert_allclose(classifier.classify_and_embed(clips[i : i + 1])[2][0], together[i], atol=1e-4)
    np.testing.assert_allclose(classifier.classify_and_embed(clips, 2)[2], together, atol=1e-4)


def test_an_embedding_is_made_of_the_features_that_the_mean_head_sees() -> None:
    sequence = torch.rand(2, 5, 7)
    expected = power_normalised(sequence.mean(dim=1))
    torch.testing.assert_close(normalised_features(sequence), expected)
    maps = torch.rand(2, 7, 5, 3, 4)
    torch.testing.assert_close(normalised_features(maps), power_normalised(maps.mean(dim=(2, 3, 4))))
    crops = torch.rand(2, 3, 5, 7)
    each = torch.stack([normalised_features(crops[:, i]) for i in range(3)])
    torch.testing.assert_close(normalised_features(crops, 3), each.mean(dim=0))
    of_maps = torch.rand(2, 3, 7, 5, 3, 4)
    each = torch.stack([normalised_features(of_maps[:, i]) for i in range(3)])
    torch.testing.assert_close(normalised_features(of_maps, 3), each.mean(dim=0))


@pytest.mark.parametrize("channels", [4, 512, 600])
def test_the_projection_is_orthonormal_and_the_same_everywhere(channels: int) -> None:
    matrix = projection(channels).numpy()
    assert matrix.shape == (channels, EMBEDDING_SIZE) and matrix.dtype == np.float32
    products = matrix @ matrix.T if channels < EMBEDDING_SIZE else matrix.T @ matrix
    np.testing.assert_allclose(products, np.eye(len(products)), atol=1e-5)
    if channels == 4:
        np.testing.assert_allclose(matrix[[0, -1], [0, -1]], [0.04169443, 0.00444937], atol=1e-6)


def test_features_without_a_direction_get_a_vector_of_equal_values() -> None:
    vectors = torch.tensor([[3.0, 4.0], [0.0, 0.0], [float("nan"), 1.0], [float("inf"), 1.0]])
    equal = [2**-0.5, 2**-0.5]
    torch.testing.assert_close(normalised(vectors), torch.tensor([[0.6, 0.8], equal, equal, equal]))


def test_the_embedding_of_three_crops_is_that_of_their_mean_features() -> None:
    three = Preprocessing(32, 32, view="three")
    classifier = Classifier(
        build_network("cnn3d-lstm", 5, {"hidden": 8, "filters": [4, 8, 8]}), three, device="cpu", precision="fp32"
    )
    clips = np.random.default_rng(0).integers(0, 256, (2, 4, *three.shape), np.uint8)
    means = power_normalised(classifier.features(clips).mean(dim=2)).mean(dim=1)
    expected = nn.functional.normalize(means @ projection(means.shape[1]), dim=1)
    np.testing.assert_allclose(classifier.classify_and_embed(clips)[2], expected, atol=1e-3)


@pytest.mark.parametrize(
    ("architecture", "size"), [("x3d-m-kinetics400", 224), ("i3d-kinetics400", 224), ("i3d-lite-lstm", 64)]
)
def test_every_architecture_has_embeddings(architecture: str, size: int) -> None:
    torch.manual_seed(0)
    classifier = Classifier(build_network(architecture, 5), Preprocessing(size, size), device="cpu", precision="fp32")
    embeddings = classifier.classify_and_embed(noise(1, 16, size))[2]
    assert embeddings.shape == (1, EMBEDDING_SIZE)
    np.testing.assert_allclose(np.linalg.norm(embeddings.astype(np.float32)), 1, atol=1e-3)


INFO = ModelInfo("cnn3d-lstm", ("a", "b"), Sampling(), Preprocessing())


def test_a_model_with_its_own_embeddings_says_their_size_and_space() -> None:
    identity = embedding_identity(replace(INFO, embedding=EmbeddingSpace(64, 1280, "1234abcd")))
    assert (identity["size"], identity["space"]) == (64, "1234abcd")
    assert embedding_identity(INFO)["space"] is None


def test_the_identity_of_embeddings_is_the_same_after_a_round_trip_through_json() -> None:
    identity = embedding_identity(INFO)
    assert json.loads(json.dumps(identity)) == identity
    assert identity["size"] == EMBEDDING_SIZE
    assert Preprocessing.from_json(identity["preprocessing"]) == INFO.preprocessing
