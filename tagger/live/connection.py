"""A connection to a source: a decoder process, and a thread that takes what it gives."""

import base64
import math
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass

from tagger.isolation.channel import Message
from tagger.isolation.process import DecoderProcessError, Limits, Process
from tagger.live.inbox import Ended, Inbox, Item, LiveWindow, Lost, Opened
from tagger.live.source import LiveSource
from tagger.preprocessing import Preprocessing
from tagger.windows import Sampling, Window

CHILD_MODULE = "tagger.live.live_child"

GRACE_S = 5.0
"""Seconds after which a process is killed that should have reported a stall itself."""

STDIN = 0

JPEG_START = b"\xff\xd8"


@dataclass(frozen=True)
class Wanted:
    """How a source is watched.

    ``pace``: seconds of a file that are shown in a second; None: it is not paced. ``keeps_all``: the source waits for
    the model, and no window is dropped. ``stall_s``: seconds without data after which a source is lost.
    ``picture_every_s``: seconds between two pictures for ``on_picture``, a JPEG each.
    """

    sampling: Sampling
    preprocessing: Preprocessing
    pace: float | None = None
    keeps_all: bool = False
    stall_s: float = 10.0
    picture_every_s: float | None = None
    on_picture: Callable[[bytes], None] = lambda picture: None


@dataclass(frozen=True)
class _Picture:
    """A picture for ``on_picture``."""

    jpeg: bytes


@dataclass(frozen=True)
class _FirstFrame:
    """The first frame has come, at this time on the monotonic clock."""

    at_s: float


_Received = Item | _Picture | _FirstFrame


class Connection:
    """A source that is being watched. ``origin_s`` is when its first frame came, on the machine's monotonic clock.

    ``origin_s`` of an earlier connection makes times go on from there, after ``after_s`` at the earliest. Raises
    VtagError when no process can be started.
    """

    def __init__(self, source: LiveSource, wanted: Wanted, origin_s: float | None = None, after_s: float = 0.0):
        self.origin_s = origin_s
        self._wanted = wanted
        self._inbox = Inbox(dropping=not wanted.keeps_all)
        self._last = -1
        self._error: Exception | None = None
        limits = Limits(frame_s=wanted.stall_s + GRACE_S)
        stdin = {"stdin": STDIN} if source.kind == "pipe" else {}
        self._process = Process(limits, CHILD_MODULE, **stdin)
        self._shape = (1, wanted.sampling.num_frames, *wanted.preprocessing.shape)
        request = {
            "watch": source.to_json(),
            "sampling": wanted.sampling.to_json(),
            "preprocessing": asdict(wanted.preprocessing),
            "pace": wanted.pace,
            "stall_s": wanted.stall_s,
            "origin_s": origin_s,
            "after_s": after_s,
            "picture_every_s": wanted.picture_every_s,
            "buffer": self._process.next_buffer(self._shape),
        }
        self._thread = threading.Thread(target=self._receive, args=(request,), name="vtag-watch", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Windows that the model was too slow for."""
        return self._inbox.dropped

    def take(self, timeout_s: float | None = None) -> Item | None:
        """Waits for the next window or note. The last one is Ended. None: there is none after ``timeout_s`` seconds.

        Raises what ``on_picture`` has raised.
        """
        item = self._inbox.take(timeout_s)
        if isinstance(item, Ended) and self._error is not None:
            raise self._error
        return item

    def close(self) -> None:
        """Ends the process."""
        self._inbox.close()
        self._process.kill()
        self._thread.join()
        self._process.end()

    def _receive(self, request: Message) -> None:
        try:
            self._process.send(request)
            while (ended := self._pass_on(self._checked(self._process.receive()))) is None:
                pass
        except DecoderProcessError as failure:
            stall = failure.kind == "timeout"
            reason = f"no data came for {self._wanted.stall_s:g} s" if stall else f"its decoder {failure}"
            ended = Ended(reason, is_finished=False)
        except Exception as error:
            # The caller must not wait forever: ``take`` raises it.
            self._error = error
            ended = Ended("the watch failed", is_finished=False)
        self._inbox.end(ended)

    def _checked(self, message: Message) -> _Received:
        """Returns what a message says. The process is not trusted."""
        try:
            return self._parsed(message)
        except (KeyError, OverflowError, TypeError, ValueError):
            raise DecoderProcessError("crashed", "sent an invalid message") from None

    def _parsed(self, message: Message) -> _Received:
        if "window" in message:
            index, start_s, end_s = message["window"]
            at_s = float(message["at"])
            if not (self._last < index and 0 <= start_s < end_s < math.inf and math.isfinite(at_s)):
                raise ValueError
            window = Window(int(index), float(start_s), float(end_s))
            return LiveWindow(window, self._process.clips(self._shape), at_s)
        if "picture" in message:
            jpeg = base64.b64decode(message["picture"], validate=True)
            if not jpeg.startswith(JPEG_START):
                raise ValueError
            return _Picture(jpeg)
        if "first" in message:
            return _FirstFrame(float(message["first"]))
        if "opened" in message:
            container, codec, width, height = message["opened"]
            return Opened(str(container), str(codec), int(width), int(height))
        if "gap" in message:
            return Lost(str(message["gap"]))
        is_finished, is_recording = message["is_finished"] is True, message["is_recording"] is True
        return Ended(str(message["end"]), is_finished, is_recording)

    def _pass_on(self, item: _Received) -> Ended | None:
        """Passes on what the process has sent. Returns it if it is the end."""
        match item:
            case Ended():
                return item
            case LiveWindow(window):
                self._last = window.index
                self._inbox.put_window(item)
                self._process.send({"buffer": self._process.next_buffer(self._shape)})
            case _Picture(jpeg):
                self._wanted.on_picture(jpeg)
            case _FirstFrame(at_s):
                self.origin_s = at_s if self.origin_s is None else self.origin_s
            case _:
                self._inbox.put_note(item)
        return None
