"""Who shows the progress of a download. The library shows nothing; the command line shows a bar."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar

OnBytes = Callable[[int, int | None], None]
"""Gets the number of bytes that are here, and of all bytes where the server tells it."""


def _silent() -> AbstractContextManager[OnBytes]:
    return nullcontext(lambda done, total: None)


download_progress: ContextVar[Callable[[], AbstractContextManager[OnBytes]]] = ContextVar(
    "download_progress", default=_silent
)
"""What shows a download: it is entered when one begins and left when it ends. By default nothing is shown."""
