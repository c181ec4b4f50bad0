"""A server on 127.0.0.1, for those who know its random address.

Each request names the token in its path, and the address of this server as its Host and its Origin, so that no other
page in the same browser can make one.
"""

import secrets
import sys
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

HOST = "127.0.0.1"

TOKEN_BYTES = 24

HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Headers of every answer."""


@dataclass(frozen=True)
class RefusedError(Exception):
    """A request that is not answered, and what is said instead."""

    status: HTTPStatus
    words: str = ""


class LocalServer(ThreadingHTTPServer):
    """A server with a random address. ``url`` is the address that a person opens."""

    daemon_threads = True

    def __init__(self, handler: "type[LocalHandler]", port: int = 0):
        self.token = secrets.token_urlsafe(TOKEN_BYTES)
        super().__init__((HOST, port), handler)

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


class LocalHandler(BaseHTTPRequestHandler):
    """Answers requests that come from the page itself. Subclasses implement ``route``."""

    protocol_version = "HTTP/1.1"
    server: LocalServer

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: the terminal is for the person."""

    def do_GET(self) -> None:
        """Answers a request."""
        self._answer()

    do_HEAD = do_PUT = do_GET  # noqa: N815 (http.server's names)

    def route(self, place: str, query: dict[str, list[str]]) -> None:
        """Answers a request for ``place``, the path behind the token. Raises RefusedError."""
        raise RefusedError(HTTPStatus.NOT_FOUND)

    def _answer(self) -> None:
        try:
            try:
                place, query = self._checked()
                if place is None:
                    # The page names its files relative to its folder.
                    self.send(HTTPStatus.FOUND, b"", "text/plain", {"Location": f"/{self.server.token}/"})
                else:
                    self.route(place, query)
            except RefusedError as refused:
                # What a refused request sends is not read, so the connection ends.
                self.close_connection = True
                self.send(refused.status, refused.words.encode(), "text/plain; charset=utf-8")
        except OSError:
            # The browser has gone, or a video cannot be read to its end: the answer stays half sent.
            self.close_connection = True

    def _checked(self) -> tuple[str | None, dict[str, list[str]]]:
        """Returns the path behind the token, None if there is no ``/`` between them, and the query.

        Raises RefusedError for a request from elsewhere.
        """
        if self.headers.get("Host") not in self.server.hosts:
            raise RefusedError(HTTPStatus.FORBIDDEN, "another host")
        origins = {f"http://{host}" for host in self.server.hosts}
        origin = self.headers.get("Origin")
        if origin not in origins and (origin is not None or self.command == "PUT"):
            raise RefusedError(HTTPStatus.FORBIDDEN, "another origin")
        if self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            raise RefusedError(HTTPStatus.FORBIDDEN, "another site")
        try:
            parts = urlsplit(self.path)
        except ValueError as error:
            raise RefusedError(HTTPStatus.BAD_REQUEST, "no address") from error
        token, slash, place = parts.path.removeprefix("/").partition("/")
        if not secrets.compare_digest(token.encode(), self.server.token.encode()):
            raise RefusedError(HTTPStatus.FORBIDDEN, "give the address that vtag printed")
        return place if slash else None, parse_qs(parts.query)

    def send(self, status: HTTPStatus, content: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        """Sends a whole answer."""
        self.begin(status, len(content), kind, headers or {})
        if self.command != "HEAD":
            self.wfile.write(content)

    def begin(self, status: HTTPStatus, length: int, kind: str, headers: dict[str, str]) -> None:
        """Sends the head of an answer."""
        self.send_response(status)
        for name, value in {**HEADERS, "Content-Type": kind, "Content-Length": str(length), **headers}.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
