"""Fixtures for all tests of the library."""

import pytest

from tagger.video import choose


class Everything(frozenset[str]):
    """A set that contains everything."""

    def __contains__(self, _: object) -> bool:
        return True


@pytest.fixture(autouse=True)
def decord_is_cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treats decord as cheap for all codecs, so that it is tested with every codec that it reads correctly."""
    monkeypatch.setattr(choose, "CHEAP_DECORD_CODECS", Everything())
