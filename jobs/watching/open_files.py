"""Asks the kernel whether a program has a file open for writing."""

import fcntl
import os
import signal
import sys

from jobs.storage.address import is_address

IS_LINUX = sys.platform == "linux"


def is_open_for_writing(path: str) -> bool:
    """Checks whether a program of this machine has the file open for writing.

    Linux grants a read lease on a file that no program writes to, and refuses it with EAGAIN otherwise (fcntl(2),
    F_SETLEASE). The lease is given back at once. False also where there is no answer: for the files of other users, on
    network disks, and for addresses.
    """
    if not IS_LINUX or is_address(path):
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except (OSError, ValueError):
        return False
    try:
        # A program that opens the file right now makes the kernel send a signal, which would be SIGIO and end this
        # process. SIGURG is ignored.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False
