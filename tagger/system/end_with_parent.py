"""Ends a helper process when its parent ends, for any reason, even while the helper is busy.

The helper holds one end of a socket on which nothing is ever sent. When the other end closes, the kernel sends SIGIO,
whose default action on Linux ends the process, even while it is stuck in C code. PR_SET_PDEATHSIG is not used because
it fires when the parent's *thread* ends. Other systems ignore SIGIO by default, so there a stuck process stays.
"""

import fcntl
import os
import select
import signal


def end_with_parent(lifeline: int) -> None:
    """Ends this process when the other end of the socket with the file descriptor ``lifeline`` closes."""
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGIO})
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    # An end that closed before sends no signal.
    closed = select.poll()
    closed.register(lifeline, select.POLLIN | select.POLLHUP)
    if closed.poll(0):
        signal.raise_signal(signal.SIGIO)
