"""Fixtures that several tests share."""

import pytest


@pytest.fixture
def without_decord(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine for which decord has no wheel."""
    monkeypatch.setattr("tagger.video.choose.has_decord", lambda: False)
