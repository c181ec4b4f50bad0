"""Fixtures that several tests share."""

import faulthandler
import os
import signal
from typing import TextIO

# Two threads that share two cores with anything else spend most of their time waiting for each other: the forward pass
# of an LSTM took 580 ms instead of 7.5 ms on a busy machine. Set before torch is imported, and passed on to children.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

# A shell that starts the tests in the background has them, and all that they start, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine must not fail a test.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

_errors: list[TextIO] = []


def pytest_configure(config: pytest.Config) -> None:
    """Keeps standard error as it was before pytest began to capture it."""
    with config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        _errors.append(os.fdopen(os.dup(2), "w"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the tests that start and end Ray over and over last: threads that it leaves behind disturb no others."""
    items.sort(key=lambda item: "jobs" in item.path.parts)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Lets an abort say where it happened. A Ray of this process has put a handler of its own in the place of this."""
    faulthandler.disable()
    faulthandler.enable(_errors[0])


@pytest.fixture
def without_decord(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine for which decord has no wheel."""
    monkeypatch.setattr("tagger.video.choose.has_decord", lambda: False)
