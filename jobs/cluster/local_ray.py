"""What a Ray on this machine gets of it: CPUs, memory for its object store, and a folder for its files."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from jobs.errors import JobError
from tagger.system.limits import usable_cores, usable_memory_bytes

BYTES_PER_CPU = 3 * 2**29
"""Memory for each CPU: a model actor, a decoding worker and its decoder process take 1.3 GB with the built-in model."""

OBJECT_STORE_BYTES = 2 * 2**30
OBJECT_STORE_BYTES_PER_CORE = 256 * 2**20
"""Size of the object store, for frames in transit: OBJECT_STORE_BYTES, or OBJECT_STORE_BYTES_PER_CORE times the cores
if that is more, and at most a quarter of memory."""

MIN_OBJECT_STORE_BYTES = 80 * 2**20
"""Ray refuses a smaller object store; its own limit is 75 MiB."""

SMALL_SHARED_MEMORY_BYTES = 2**29
"""With less free space in /dev/shm, the object store is in the folder for Ray's files: containers often have 64 MB."""

MAX_BYTES_ON_DISK = 8 * 2**30
"""Largest object store in the folder for Ray's files. Ray refuses more than 10 GB there."""

SOCKET = "ray/session_2000-01-01_00-00-00_000000_4194304/sockets/plasma_store"
"""The longest name of a socket that Ray makes in the folder for temporary files."""

MAX_SOCKET_BYTES = 107
"""Bytes in the path of a Unix socket, without the zero byte at its end (unix(7))."""

SHORT_FOLDER = Path("/tmp")


def cpus() -> int:
    """Returns the number of CPUs: the cores that this process may use, or fewer when memory is short."""
    return max(1, min(usable_cores(), usable_memory_bytes() // BYTES_PER_CPU))


def object_store_bytes(folder: str) -> int:
    """Returns the size of the object store for this machine and this folder for Ray's files."""
    shared_bytes = 0
    with contextlib.suppress(OSError):
        shared_bytes = shutil.disk_usage("/dev/shm").free
    return choose_object_store_bytes(
        usable_memory_bytes(), usable_cores(), shared_bytes, shutil.disk_usage(folder).free
    )


def choose_object_store_bytes(memory_bytes: int, cores: int, shared_bytes: int, disk_bytes: int) -> int:
    """Returns the size of an object store with which Ray starts.

    ``shared_bytes`` and ``disk_bytes`` are free in /dev/shm and in the folder for Ray's files. The store takes at most
    90 % of the former, or when /dev/shm is small, half of the latter.
    """
    size = min(max(OBJECT_STORE_BYTES, OBJECT_STORE_BYTES_PER_CORE * cores), memory_bytes // 4)
    if shared_bytes > SMALL_SHARED_MEMORY_BYTES:
        size = min(size, int(shared_bytes * 0.9))
    else:
        # Ray warns that this is slow.
        size = min(size, MAX_BYTES_ON_DISK, disk_bytes // 2)
    return max(size, MIN_OBJECT_STORE_BYTES)


def temporary_folder(variables: Mapping[str, str] = os.environ, short: Path = SHORT_FOLDER) -> str:
    """Returns the folder for Ray's files: RAY_TMPDIR, else TMPDIR, else /tmp if TMPDIR is too long for Ray's sockets.

    Raises JobError when no folder will do.
    """
    name = "RAY_TMPDIR" if "RAY_TMPDIR" in variables else "TMPDIR"
    folder = variables.get(name) or _system_folder()
    if _is_short(folder):
        return folder
    if name == "TMPDIR" and _is_short(str(short)) and os.access(short, os.W_OK):
        return str(short)
    most = MAX_SOCKET_BYTES - len(f"/{SOCKET}")
    raise JobError(
        f"{name} is too long for the sockets of Ray, which allow {most} bytes: {folder}; set RAY_TMPDIR to a shorter "
        "folder"
    )


def _system_folder() -> str:
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:
        raise JobError("no folder for temporary files can be written to; set TMPDIR to a folder that can") from None


def _is_short(folder: str) -> bool:
    return len(os.fsencode(f"{folder.rstrip('/')}/{SOCKET}")) <= MAX_SOCKET_BYTES
