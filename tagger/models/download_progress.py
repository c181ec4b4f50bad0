"""The progress display of a download. By default there is none; the command line sets a progress bar."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar

OnBytes = Callable[[int, int | None], None]
"""Called with the number of bytes downloaded and the total number, None if unknown."""


def _no_report() -> AbstractContextManager[OnBytes]:
    return nullcontext(lambda done, total: None)


download_progress: ContextVar[Callable[[], AbstractContextManager[OnBytes]]] = ContextVar(
    "download_progress", default=_no_report
)
"""Makes a context manager for a download, which gives the function that reports its progress."""
