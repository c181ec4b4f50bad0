"""The server of ``vtag view``: HTTP on 127.0.0.1, for those who know its random address.

Each request names the token in its path, and the address of this server as its Host and its Origin, so that no other
page in the same browser can make one. Videos are named by their number in the result, never by a path.
"""

import json
import mimetypes
import os
import secrets
import sys
import threading
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import parse_qs, urlsplit

from jobs.archive.video import video_path
from jobs.browse.report.gather import ReportData
from jobs.browse.segments import FinishedResult
from jobs.browse.view.alike import rows_alike
from jobs.browse.view.encoder import Encoder
from jobs.browse.view.marks_file import MarksFile, OtherVersionError
from jobs.browse.view.ranges import UnsatisfiableError, parse_range
from jobs.storage.address import is_address
from tagger.errors import VtagError
from tagger.file_content import check_regular

HOST = "127.0.0.1"

TOKEN_BYTES = 24

CHUNK_BYTES = 1 << 20

MAX_MARKS_BYTES = 64 << 20

ALIKE = 24
"""Moments that look like another one."""

MAX_PREVIEW_MS = 120_000

HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Headers of every answer."""


@dataclass(frozen=True)
class _RefusedError(Exception):
    """A request that is not answered, and what is said instead."""

    status: HTTPStatus
    words: str = ""


class ViewServer(ThreadingHTTPServer):
    """Serves a page and the videos of its result. ``url`` is the address that a person opens."""

    daemon_threads = True

    def __init__(
        self,
        finished: FinishedResult,
        data: ReportData,
        page: str,
        marks: MarksFile,
        encoder: Encoder,
        port: int = 0,
    ):
        self.finished = finished
        self.data = data
        self.page = page.encode()
        self.names: list[str] = data.videos["video"].to_pylist()
        self.durations: list[float | None] = data.videos["duration_s"].to_pylist()
        self.marks = marks
        self.encoder = encoder
        self.searching = threading.Lock()
        self.token = secrets.token_urlsafe(TOKEN_BYTES)
        super().__init__((HOST, port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing about a connection that the browser has reset, as when a page is closed while a video plays."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        """The address of the page, with its token."""
        return f"http://{HOST}:{self.server_port}/{self.token}/"

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names that a request may give this server."""
        return (f"{HOST}:{self.server_port}", f"localhost:{self.server_port}")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ViewServer

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: the terminal is for the person."""

    def do_GET(self) -> None:
        """Answers a request for the page, the marks, a video, a preview or a picture."""
        self._answer()

    do_HEAD = do_PUT = do_GET  # noqa: N815 (http.server's names)

    def _answer(self) -> None:
        try:
            try:
                place, query = self._checked()
                if place is None:
                    # The page names its files relative to its folder.
                    self._send(HTTPStatus.FOUND, b"", "text/plain", {"Location": f"/{self.server.token}/"})
                else:
                    self._route(place, query)
            except _RefusedError as refused:
                # What a refused request sends is not read, so the connection ends.
                self.close_connection = True
                self._send(refused.status, refused.words.encode(), "text/plain; charset=utf-8")
        except OSError:
            # The browser has gone, or a video cannot be read to its end: the answer stays half sent.
            self.close_connection = True

    def _checked(self) -> tuple[str | None, dict[str, list[str]]]:
        """Returns the path behind the token, None if there is no ``/`` between them, and the query.

        Raises _RefusedError for a request from elsewhere.
        """
        if self.headers.get("Host") not in self.server.hosts:
            raise _RefusedError(HTTPStatus.FORBIDDEN, "another host")
        origins = {f"http://{host}" for host in self.server.hosts}
        origin = self.headers.get("Origin")
        if origin not in origins and (origin is not None or self.command == "PUT"):
            raise _RefusedError(HTTPStatus.FORBIDDEN, "another origin")
        if self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            raise _RefusedError(HTTPStatus.FORBIDDEN, "another site")
        try:
            parts = urlsplit(self.path)
        except ValueError as error:
            raise _RefusedError(HTTPStatus.BAD_REQUEST, "no address") from error
        token, slash, place = parts.path.removeprefix("/").partition("/")
        if not secrets.compare_digest(token.encode(), self.server.token.encode()):
            raise _RefusedError(HTTPStatus.FORBIDDEN, "give the address that vtag view printed")
        return place if slash else None, parse_qs(parts.query)

    def _route(self, place: str, query: dict[str, list[str]]) -> None:
        kind, _, number = place.partition("/")
        if self.command == "PUT":
            if place != "marks":
                raise _RefusedError(HTTPStatus.METHOD_NOT_ALLOWED)
            self._save_marks()
        elif place == "":
            self._send(HTTPStatus.OK, self.server.page, "text/html; charset=utf-8")
        elif place == "marks":
            try:
                text, version = self.server.marks.read()
            except VtagError as error:
                raise _RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR, str(error)) from error
            self._send(HTTPStatus.OK, text.encode(), "text/csv; charset=utf-8", {"ETag": version})
        elif kind == "video":
            path = self._video(_number(number, len(self.server.names)))
            self._send_file(path, video_type(path.name))
        elif kind == "preview":
            self._send_preview(_number(number, len(self.server.names)), query)
        elif kind == "like":
            self._send_alike(_number(number, len(self.server.data.segments)))
        elif kind == "picture":
            self._send_picture(_number(number, len(self.server.data.segments)))
        else:
            raise _RefusedError(HTTPStatus.NOT_FOUND)

    def _video(self, number: int) -> Path:
        name = self.server.names[number]
        if is_address(name) and not name.startswith("file://"):
            raise _RefusedError(HTTPStatus.NOT_FOUND, "the video is not on this machine")
        return Path(video_path(name))

    def _send_preview(self, number: int, query: dict[str, list[str]]) -> None:
        start_ms, end_ms = (_number(query.get(name, [""])[0], 2**40) for name in ("start_ms", "end_ms"))
        if not start_ms < end_ms <= start_ms + MAX_PREVIEW_MS:
            raise _RefusedError(HTTPStatus.BAD_REQUEST, "no stretch of a video")
        path = self.server.encoder.preview(self._video(number), start_ms, end_ms, self.server.durations[number])
        if path is None:
            raise _RefusedError(HTTPStatus.NOT_FOUND, "the video cannot be read here")
        self._send_file(path, "video/mp4")

    def _send_alike(self, row: int) -> None:
        server = self.server
        try:
            with server.searching:
                found = rows_alike(server.finished, server.data, row, ALIKE)
        except VtagError as error:
            raise _RefusedError(HTTPStatus.NOT_FOUND, str(error)) from error
        self._send(HTTPStatus.OK, json.dumps(found).encode(), "application/json")

    def _send_picture(self, row: int) -> None:
        segments = self.server.data.segments
        video = int(segments.video[row])
        middle_s = float(segments.start_ms[row] + segments.end_ms[row]) / 2000
        picture = self.server.encoder.picture(self._video(video), middle_s, self.server.durations[video])
        if picture is None:
            raise _RefusedError(HTTPStatus.NOT_FOUND, "no picture")
        self._send(HTTPStatus.OK, picture, "image/jpeg", {"Cache-Control": "private, max-age=86400"})

    def _save_marks(self) -> None:
        length = _number(self.headers.get("Content-Length", ""), MAX_MARKS_BYTES)
        try:
            version = self.server.marks.save(self.rfile.read(length).decode(), self.headers.get("If-Match"))
        except OtherVersionError:
            self._send(HTTPStatus.PRECONDITION_FAILED, b"", "text/plain")
        except (VtagError, UnicodeDecodeError) as error:
            raise _RefusedError(HTTPStatus.BAD_REQUEST, str(error)) from error
        else:
            self._send(HTTPStatus.NO_CONTENT, b"", "text/plain", {"ETag": version})

    def _send_file(self, path: Path, kind: str) -> None:
        try:
            check_regular(path)
            file = path.open("rb")
        except OSError as error:
            raise _RefusedError(HTTPStatus.NOT_FOUND, "the video is not there any more") from error
        with file:
            size = os.fstat(file.fileno()).st_size
            headers = {"Accept-Ranges": "bytes"}
            try:
                found = parse_range(self.headers.get("Range"), size)
            except UnsatisfiableError:
                headers["Content-Range"] = f"bytes */{size}"
                self._send(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, b"", kind, headers)
                return
            begin, end = found or (0, size)
            if found:
                headers["Content-Range"] = f"bytes {begin}-{end - 1}/{size}"
            self._begin(HTTPStatus.PARTIAL_CONTENT if found else HTTPStatus.OK, end - begin, kind, headers)
            if self.command != "HEAD":
                self._copy(file, begin, end)

    def _copy(self, file: BinaryIO, begin: int, end: int) -> None:
        file.seek(begin)
        while begin < end:
            chunk = file.read(min(CHUNK_BYTES, end - begin))
            if not chunk:
                # The file has become shorter: the length that was promised cannot be sent.
                self.close_connection = True
                return
            self.wfile.write(chunk)
            begin += len(chunk)

    def _send(self, status: HTTPStatus, content: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        self._begin(status, len(content), kind, headers or {})
        if self.command != "HEAD":
            self.wfile.write(content)

    def _begin(self, status: HTTPStatus, length: int, kind: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**HEADERS, "Content-Type": kind, "Content-Length": str(length), **headers}.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()


def video_type(name: str) -> str:
    """Returns the type of a video by its name. It is never that of a page, whatever a result calls a video."""
    kind = mimetypes.guess_type(name)[0] or ""
    return kind if kind.startswith("video/") else "video/mp4"


def _number(text: str, limit: int) -> int:
    """Returns a whole number from 0 to below ``limit``. Raises _RefusedError for any other text."""
    if not text.isascii() or not text.isdecimal() or len(text) > 18 or int(text) >= limit:
        raise _RefusedError(HTTPStatus.NOT_FOUND, "no such number")
    return int(text)
