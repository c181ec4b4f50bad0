"""A network camera: RTSP from a small server.

The server is the package aio-rtsp-toolkit of PyPI. It is not among the packages that the tests install, because it
installs modules with names such as ``log_util`` beside its own. ``.ci/run`` installs it in a folder apart.
"""

import contextlib
import itertools
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tagger import watch
from tagger.live import watch as watch_module
from tagger.live.inbox import Opened
from tagger.live.watch import Event, Retry
from tests.tagger.live.fake_model import fake_tagger
from tests.videos import encode

pytestmark = pytest.mark.usefixtures("nothing_dropped")

SERVER = """
import asyncio, sys
import aio_rtsp_toolkit.server as server
folder, port, control_port = sys.argv[1], *map(int, sys.argv[2:])
asyncio.run(server.serve(folder, host="127.0.0.1", port=port, control_port=control_port))
"""


@contextlib.contextmanager
def rtsp_server(folder: Path) -> Iterator[str]:
    pytest.importorskip("aio_rtsp_toolkit", reason="aio-rtsp-toolkit is not installed")
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        ports = [str(each.getsockname()[1]) for each in (first, second)]
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(folder), *ports], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield f"rtsp://ada:secret@127.0.0.1:{ports[0]}"
    finally:
        process.kill()
        process.wait()


def test_a_network_camera_is_watched_and_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode(tmp_path / "camera.mp4", seconds=2, options={"bf": "0"})
    monkeypatch.setattr(watch_module, "LONGEST_PAUSE_S", 0.2)
    monkeypatch.setattr(watch_module, "FIRST_PAUSE_S", 0.2)
    events: list[Event] = []
    with rtsp_server(tmp_path) as address:
        watched = watch(f"{address}/camera.mp4", model=fake_tagger(), on_event=events.append)
        with contextlib.closing(watched):
            segments = list(itertools.islice(watched, 8))
    opened = [event for event in events if isinstance(event, Opened)]
    assert opened == [Opened("rtsp", "h264", 96, 64)] * 2
    assert "it ended" in [event.reason for event in events if isinstance(event, Retry)]
    indices = [segment.index for segment in segments]
    assert indices == sorted(set(indices)) and indices[0] == 0
