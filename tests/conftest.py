"""Fixtures that several tests share."""

import os
import signal

# Two threads that share two cores with anything else spend most of their time waiting for each other: the forward pass
# of an LSTM took 580 ms instead of 7.5 ms on a busy machine. Set before torch is imported, and passed on to children.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

# When a shell starts the tests in the background, they and their child processes would ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine must not fail a test, and neither must chance; every run tries the same examples. To search for new
# ones: pytest --hypothesis-profile search
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=1000)
settings.load_profile("repeatable")


@pytest.fixture
def without_decord(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulates a machine for which decord has no wheel."""
    monkeypatch.setattr("tagger.video.choose.has_decord", lambda: False)
