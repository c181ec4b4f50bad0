"""Measures time and peak memory of listing a million videos in a local folder, and in buckets of several shapes.

The content of a bucket is generated on request: a server on this machine answers S3's requests for pages of 1000
objects, each after a pause like that of a real server. The server and each measurement are separate processes.
"""

import argparse
import multiprocessing
import os
import resource
import shutil
import tempfile
import time
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

PAGE = 1000


class Bucket(BaseHTTPRequestHandler):
    """Answers ListObjectsV2 for a bucket of ``videos`` objects, ``videos/00017/000003.mp4``, in folders of ``size``."""

    protocol_version = "HTTP/1.1"
    videos = 0
    size = 0
    pause_s = 0.0

    def do_GET(self) -> None:
        """Answers with one page."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        prefix = asked.get("prefix", "")
        folder = prefix.removeprefix("videos/").rstrip("/")
        start = int(asked.get("continuation-token", 0))
        if not prefix.startswith("videos/"):
            stop, total, objects = 1, 1, "<CommonPrefixes><Prefix>videos/</Prefix></CommonPrefixes>"
        elif not folder:
            total = -(-self.videos // self.size)
            stop = min(start + PAGE, total)
            objects = "".join(
                f"<CommonPrefixes><Prefix>videos/{i:05d}/</Prefix></CommonPrefixes>" for i in range(start, stop)
            )
        else:
            total = min(self.size, self.videos - int(folder) * self.size)
            stop = min(start + PAGE, total)
            objects = "".join(
                f"<Contents><Key>{escape(prefix)}{i:06d}.mp4</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified>"
                f"<ETag>&quot;{i:032x}&quot;</ETag><Size>{1000 + i}</Size></Contents>"
                for i in range(start, stop)
            )
        time.sleep(self.pause_s)
        more = f"<NextContinuationToken>{stop}</NextContinuationToken>" if stop < total else ""
        self._answer(
            200,
            "<?xml version='1.0' encoding='UTF-8'?>"
            "<ListBucketResult xmlns='http://s3.amazonaws.com/doc/2006-03-01/'><Name>bucket</Name>"
            f"<Prefix>{escape(prefix)}</Prefix><KeyCount>{stop - start}</KeyCount><MaxKeys>{PAGE}</MaxKeys>"
            f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>{more}{objects}</ListBucketResult>",
        )

    def do_HEAD(self) -> None:
        """Answers that the object does not exist: only listings are measured."""
        self._answer(404, "")

    def log_message(self, *_: object) -> None:
        """Logs nothing."""

    def _answer(self, status: int, body: str) -> None:
        content = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def serve(videos: int, size: int, pause_s: float, port: Connection) -> None:
    """Runs the server and sends its port."""
    Bucket.videos, Bucket.size, Bucket.pause_s = videos, size, pause_s
    server = ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
    port.send(server.server_port)
    server.serve_forever()


def list_videos(text: str, sender: Connection) -> None:
    """Lists one input and sends its time and memory."""
    from jobs.archive.listing import find_videos

    if text.startswith("s3://"):
        import jobs.archive.remote  # noqa: F401 - importing is not measured
    before = resource.getrusage(resource.RUSAGE_SELF)
    reports: list[int] = []
    started_s = time.monotonic()
    videos = find_videos([text], on_found=reports.append)
    wall_s = time.monotonic() - started_s
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    added = (after.ru_maxrss - before.ru_maxrss) / 1024
    sender.send(
        f"{len(videos):9,} videos  {wall_s:6.1f} s  {cpu_s:6.1f} s CPU  peak memory +{added:4.0f} MiB  "
        f"{len(reports):5,} reports"
    )


def measure(name: str, text: str) -> None:
    """Lists ``text`` in a separate process and prints its time and memory."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=list_videos, args=(text, sender))
    process.start()
    print(f"{name:44s} {receiver.recv()}", flush=True)
    process.join()


def main() -> None:
    """Measures a local folder, and buckets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=1_000_000)
    parser.add_argument("--pause-ms", type=float, default=50, help="before the server answers (default: 50)")
    parser.add_argument("--folder", help="where to make the files of the local folder (default: the temporary folder)")
    options = parser.parse_args()
    videos: int = options.videos
    root = Path(tempfile.mkdtemp(prefix="vtag-listing-", dir=options.folder))
    try:
        for i in range(videos):
            if i % PAGE == 0:
                inner = root / f"{i // PAGE:05d}"
                inner.mkdir()
            os.close(os.open(f"{inner}/{i % PAGE:06d}.mp4", os.O_CREAT | os.O_WRONLY))
        measure(f"local disk, folders of {PAGE}", str(root))
    finally:
        shutil.rmtree(root)
    for size in (100, 10_000, videos):
        receiver, sender = multiprocessing.Pipe(duplex=False)
        server = multiprocessing.Process(
            target=serve, args=(videos, size, options.pause_ms / 1000, sender), daemon=True
        )
        server.start()
        os.environ.update(
            AWS_ENDPOINT_URL=f"http://127.0.0.1:{receiver.recv()}",
            AWS_ACCESS_KEY_ID="key",
            AWS_SECRET_ACCESS_KEY="secret",
        )
        measure(f"bucket, folders of {size:,}, {options.pause_ms:g} ms a page", "s3://bucket/videos")
        server.terminate()


if __name__ == "__main__":
    main()
