"""Embedders: cosines of embeddings are those of the features, and a linear head loses nothing."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from tagger.models.embeddings.embedder import Embedder, values_of
from tagger.models.heads import power_normalised

CHANNELS, SIZE = 60, 24


def some_features(count: int, seed: int = 0) -> torch.Tensor:
    """Normalised features that vary in a few directions most."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(8, CHANNELS, generator=torch.Generator().manual_seed(9))
    return power_normalised((torch.randn(count, 8, generator=generator) @ mixing).exp())


def a_head(classes: int) -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(CHANNELS, classes)


def logits_of(embeddings: torch.Tensor, head: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return functional.linear(values_of(embeddings), *head)


@pytest.mark.parametrize("count", [2, 10, 200])
@torch.no_grad()
def test_the_probabilities_of_the_head_can_be_computed_from_embeddings(count: int) -> None:
    head = a_head(5)
    embedder = Embedder.fit(some_features(count), SIZE, head.weight)
    features = some_features(50, seed=3)
    expected = head(features).softmax(dim=1)
    linear = embedder.linear_head(head.weight, head.bias)
    assert linear is not None
    embeddings = embedder(features)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(50))
    torch.testing.assert_close(logits_of(embeddings, linear).softmax(dim=1), expected, atol=1e-4, rtol=0)
    # As stored: the projection of the model file and the embeddings of the result are rounded to float16.
    embedder.projection.copy_(embedder.projection.half())
    linear = embedder.linear_head(head.weight, head.bias)
    assert linear is not None
    stored = embedder(features).half().float()
    assert (logits_of(stored, linear).softmax(dim=1) - expected).abs().max() < 1e-3


@torch.no_grad()
def test_a_layer_on_values_becomes_one_on_features_and_back() -> None:
    embedder = Embedder.fit(some_features(200), SIZE)
    # As in a model file, whose rounding makes the rows of the projection a little less than orthonormal.
    embedder.projection.copy_(embedder.projection.half())
    on_values = nn.Linear(SIZE - 1, 4)
    on_features = embedder.features_head(on_values.weight, on_values.bias)
    features = some_features(50, seed=3)
    expected = on_values(values_of(embedder(features)))
    torch.testing.assert_close(functional.linear(features, *on_features), expected, atol=1e-4, rtol=1e-4)
    back = embedder.linear_head(*on_features)
    assert back is not None
    torch.testing.assert_close(back, (on_values.weight, on_values.bias), atol=1e-5, rtol=0, check_device=False)


def test_cosines_of_embeddings_are_about_those_of_the_centred_features() -> None:
    train, features = some_features(200), some_features(40, seed=3)
    embedder = Embedder.fit(train, SIZE)
    centred = functional.normalize(features - train.mean(dim=0), dim=1)
    embeddings = embedder(features)
    # Pairs that are alike in one are alike in the other.
    cosines, expected = embeddings @ embeddings.T, centred @ centred.T
    pairs = torch.triu_indices(40, 40, offset=1)
    correlation = torch.corrcoef(torch.stack([cosines[*pairs], expected[*pairs]]))[0, 1]
    assert correlation > 0.95
    nearest = cosines.fill_diagonal_(-1).argmax(dim=1), expected.fill_diagonal_(-1).argmax(dim=1)
    assert (nearest[0] == nearest[1]).float().mean() > 0.7


@pytest.mark.parametrize("count", [2, 200])
def test_the_rows_of_the_projection_are_orthonormal(count: int) -> None:
    for head in (None, a_head(5).weight, torch.ones(5, CHANNELS)):
        rows = Embedder.fit(some_features(count), SIZE, head).projection
        torch.testing.assert_close(rows @ rows.T, torch.eye(SIZE - 1), atol=1e-5, rtol=0)


def test_with_few_features_the_other_values_are_zero() -> None:
    embedder = Embedder.fit(some_features(30)[:, :10], SIZE)
    assert embedder(some_features(3)[:, :10]).shape == (3, SIZE)
    assert (embedder.projection[10:] == 0).all()


def test_a_head_that_uses_more_than_the_embeddings_have_is_not_replaced() -> None:
    embedder = Embedder.fit(some_features(200), SIZE, a_head(5).weight)
    torch.manual_seed(5)
    other = nn.Linear(CHANNELS, 3)
    assert embedder.linear_head(other.weight, other.bias) is None
    many = a_head(SIZE)
    assert Embedder.fit(some_features(200), SIZE, many.weight).linear_head(many.weight, many.bias) is None
