"""The holder of a lock: the process that a lock file names, and how another process finds out that it has ended.

The number of a process means something only on one machine, in one PID namespace (each container has its own), and
until it is given to another process. So a holder also has the boot id of its machine, its PID namespace, and the time
at which its process started.
"""

import json
import os
import socket
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Holder = dict[str, Any]
"""The JSON object of a lock file. Lock files of older versions lack ``boot``, ``pid_namespace`` and
``process_start``."""


def this_process() -> Holder:
    """Returns a holder for this process, with a token of its own."""
    status = _status("self")
    return {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "token": uuid.uuid4().hex,
        "boot": _boot_id(),
        "pid_namespace": _pid_namespace(),
        "process_start": status and status[1],
        "heartbeat": 0,
    }


def parse(text: str) -> Holder | None:
    """Returns the holder in the text of a lock file; None when the text is not complete."""
    try:
        holder = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return holder if isinstance(holder, dict) else None


def describe(holder: Holder | None) -> str:
    """Names the holder for a message."""
    if holder is None:
        return "unknown host and process"
    return f"host {holder.get('host')}, process {holder.get('process')}, started {holder.get('started')}"


def has_ended(holder: Holder) -> bool:
    """Checks whether the holder has certainly ended. Returns False for processes that cannot be seen from here."""
    here = socket.gethostname(), _boot_id(), _pid_namespace()
    process = holder.get("process")
    if None in here or here != (holder.get("host"), holder.get("boot"), holder.get("pid_namespace")):
        return False
    if not isinstance(process, int) or process <= 0:
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # It is a process of another user.
    except (OSError, OverflowError):
        return False
    # A process with this number lives. It is another one if it started at another time.
    status = _status(str(process)) if _shows_this_namespace("/proc") else None
    if status is None or holder.get("process_start") is None:
        return False
    state, start = status
    return state in "ZX" or start != holder["process_start"]


def _boot_id() -> str | None:
    """Returns the id that the kernel chose when the machine was started."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return None


def _pid_namespace() -> int | None:
    try:
        return Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return None


def _shows_this_namespace(proc: str) -> bool:
    """Checks whether the numbers of processes in ``/proc`` are those of this PID namespace."""
    try:
        return Path(proc, "self").readlink().name == str(os.getpid())
    except OSError:
        return False


def _status(process: str) -> tuple[str, int] | None:
    """Returns the state of a process, ``Z`` for a zombie, and its start in clock ticks since the machine started."""
    try:
        # The name of the program, in brackets, may contain spaces and brackets.
        fields = Path("/proc", process, "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        return fields[0], int(fields[19])
    except (OSError, ValueError, IndexError):
        return None
