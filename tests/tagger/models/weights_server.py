"""A web server on localhost that serves a file and can fail on purpose."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BODY = bytes(i * i % 251 for i in range(300_000))


class WeightsServer:
    """A web server on localhost that can fail on purpose."""

    def __init__(self) -> None:
        self.body = BODY
        self.etag: str | None = '"1"'
        self.takes_ranges = True
        self.breaks_after: list[int] = []
        """Numbers of bytes after which the next responses end early, one for each response."""
        self.statuses: list[int] = []
        """Error statuses of the next responses, one for each response."""
        self.requested_ranges: list[str | None] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/I3D_8x8_R50.pyth"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers.get("Range")
                server.requested_ranges.append(wanted)
                if server.statuses:
                    return self.send_error(server.statuses.pop(0))
                start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
                if not server.takes_ranges or self.headers.get("If-Range", server.etag) != server.etag:
                    start = 0
                if start and start >= len(server.body):
                    return self.send_error(416)
                rest = server.body[start:]
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(rest)))
                if start:
                    total = len(server.body)
                    self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
                if server.etag:
                    self.send_header("ETag", server.etag)
                self.end_headers()
                return self.wfile.write(rest[: server.breaks_after.pop(0)] if server.breaks_after else rest) and None

            def log_message(self, *_: object) -> None:
                pass

        return Handler
