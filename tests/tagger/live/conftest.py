"""What several tests of a live picture share."""

import pytest

from tagger.live import connection


@pytest.fixture
def nothing_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets sources wait for the model, because the machine of a test may be busy."""
    usual = connection.Inbox
    monkeypatch.setattr(connection, "Inbox", lambda *, dropping: usual(dropping=False))
