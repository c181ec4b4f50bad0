"""The server of ``vtag view``. Videos are named by their number in the result, never by a path."""

import json
import mimetypes
import os
import threading
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO

from jobs.archive.video import video_path
from jobs.browse.report.gather import ReportData
from jobs.browse.segments import FinishedResult
from jobs.browse.view.alike import rows_alike
from jobs.browse.view.encoder import Encoder
from jobs.browse.view.local_server import LocalHandler, LocalServer, RefusedError
from jobs.browse.view.marks_file import MarksFile, OtherVersionError
from jobs.browse.view.ranges import UnsatisfiableError, parse_range
from jobs.storage.address import is_address
from tagger.errors import VtagError
from tagger.file_content import check_regular

CHUNK_BYTES = 1 << 20

MAX_MARKS_BYTES = 64 << 20

ALIKE = 24
"""Moments that look like another one."""

MAX_PREVIEW_MS = 120_000


class ViewServer(LocalServer):
    """Serves a page and the videos of its result."""

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
        super().__init__(_Handler, port)


class _Handler(LocalHandler):
    server: ViewServer

    def route(self, place: str, query: dict[str, list[str]]) -> None:
        """Answers a request for the page, the marks, a video, a preview or a picture."""
        kind, _, number = place.partition("/")
        if self.command == "PUT":
            if place != "marks":
                raise RefusedError(HTTPStatus.METHOD_NOT_ALLOWED)
            self._save_marks()
        elif place == "":
            self.send(HTTPStatus.OK, self.server.page, "text/html; charset=utf-8")
        elif place == "marks":
            try:
                text, version = self.server.marks.read()
            except VtagError as error:
                raise RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR, str(error)) from error
            self.send(HTTPStatus.OK, text.encode(), "text/csv; charset=utf-8", {"ETag": version})
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
            raise RefusedError(HTTPStatus.NOT_FOUND)

    def _video(self, number: int) -> Path:
        name = self.server.names[number]
        if is_address(name) and not name.startswith("file://"):
            raise RefusedError(HTTPStatus.NOT_FOUND, "the video is not on this machine")
        return Path(video_path(name))

    def _send_preview(self, number: int, query: dict[str, list[str]]) -> None:
        start_ms, end_ms = (_number(query.get(name, [""])[0], 2**40) for name in ("start_ms", "end_ms"))
        if not start_ms < end_ms <= start_ms + MAX_PREVIEW_MS:
            raise RefusedError(HTTPStatus.BAD_REQUEST, "no stretch of a video")
        path = self.server.encoder.preview(self._video(number), start_ms, end_ms, self.server.durations[number])
        if path is None:
            raise RefusedError(HTTPStatus.NOT_FOUND, "the video cannot be read here")
        self._send_file(path, "video/mp4")

    def _send_alike(self, row: int) -> None:
        server = self.server
        try:
            with server.searching:
                found = rows_alike(server.finished, server.data, row, ALIKE)
        except VtagError as error:
            raise RefusedError(HTTPStatus.NOT_FOUND, str(error)) from error
        self.send(HTTPStatus.OK, json.dumps(found).encode(), "application/json")

    def _send_picture(self, row: int) -> None:
        segments = self.server.data.segments
        video = int(segments.video[row])
        middle_s = float(segments.start_ms[row] + segments.end_ms[row]) / 2000
        picture = self.server.encoder.picture(self._video(video), middle_s, self.server.durations[video])
        if picture is None:
            raise RefusedError(HTTPStatus.NOT_FOUND, "no picture")
        self.send(HTTPStatus.OK, picture, "image/jpeg", {"Cache-Control": "private, max-age=86400"})

    def _save_marks(self) -> None:
        length = _number(self.headers.get("Content-Length", ""), MAX_MARKS_BYTES)
        try:
            version = self.server.marks.save(self.rfile.read(length).decode(), self.headers.get("If-Match"))
        except OtherVersionError:
            self.send(HTTPStatus.PRECONDITION_FAILED, b"", "text/plain")
        except (VtagError, UnicodeDecodeError) as error:
            raise RefusedError(HTTPStatus.BAD_REQUEST, str(error)) from error
        else:
            self.send(HTTPStatus.NO_CONTENT, b"", "text/plain", {"ETag": version})

    def _send_file(self, path: Path, kind: str) -> None:
        try:
            check_regular(path)
            file = path.open("rb")
        except OSError as error:
            raise RefusedError(HTTPStatus.NOT_FOUND, "the video is not there any more") from error
        with file:
            size = os.fstat(file.fileno()).st_size
            headers = {"Accept-Ranges": "bytes"}
            try:
                found = parse_range(self.headers.get("Range"), size)
            except UnsatisfiableError:
                headers["Content-Range"] = f"bytes */{size}"
                self.send(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, b"", kind, headers)
                return
            begin, end = found or (0, size)
            if found:
                headers["Content-Range"] = f"bytes {begin}-{end - 1}/{size}"
            self.begin(HTTPStatus.PARTIAL_CONTENT if found else HTTPStatus.OK, end - begin, kind, headers)
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


def video_type(name: str) -> str:
    """Returns the type of a video by its name. It is never that of a page, whatever a result calls a video."""
    kind = mimetypes.guess_type(name)[0] or ""
    return kind if kind.startswith("video/") else "video/mp4"


def _number(text: str, limit: int) -> int:
    """Returns a whole number from 0 to below ``limit``. Raises RefusedError for any other text."""
    if not text.isascii() or not text.isdecimal() or len(text) > 18 or int(text) >= limit:
        raise RefusedError(HTTPStatus.NOT_FOUND, "no such number")
    return int(text)
