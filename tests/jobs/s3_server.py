"""A local S3 server (moto's) that can be made to fail."""

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import boto3
from moto.server import MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

ERROR = "<?xml version='1.0' encoding='UTF-8'?><Error><Code>{0}</Code><Message>{1}</Message></Error>"

FAILURES = {403: "InvalidAccessKeyId", 500: "InternalError", 503: "SlowDown"}
"""The HTTP statuses of failures, and the S3 error code of each."""


class _Quiet(MotoRequestHandler):
    def log_request(self, *_: object) -> None:
        pass


@dataclass
class S3Server:
    """A running server. Requests that carry no credentials are refused, as by a bucket that is not public.

    ``requests`` are the received ones: method and path, as in ``GET /bucket/key``. ``page`` is the number of objects in
    a page of a listing. After ``writes_left`` more requests that write (None: no limit), every request is refused. A
    job that is killed leaves a bucket in the same state.
    """

    endpoint: str = ""
    page: int = 1000
    requests: list[str] = field(default_factory=list)
    writes_left: int | None = None
    _failures: list[tuple[str, int]] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables of a process that uses this server, without other credentials of this machine."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent/credentials",
            "AWS_CONFIG_FILE": "/nonexistent/config",
        }

    def fail(self, times: int, status: int = 503, method: str = "") -> None:
        """Makes the next ``times`` requests (of a method, or any) fail."""
        self._failures += [(method, status)] * times

    @property
    def is_failing(self) -> bool:
        """Checks whether more requests are going to fail."""
        return bool(self._failures)

    def recover(self) -> None:
        """Makes no more requests fail."""
        self._failures.clear()
        self.writes_left = None

    def bucket(self) -> "Bucket":
        """A new bucket."""
        name = f"bucket-{next(self._numbers)}"
        self._client.create_bucket(Bucket=name)
        return Bucket(self, name, self._client)

    @cached_property
    def _client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id="key",
            aws_secret_access_key="secret",
        )

    def answer(self, app: Callable[..., Iterable[bytes]], request: dict[str, Any], respond: Any) -> Iterable[bytes]:
        """Answers a request with an error if ``fail`` asked for one. Otherwise lets the server answer."""
        method = request["REQUEST_METHOD"]
        with self._lock:
            self.requests.append(f"{method} {request['PATH_INFO']}")
            failure = next((failure for failure in self._failures if failure[0] in ("", method)), None)
            if failure:
                self._failures.remove(failure)
            is_over = self.writes_left == 0
            if self.writes_left and method in ("PUT", "POST", "DELETE"):
                self.writes_left -= 1
        if is_over:
            return self._refuse(request, respond, 403, "AccessDenied", "The bucket is cut off")
        if failure:
            return self._refuse(request, respond, failure[1], FAILURES[failure[1]], "Not now")
        if "HTTP_AUTHORIZATION" not in request:
            return self._refuse(request, respond, 403, "AccessDenied", "Access Denied")
        request["QUERY_STRING"] = request["QUERY_STRING"].replace("max-keys=1000", f"max-keys={self.page}")
        return app(request, respond)

    @staticmethod
    def _refuse(request: dict[str, Any], respond: Any, status: int, code: str, message: str) -> Iterable[bytes]:
        # The request is read to its end; otherwise the connection would be cut.
        request["wsgi.input"].read(int(request.get("CONTENT_LENGTH") or 0))
        body = b"" if request["REQUEST_METHOD"] == "HEAD" else ERROR.format(code, message).encode()
        respond(f"{status} {code}", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
        return [body]


@dataclass(frozen=True)
class Bucket:
    """A bucket of the server."""

    server: S3Server
    name: str
    _client: Any

    @property
    def address(self) -> str:
        """The address as a user types it."""
        return f"s3://{self.name}"

    def put(self, key: str, content: bytes = b"x") -> None:
        """Makes an object."""
        self._client.put_object(Bucket=self.name, Key=key, Body=content)

    def delete(self, key: str) -> None:
        """Deletes an object."""
        self._client.delete_object(Bucket=self.name, Key=key)

    def get(self, key: str) -> bytes:
        """The content of an object."""
        return bytes(self._client.get_object(Bucket=self.name, Key=key)["Body"].read())

    def list(self) -> "list[str]":
        """The names of all objects, sorted."""
        return [found["Key"] for found in self._client.list_objects_v2(Bucket=self.name).get("Contents", [])]


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """A server on a free port."""
    # Chosen here: otherwise the server looks for the service again at each request, among two hundred.
    app = create_backend_app("s3")
    server = S3Server()
    running = make_server(
        "127.0.0.1",
        0,
        lambda request, respond: server.answer(app, request, respond),
        threaded=True,
        request_handler=_Quiet,
    )
    server.endpoint = f"http://127.0.0.1:{running.server_port}"
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        running.shutdown()
        thread.join()
        running.server_close()
