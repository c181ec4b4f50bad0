"""Live pictures on localhost: MPEG-TS over TCP and UDP, and HTTP, all made by PyAV."""

import contextlib
import io
import itertools
import math
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av

from tests.videos import picture

RATE = 30

CERTIFICATE = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgKIiksWVpguu5awnB
5whD26Bb0+NCKBAmXIPuJqtMV5yhRANCAASpkQh/7qQRKpJkouZVh3XEzCm9sB42
7t0Ua3kP20pxpeAiRB8fcE7KHC8aS9ZClz60OBe8ay5k7MP0aXLQzm1i
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBmzCCAUGgAwIBAgIUFnAbrm6/skGNpHXT4eohaIKbMBwwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEzMDA0MTUzNloYDzIxMjYxMTA2
MDQxNTM2WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAASpkQh/7qQRKpJkouZVh3XEzCm9sB427t0Ua3kP20pxpeAiRB8fcE7K
HC8aS9ZClz60OBe8ay5k7MP0aXLQzm1io28wbTAdBgNVHQ4EFgQUvsEiaW1fg2ru
VfwH0gheVzTO1pMwHwYDVR0jBBgwFoAUvsEiaW1fg2ruVfwH0gheVzTO1pMwDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDSAAwRQIhALyXZk/lml2Ghj92Gd2ElfW4EF/6omicOySd6JaGEx1TAiAB
11BHNifEeBiUchztD48B8JyP90IMYLXAsFh2DajRZA==
-----END CERTIFICATE-----
"""
"""A key and its certificate for 127.0.0.1, which is valid until 2126 and signed by itself."""

UDP_BYTES = 7 * 188
"""Bytes of a packet that holds whole packets of a transport stream."""


def transport_stream(
    seconds: float,
    *,
    start_s: float = 0.0,
    width: int = 64,
    height: int = 48,
    codec: str = "mpeg2video",
    jump: tuple[float, float] = (math.inf, 0.0),
    container: str = "mpegts",
) -> bytes:
    """Returns an MPEG transport stream, or one in another container. See ``packets_of_a_stream``."""
    return b"".join(
        packets_of_a_stream(seconds, width, height, start_s=start_s, codec=codec, jump=jump, format=container)
    )


def packets_of_a_stream(
    seconds: float,
    width: int = 64,
    height: int = 48,
    *,
    start_s: float = 0.0,
    codec: str = "mpeg2video",
    jump: tuple[float, float] = (math.inf, 0.0),
    format: str = "mpegts",
) -> list[bytes]:
    """Returns a stream, by default an MPEG transport stream, cut into what belongs to each frame.

    All times begin at ``start_s``. The clock has a ``jump`` after some seconds, by some seconds.
    """
    file = io.BytesIO()
    parts: list[bytes] = []

    def take() -> bytes:
        data = file.getvalue()
        file.seek(0)
        file.truncate()
        return data

    with av.open(Unseekable(file), "w", format=format, options={"flush_packets": "1"}) as container:
        options = {"tune": "zerolatency", "preset": "ultrafast", "g": "15"} if codec == "libx264" else {"g": "15"}
        stream = container.add_stream(codec, rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.bit_rate = 1_000_000
        first = round(start_s * RATE)
        for number in range(round(seconds * RATE)):
            frame = av.VideoFrame.from_ndarray(picture(number, width, height), format="rgb24")
            ahead_s = jump[1] if number >= jump[0] * RATE else 0.0
            frame.pts, frame.time_base = first + number + round(ahead_s * RATE), Fraction(1, RATE)
            container.mux(stream.encode(frame))
            parts.append(take())
        container.mux(stream.encode())
        parts[-1] += take()
    parts[-1] += take()
    return parts


class Unseekable:
    """A file that can only be written to."""

    def __init__(self, file: io.BytesIO):
        self._file = file

    def write(self, data: bytes) -> int:
        """Writes all of ``data``."""
        return self._file.write(data)


@contextlib.contextmanager
def tcp_server(*connections: Callable[[socket.socket], None] | bytes) -> Iterator[str]:
    """Serves each of ``connections`` in turn, and the last one again and again. Yields the address."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def serve() -> None:
            with contextlib.suppress(OSError):
                for send in itertools.chain(connections, itertools.repeat(connections[-1])):
                    client, _ = server.accept()
                    with client, contextlib.suppress(ConnectionError):
                        client.sendall(send) if isinstance(send, bytes) else send(client)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"tcp://127.0.0.1:{port}"
        finally:
            # Wakes the thread that waits for the next connection.
            server.shutdown(socket.SHUT_RDWR)
            thread.join(30)


@contextlib.contextmanager
def http_server(
    answers: dict[str, tuple[str, bytes | Callable[[Callable[[bytes], object]], None]]],
    *,
    redirections: dict[str, str] | None = None,
    certificate: Path | None = None,
) -> Iterator[str]:
    """Serves ``answers``: the type of each path, and its content or a function that writes it. Yields the address.

    ``redirections`` are paths with the address to which each leads. With a ``certificate``, which its key comes before,
    the address begins with ``https``.
    """

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            kind, content = answers.get(self.path, ("", b""))
            if redirections and self.path in redirections:
                self.send_response(302)
                self.send_header("Location", redirections[self.path])
            else:
                self.send_response(200 if kind else 404)
            self.send_header("Content-Type", kind or "text/plain")
            if isinstance(content, bytes):
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(content) if isinstance(content, bytes) else content(self.wfile.write)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def send_datagrams(data: bytes, port: int, is_over: threading.Event, pause_s: float = 0.002) -> None:
    """Sends a transport stream again and again until ``is_over``."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        while not is_over.is_set():
            for begin in range(0, len(data), UDP_BYTES):
                sender.sendto(data[begin : begin + UDP_BYTES], ("127.0.0.1", port))
                time.sleep(pause_s)


def free_udp_port() -> int:
    """Returns a port that was free a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def jpegs(numbers: Sequence[int], width: int = 64, height: int = 48) -> list[bytes]:
    """Returns JPEG pictures."""
    from tagger.live.jpeg import jpeg_of_frame

    frames = [av.VideoFrame.from_ndarray(picture(number, width, height), format="rgb24") for number in numbers]
    return [jpeg_of_frame(frame.reformat(format="yuvj420p"), 3) for frame in frames]


def multipart(pictures: Sequence[bytes], pause_s: float) -> Callable[[Callable[[bytes], object]], None]:
    """Returns a function that writes pictures as a camera's MJPEG does, one each ``pause_s`` seconds."""

    def write(out: Callable[[bytes], object]) -> None:
        for each in pictures:
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(each)}\r\n\r\n"
            out(head.encode() + each + b"\r\n")
            time.sleep(pause_s)

    return write


def hls(folder: Path, seconds: float, **options: str) -> dict[str, bytes]:
    """Returns the files of an HLS recording by name: ``a.m3u8`` and its segments, of a second each."""
    options = {"hls_time": "1", "hls_list_size": "0"} | options
    with av.open(str(folder / "a.m3u8"), "w", format="hls", options=options) as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "ultrafast", "g": "15", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(round(seconds * RATE)):
            frame = av.VideoFrame.from_ndarray(picture(number, 64, 48), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return {path.name: path.read_bytes() for path in folder.iterdir()}
