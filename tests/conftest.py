"""Fixtures that several tests share."""

import pytest
from hypothesis import settings

# A busy machine must not fail a test.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


@pytest.fixture
def without_decord(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine for which decord has no wheel."""
    monkeypatch.setattr("tagger.video.choose.has_decord", lambda: False)
