"""The page of a live picture: the picture, its label, and the labels of the last minute."""

import contextlib
import html
import json
import string
import threading
from collections import deque
from collections.abc import Iterator
from http import HTTPStatus
from importlib.resources import files
from typing import Any

from jobs.browse.report.assemble import content_policy
from jobs.browse.view.local_server import LocalHandler, LocalServer, RefusedError
from jobs.watching.commands import Failed
from jobs.watching.last_minute import LastMinute
from jobs.watching.smoother import Moment
from jobs.watching.watch_job import Note
from tagger.errors import OutputError
from tagger.live.inbox import Opened
from tagger.live.watch import Dropped, LiveSegment, Retry

CHANGES = 30
"""Changes of the label that the page lists."""


class LivePage:
    """What the page shows. It is a WatchView, and is read by the threads of a server."""

    def __init__(self, source: str):
        self.source = source
        self._lock = threading.Lock()
        self._picture: bytes | None = None
        self._label: str | None = None
        self._confidence = 0.0
        self._minute = LastMinute()
        self._changes: deque[tuple[str, str | None, float]] = deque(maxlen=CHANGES)
        self._dropped = 0
        self._note = "opening"
        self._is_lost = True

    def on_picture(self, picture: bytes) -> None:
        """Takes a new picture, a JPEG."""
        with self._lock:
            self._picture = picture

    def segment(self, segment: LiveSegment) -> None:
        """See WatchView."""
        with self._lock:
            self._is_lost = False

    def moment(self, moment: Moment) -> None:
        """See WatchView."""
        with self._lock:
            self._confidence = moment.confidence
            self._minute.add(moment)

    def change(self, moment: Moment) -> None:
        """See WatchView."""
        with self._lock:
            self._label = moment.label
            self._changes.appendleft((moment.started_at.isoformat(), moment.label, moment.confidence))

    def note(self, note: Note) -> None:
        """See WatchView."""
        with self._lock:
            match note:
                case Opened(_, codec, width, height):
                    self._note, self._is_lost = f"{codec}, {width}×{height}", False
                case Retry(reason, _):
                    self._note, self._is_lost = f"the picture is lost: {reason}", True
                case Dropped(windows):
                    self._dropped += windows
                case Failed(reason):
                    self._note = reason

    @property
    def picture(self) -> bytes | None:
        """The newest picture."""
        with self._lock:
            return self._picture

    def state(self) -> dict[str, Any]:
        """Returns the rest of what the page shows, for JSON."""
        with self._lock:
            dropped = f" · {self._dropped:,} windows dropped: the model does not keep up" if self._dropped else ""
            return {
                "label": self._label,
                "confidence": self._confidence,
                "until_s": self._minute.until_s,
                "minute": self._minute.stretches,
                "changes": list(self._changes),
                "note": self._note + dropped,
                "is_lost": self._is_lost,
            }

    def html(self) -> str:
        """Returns the page itself."""
        style, script = _file("css"), _file("js")
        policy = content_policy(style, script, is_served=True)
        title = html.escape(self.source)
        return string.Template(_file("html")).substitute(policy=policy, title=title, style=style, script=script)


def _file(ending: str) -> str:
    return files("jobs.watching").joinpath(f"live_page.{ending}").read_text("utf-8")


class _Handler(LocalHandler):
    server: "_Server"

    def route(self, place: str, query: dict[str, list[str]]) -> None:
        """Answers a request for the page, its state, or the picture."""
        page = self.server.page
        if self.command == "PUT":
            raise RefusedError(HTTPStatus.METHOD_NOT_ALLOWED)
        if place == "":
            self.send(HTTPStatus.OK, page.html().encode(), "text/html; charset=utf-8")
        elif place == "state":
            self.send(HTTPStatus.OK, json.dumps(page.state()).encode(), "application/json")
        elif place == "picture":
            picture = page.picture
            if picture is None:
                self.send(HTTPStatus.NO_CONTENT, b"", "image/jpeg")
            else:
                self.send(HTTPStatus.OK, picture, "image/jpeg")
        else:
            raise RefusedError(HTTPStatus.NOT_FOUND)


class _Server(LocalServer):
    def __init__(self, page: LivePage, port: int):
        self.page = page
        super().__init__(_Handler, port)


@contextlib.contextmanager
def serving(page: LivePage, port: int = 0) -> Iterator[str]:
    """Serves the page on this machine alone. Yields its address. Raises OutputError when the port is taken."""
    try:
        server = _Server(page, port)
    except OSError as error:
        raise OutputError(f"--port {port} cannot be used: {(error.strerror or str(error)).lower()}") from error
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="vtag-page", daemon=True)
        thread.start()
        try:
            yield server.url
        finally:
            server.shutdown()
            thread.join()
