"""Streams on localhost that are watched: MPEG-TS over TCP and UDP, MJPEG and HLS over HTTP, and a pipe."""

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tagger import LiveSegment, VideoError, watch
from tagger.live import connection as connection_module
from tagger.live import watch as watch_module
from tagger.live.connection import CHILD_MODULE
from tagger.live.inbox import Lost, Opened
from tagger.live.watch import Event, Retry
from tests.child_processes import children_with
from tests.tagger.live.fake_model import SAMPLING, fake_tagger
from tests.tagger.live.senders import (
    free_udp_port,
    hls,
    http_server,
    jpegs,
    multipart,
    send_datagrams,
    tcp_server,
    transport_stream,
)
from tests.videos import encode

pytestmark = pytest.mark.usefixtures("nothing_dropped")

HOP_S = SAMPLING.window_s / 2

STALL_S = 10.0
"""Long enough for a busy machine."""

SHORT_STALL_S = 1.5


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Makes pauses short. Returns the pauses that were asked for."""
    paused: list[float] = []
    monkeypatch.setattr(watch_module, "pause", lambda seconds, on_idle: paused.append(seconds))
    return paused


class Watched:
    """The segments and events of a source."""

    def __init__(self, address: str, stall_s: float):
        self.events: list[Event] = []
        self.on_event: Callable[[Event], None] = self.events.append
        self._generator = watch(
            address, model=fake_tagger(), stall_s=stall_s, on_event=lambda event: self.on_event(event)
        )

    def take(self, count: int) -> list[LiveSegment]:
        return list(itertools.islice(self._generator, count))

    def close(self) -> None:
        self._generator.close()

    @property
    def retries(self) -> list[str]:
        return [event.reason for event in self.events if isinstance(event, Retry)]

    @property
    def losses(self) -> list[str]:
        return [event.reason for event in self.events if isinstance(event, Lost)]


@contextlib.contextmanager
def watching(address: str, stall_s: float = STALL_S) -> Iterator[Watched]:
    with contextlib.closing(Watched(address, stall_s)) as watched:
        yield watched


def check_times(segments: list[LiveSegment]) -> None:
    """Checks that segments are whole windows of the stream, in order."""
    for segment in segments:
        assert segment.start_s == pytest.approx(segment.index * HOP_S)
        assert segment.end_s - segment.start_s == pytest.approx(SAMPLING.window_s)
        assert segment.ended_at.tzinfo is not None
    indices = [segment.index for segment in segments]
    assert indices == sorted(set(indices))


def test_windows_of_a_transport_stream_over_tcp_slide() -> None:
    with tcp_server(transport_stream(2, codec="libx264")) as address, watching(address) as watched:
        segments = watched.take(6)
        check_times(segments)
        assert [segment.index for segment in segments] == list(range(6))
        assert watched.events == [Opened("mpegts", "h264", 64, 48)]


@pytest.mark.parametrize("container", ["mpegts", "flv"])
def test_a_stream_that_ends_is_opened_again_and_its_time_goes_on(container: str, short_pauses: list[float]) -> None:
    data = transport_stream(1.5, codec="mpeg2video" if container == "mpegts" else "libx264", container=container)
    with tcp_server(data, data) as address, watching(address) as watched:
        # Four of the first connection, and at least three of the second, which begins anywhere between two windows.
        segments = watched.take(7)
        check_times(segments)
        assert watched.retries == ["it ended"] and short_pauses == [1.0]
        assert [segment.index for segment in segments[:4]] == [0, 1, 2, 3]
        # No window shows something of both connections: the second one has a time of its own.
        assert segments[4].start_s >= segments[3].end_s - HOP_S
        assert segments[4].index > 4


def then_silence(data: bytes) -> Callable[[socket.socket], None]:
    """Returns a function that sends data, then nothing until the other end closes."""

    def send(client: socket.socket) -> None:
        client.sendall(data)
        client.recv(1)

    return send


def test_a_stream_that_stalls_is_lost_and_opened_again() -> None:
    data = transport_stream(1.5)
    with tcp_server(then_silence(data), data) as address, watching(address, SHORT_STALL_S) as watched:
        segments = watched.take(7)
        check_times(segments)
        assert [segment.index for segment in segments[:4]] == [0, 1, 2, 3]
        assert watched.retries == ["no data came for 1.5 s"]


def test_a_host_that_is_away_is_tried_again_with_growing_pauses(short_pauses: list[float]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    retries: list[Event] = []

    class EnoughError(Exception):
        pass

    def note(event: Event) -> None:
        retries.append(event)
        if len(retries) == 3:
            raise EnoughError

    with pytest.raises(EnoughError):
        list(watch(f"tcp://127.0.0.1:{port}", model=fake_tagger(), stall_s=STALL_S, on_event=note))
    assert retries == [Retry("connection refused", pause_s) for pause_s in (1.0, 2.0, 4.0)]
    assert short_pauses == [1.0, 2.0]


def test_a_host_that_takes_the_connection_and_says_nothing_is_no_hang() -> None:
    with tcp_server(then_silence(b""), transport_stream(1)) as address, watching(address, SHORT_STALL_S) as watched:
        assert watched.take(1)[0].index == 0
        assert watched.retries == ["no data came for 1.5 s"]


def test_a_picture_of_another_size_begins_new_windows() -> None:
    data = transport_stream(1.2) + transport_stream(1.6, start_s=1.2, width=80, height=60)
    with tcp_server(data) as address, watching(address) as watched:
        segments = watched.take(6)
        check_times(segments)
        assert len(watched.losses) == 1
        assert not any(segment.start_s < 1.2 - 0.05 < segment.end_s - 0.1 for segment in segments)


@pytest.mark.parametrize("start_s", [100.0, 0.0])
def test_a_jump_of_the_clock_begins_new_windows(start_s: float) -> None:
    data = transport_stream(1.2, start_s=5) + transport_stream(1.6, start_s=start_s)
    with tcp_server(data) as address, watching(address) as watched:
        segments = watched.take(6)
        check_times(segments)
        assert watched.losses
        assert segments[-1].end_s < 3.5
        assert not any(segment.start_s < 1.1 and segment.end_s > 1.35 for segment in segments)


@pytest.mark.parametrize("container", ["mpegts", "flv"])
def test_a_jump_of_the_clock_alone_is_noticed(container: str) -> None:
    data = transport_stream(3, codec="libx264", jump=(1.2, 100.0), container=container)
    with tcp_server(data) as address, watching(address) as watched:
        segments = watched.take(6)
        check_times(segments)
        assert watched.losses == ["its clock jumped by +100.0 s"]
        assert segments[-1].end_s < 3.1
        assert not any(segment.start_s < 1.2 - 0.05 and segment.end_s > 1.2 + 0.05 for segment in segments)


def test_a_pause_is_a_gap_as_long_as_it_was() -> None:
    data = transport_stream(3, codec="libx264", jump=(1.2, 4.0))
    with tcp_server(data) as address, watching(address) as watched:
        segments = watched.take(6)
        check_times(segments)
        assert watched.losses == ["no picture came for 4.0 s"]
        assert not any(segment.start_s < 5.2 and segment.end_s > 1.25 for segment in segments)
        assert segments[-1].start_s > 5.2


def test_another_codec_is_found_and_read_after_a_new_connection() -> None:
    h264, mpeg2 = transport_stream(1.2, codec="libx264"), transport_stream(3, start_s=1.2)
    with tcp_server(then_silence(h264 + mpeg2), mpeg2) as address, watching(address, SHORT_STALL_S) as watched:
        check_times(watched.take(7))
        opened = [event.codec for event in watched.events if isinstance(event, Opened)]
        assert opened == ["h264", "mpeg2video"] and len(watched.retries) == 1


def test_a_transport_stream_over_udp_is_watched_and_its_silence_is_noticed() -> None:
    port, data = free_udp_port(), transport_stream(3, codec="libx264")
    is_over = threading.Event()

    def send() -> None:
        threading.Thread(target=send_datagrams, args=(data, port, is_over), daemon=True).start()

    with watching(f"udp://127.0.0.1:{port}", SHORT_STALL_S) as watched:
        send()
        segments = watched.take(5)
        assert not watched.retries
        is_over.set()

        def resume(event: Event) -> None:
            watched.events.append(event)
            if isinstance(event, Retry):
                is_over.clear()
                send()

        watched.on_event = resume
        while not watched.retries:
            segments += watched.take(1)
        check_times(segments + watched.take(2))
        is_over.set()


def test_a_camera_that_gives_jpegs_over_http_has_the_times_at_which_they_come() -> None:
    pictures = multipart(jpegs(range(50)), 1 / 50)
    with (
        http_server({"/video": ("multipart/x-mixed-replace;boundary=frame", pictures)}) as address,
        watching(f"{address}/video") as watched,
    ):
        segments = watched.take(2)
        check_times(segments)
        # Fifty pictures in a second: at the 25 that the format supposes, they would be two seconds.
        assert segments[-1].end_s == pytest.approx(0.8)
        assert [event for event in watched.events if isinstance(event, Opened)] == [Opened("mpjpeg", "mjpeg", 64, 48)]


def test_a_camera_that_changes_its_size_begins_new_windows() -> None:
    pictures = multipart([*jpegs(range(40)), *jpegs(range(60), 80, 60)], 1 / 50)
    with (
        http_server({"/video": ("multipart/x-mixed-replace;boundary=frame", pictures)}) as address,
        watching(f"{address}/video") as watched,
    ):
        check_times(watched.take(4))
        assert watched.losses == ["its picture is 80×60 now"]


def as_hls(files: dict[str, bytes]) -> dict[str, tuple[str, Any]]:
    types = {"m3u8": "application/vnd.apple.mpegurl", "ts": "video/mp2t"}
    return {f"/{name}": (types[name.rsplit(".")[-1]], content) for name, content in files.items()}


def test_a_recording_in_hls_is_watched_to_its_end(tmp_path: Path) -> None:
    with (
        http_server(as_hls(hls(tmp_path, 3))) as address,
        watching(f"{address}/a.m3u8") as watched,
    ):
        segments = watched.take(100)
        check_times(segments)
        assert [segment.index for segment in segments] == list(range(10))
        assert not watched.retries


def test_a_recording_whose_server_fails_is_an_error_and_not_its_end(tmp_path: Path) -> None:
    files = hls(tmp_path, 3)
    del files["a2.ts"]
    with http_server(as_hls(files)) as address, watching(f"{address}/a.m3u8") as watched:
        check_times(watched.take(6))
        with pytest.raises(VideoError, match=r"m3u8 cannot be read: it broke off after 2\.0 s of 3\.0 s"):
            watched.take(1)


def test_a_recording_whose_connection_breaks_is_an_error_and_not_its_end(tmp_path: Path) -> None:
    data = encode(tmp_path / "a.mkv", seconds=3).read_bytes()

    def send_half(client: socket.socket) -> None:
        client.recv(1 << 16)
        client.sendall(f"HTTP/1.0 200 OK\r\nContent-Length: {len(data)}\r\n\r\n".encode())
        client.sendall(data[: len(data) // 2])

    with tcp_server(send_half) as address, watching(f"http{address[3:]}/a.mkv") as watched:
        check_times(watched.take(2))
        with pytest.raises(VideoError, match=r"a\.mkv cannot be read: the connection broke off"):
            watched.take(100)


def test_a_playlist_that_names_a_file_is_lost_with_the_reason(tmp_path: Path) -> None:
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfile://{tmp_path}/a.ts\n#EXT-X-ENDLIST\n"
    with http_server(as_hls({"a.m3u8": playlist.encode()})) as address, watching(f"{address}/a.m3u8") as watched:
        assert lost_at_once(watched).startswith("it leads to file:, which vtag does not open")


def lost_at_once(watched: Watched) -> str:
    """Returns why the first connection was lost. Checks that no segment came."""

    class LostError(Exception):
        pass

    def stop(event: Event) -> None:
        if isinstance(event, Retry):
            raise LostError(event.reason)

    watched.on_event = stop
    with pytest.raises(LostError) as found:
        watched.take(1)
    return str(found.value)


def test_a_decoder_that_is_silent_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "GRACE_S", 0.3)
    stopped: list[psutil.Process] = []

    def stop_decoder(client: socket.socket) -> None:
        stopped.extend(children_with(CHILD_MODULE))
        stopped[0].send_signal(signal.SIGSTOP)
        client.recv(1)

    with tcp_server(stop_decoder, transport_stream(2)) as address, watching(address, SHORT_STALL_S) as watched:
        check_times(watched.take(2))
        assert watched.retries == ["no data came for 1.5 s"]
    assert not stopped[0].is_running()


def test_closing_ends_the_decoder() -> None:
    with tcp_server(transport_stream(3)) as address:
        with watching(address) as watched:
            assert watched.take(1)
            (process,) = children_with(CHILD_MODULE)
        assert not psutil.pid_exists(process.pid) or process.status() == psutil.STATUS_ZOMBIE
        assert not [thread for thread in threading.enumerate() if thread.name == "vtag-watch"]


def test_a_pipe_is_watched_to_its_end_and_may_pause() -> None:
    program = (
        "from tests.tagger.live.fake_model import fake_tagger; from tagger import watch\n"
        "for each in watch('-', model=fake_tagger(), stall_s=0.2): print(each.index, flush=True)"
    )
    data = transport_stream(2)
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ
    ) as process:
        assert process.stdin and process.stdout
        process.stdin.write(data[: len(data) * 3 // 4])
        process.stdin.flush()
        # On a busy machine, the first windows may be dropped.
        assert int(process.stdout.readline()) < 4
        threading.Event().wait(0.6)
        process.stdin.write(data[len(data) * 3 // 4 :])
        process.stdin.close()
        rest = process.stdout.read().split()
        assert rest[-1] == b"5"
        assert process.wait(30) == 0
