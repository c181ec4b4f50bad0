"""SIGTERM and SIGHUP end a job in order."""

import os
import signal
from collections.abc import Iterator

import pytest

from jobs.cluster.termination import Termination


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """The usual handlers, whatever started the tests: nohup ignores SIGHUP."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_interrupts_and_further_ones_do_not_disturb_the_end(number: signal.Signals) -> None:
    ends = 0
    with pytest.raises(KeyboardInterrupt), Termination():
        try:
            os.kill(os.getpid(), number)
        finally:
            os.kill(os.getpid(), signal.SIGHUP)
            ends += 1
    assert ends == 1
    assert signal.getsignal(signal.SIGHUP) == signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with Termination():
        os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
