"""What a decoder process sends, and what is made of it. The process is replaced by a list of messages."""

import base64
import contextlib
import math
from typing import Any

import numpy as np
import pytest

from tagger.isolation.channel import Message
from tagger.live import connection as connection_module
from tagger.live.connection import JPEG_START, Connection, Wanted
from tagger.live.inbox import Ended, LiveWindow, Lost, Opened
from tagger.live.source import LiveSource
from tagger.preprocessing import Preprocessing
from tagger.windows import Window
from tests.tagger.live.fake_model import SAMPLING

END: Message = {"end": "it ended", "is_finished": True, "is_recording": False}
PICTURE: Message = {"picture": base64.b64encode(JPEG_START).decode()}


class FakeProcess:
    """Sends ``messages``."""

    messages: list[Message]

    def __init__(self, *_: Any, **__: Any):
        self._left = iter(self.messages)

    def receive(self) -> Message:
        return next(self._left)

    def next_buffer(self, shape: tuple[int, ...]) -> int:
        return 0

    def clips(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.zeros(shape, np.uint8)

    def send(self, message: Message) -> None:
        pass

    def kill(self) -> None:
        pass

    def end(self) -> None:
        pass


def connected(monkeypatch: pytest.MonkeyPatch, *messages: Message, **wanted: Any) -> Connection:
    monkeypatch.setattr(FakeProcess, "messages", messages, raising=False)
    monkeypatch.setattr(connection_module, "Process", FakeProcess)
    options = Wanted(SAMPLING, Preprocessing(32, 32), keeps_all=True, **wanted)
    return Connection(LiveSource("x", "stream", "x"), options)


def test_what_a_process_sends_is_taken_in_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    opened, window = {"opened": ["mpegts", "h264", 64, 48]}, {"window": [3, 1.0, 2.0], "at": 5.0}
    with contextlib.closing(connected(monkeypatch, opened, {"first": 7.0}, window, END)) as connection:
        items = [connection.take() for _ in range(3)]
        assert connection.origin_s == 7.0
    assert items[0] == Opened("mpegts", "h264", 64, 48)
    assert isinstance(items[1], LiveWindow) and (items[1].window, items[1].at_s) == (Window(3, 1.0, 2.0), 5.0)
    assert items[2] == Ended("it ended", is_finished=True)


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"end": "it ended"},
        {"window": [0, 1.0], "at": 0.0},
        {"window": [0, 1.0, 1.0], "at": 0.0},
        {"window": [0, 0.0, math.nan], "at": 0.0},
        {"window": ["0", 0.0, 1.0], "at": 0.0},
        {"window": [0, 0.0, 1.0], "at": None},
        {"window": [0.0, 0.0, 10**400], "at": 0.0},
        {"picture": "no base64"},
        {"picture": base64.b64encode(b"no JPEG").decode()},
        {"opened": ["mpegts", "h264", math.inf, 48]},
        {"first": "soon"},
    ],
)
def test_an_invalid_message_is_a_loss(message: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.closing(connected(monkeypatch, {"gap": "it jumped"}, message, END)) as connection:
        assert [connection.take(), connection.take()] == [
            Lost("it jumped"),
            Ended("its decoder sent an invalid message", is_finished=False),
        ]


@pytest.mark.parametrize("error", [ValueError("a bug of the page"), KeyError("label")])
def test_an_error_of_the_page_is_raised_as_it_is(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def show(picture: bytes) -> None:
        raise error

    connection = connected(monkeypatch, PICTURE, END, on_picture=show)
    with contextlib.closing(connection), pytest.raises(type(error)) as found:
        connection.take()
    assert found.value is error
