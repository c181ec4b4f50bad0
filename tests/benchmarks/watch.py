"""Measures ``tagger.watch``: the time from the last frame of a window to its segment, and memory over a long time.

``latency`` sends a transport stream over TCP at its own pace. Each frame is sent at a time that is known, so the figure
has all that follows: the network, the decoder, the model. ``memory`` shows a small file of an hour faster than its own
pace to a model that is too slow, so that windows are dropped, and reads the memory of both processes while it runs.
"""

import argparse
import contextlib
import math
import socket
import statistics
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import psutil

from tagger import load_model, watch
from tagger.live.connection import CHILD_MODULE
from tagger.live.watch import Dropped, Event
from tests.child_processes import children_with
from tests.tagger.live.fake_model import FakeClassifier, fake_tagger
from tests.tagger.live.senders import RATE, packets_of_a_stream, tcp_server
from tests.videos import picture

SLOW_RATE = 10
"""Frames per second of the picture of an hour."""

BUDGET_S = 0.15
"""Seconds that a segment may come later than the model's own time."""


def measure_latency(model: str, seconds: float, hop_s: float | None, size: tuple[int, int]) -> None:
    """Prints the median time from the last frame of a window to its segment, and that of the model."""
    packets = packets_of_a_stream(seconds, *size, codec="libx264")
    begun: list[float] = []

    def send(client: socket.socket) -> None:
        begun.append(time.time())
        for number, data in enumerate(packets):
            time.sleep(max(0.0, begun[0] + number / RATE - time.time()))
            client.sendall(data)
        client.recv(1)

    loaded = load_model(model)
    dropped = 0

    def count(event: Event) -> None:
        nonlocal dropped
        dropped += event.windows if isinstance(event, Dropped) else 0

    latencies, models = [], []
    with (
        tcp_server(send) as address,
        contextlib.closing(watch(address, model=loaded, hop_s=hop_s, on_event=count)) as segments,
    ):
        # The stream begins with a key frame, so its first frame is that of the first packet.
        for segment in segments:
            last = math.ceil(segment.end_s * RATE - 1e-3) - 1
            latencies.append(time.time() - (begun[0] + last / RATE))
            models.append(segment.model_s)
            if segment.end_s > seconds - 3:
                break
    latency_s, model_s = statistics.median(latencies), statistics.median(models)
    print(f"{model}, {size[0]}×{size[1]}, {len(latencies)} windows, {dropped} dropped")
    print(f"from the last frame to the segment: median {latency_s * 1000:.0f} ms")
    print(f"the model's own time: median {model_s * 1000:.0f} ms")
    over_s = statistics.median(np.subtract(latencies, models))
    print(f"the rest: median {over_s * 1000:.0f} ms ({'at most' if over_s <= BUDGET_S else 'more than'} 150 ms)")


class SlowClassifier(FakeClassifier):
    """Takes a time for each call."""

    def __init__(self, model_s: float):
        self._model_s = model_s

    def classify(self, clips: np.ndarray, batch_size: int | None = None) -> tuple[np.ndarray, None]:
        """See Classifier.classify."""
        time.sleep(self._model_s)
        return super().classify(clips, batch_size)


def encode_long(path: Path, seconds: float) -> Path:
    """Writes a small video of any length, and returns ``path``."""
    pictures = [picture(number, 64, 48) for number in range(50)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=SLOW_RATE)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(round(seconds * SLOW_RATE)):
            frame = av.VideoFrame.from_ndarray(pictures[number % len(pictures)], format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, SLOW_RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def measure_memory(hours: float, pace: float, model_s: float) -> None:
    """Prints the memory of this process and of the decoder at ten moments of a long picture."""
    model = fake_tagger()
    model.classifier = SlowClassifier(model_s)
    dropped = 0

    def count(event: Event) -> None:
        nonlocal dropped
        dropped += event.windows if isinstance(event, Dropped) else 0

    with tempfile.TemporaryDirectory() as folder:
        duration_s = 3600 * hours
        path = encode_long(Path(folder, "hour.mkv"), duration_s)
        due_s, shown = 0.0, 0
        with contextlib.closing(watch(str(path), model=model, pace=pace, on_event=count)) as segments:
            for segment in segments:
                shown += 1
                if segment.end_s < due_s:
                    continue
                due_s += duration_s / 10
                own = psutil.Process().memory_info().rss
                child = sum(process.memory_info().rss for process in children_with(CHILD_MODULE))
                print(
                    f"{segment.end_s / 60:6.1f} min: this process {own / 1e6:.1f} MB, decoder {child / 1e6:.1f} MB, "
                    f"{shown:,} segments, {dropped:,} dropped, {segment.latency_s * 1000:.0f} ms behind",
                    flush=True,
                )


def main() -> None:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["latency", "memory"])
    parser.add_argument("--model", default="actions38")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the stream of latency")
    parser.add_argument("--hop", type=float, help="as in vtag watch")
    parser.add_argument("--size", default="320x240", help="of the picture of latency")
    parser.add_argument("--hours", type=float, default=1.0, help="length of the picture of memory")
    parser.add_argument("--pace", type=float, default=60.0, help="of the picture of memory")
    parser.add_argument("--model-seconds", type=float, default=0.01, help="time of the model of memory")
    options = parser.parse_args()
    if options.what == "latency":
        width, height = map(int, options.size.split("x"))
        measure_latency(options.model, options.seconds, options.hop, (width, height))
    else:
        measure_memory(options.hours, options.pace, options.model_seconds)


if __name__ == "__main__":
    main()
