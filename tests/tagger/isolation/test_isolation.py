"""Tests of decoder processes: they read like any reader, and a decoder that fails harms only its video.

``faulty_child`` injects faults into a real decoder process. The name of the video selects the fault.
"""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pyarrow as pa
import pytest

from jobs.tagging.decoding import decode
from jobs.tagging.transport import PartEnd
from tagger.clips import Span, VideoEnd, read_spans
from tagger.errors import VideoError, VtagError
from tagger.isolation import DecoderProcess, Limits, decoder_of_this_thread
from tagger.isolation.child import NICENESS
from tagger.isolation.shared_memory import CLIP_BUFFERS, progress_count
from tagger.preprocessing import Preprocessing
from tagger.tagger import Tagger
from tagger.video import probe
from tagger.video.choose import has_decord
from tagger.windows import Sampling
from tests.benchmarks.fuzz import fuzz
from tests.videos import encode, read_frame_number
from training.data.data_set import LabelledClip
from training.inputs.clip_decoding import decode_clips

SAMPLING = Sampling(num_frames=4, sampling_rate=1, target_fps=10.0)  # 0.4 s
PREPROCESSING = Preprocessing(size=64, resize=64)
LIMITS = Limits(frame_s=1.0, memory_bytes=512 * 2**20)

needs_decord = pytest.mark.skipif(not has_decord(), reason="decord has no wheel for this machine")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of two seconds (five windows) that decord reads, and the same for PyAV."""
    folder = tmp_path_factory.mktemp("videos")
    encode(folder / "good.mp4", seconds=2)
    encode(folder / "good.ts", seconds=2)
    return folder


@pytest.fixture
def decoder(monkeypatch: pytest.MonkeyPatch) -> Iterator[DecoderProcess]:
    monkeypatch.setattr("tagger.isolation.process.CHILD_MODULE", "tests.tagger.isolation.faulty_child")
    with DecoderProcess(LIMITS) as decoder:
        yield decoder


def faulty(videos: Path, tmp_path: Path, name: str) -> Path:
    return Path(shutil.copy(videos / f"good{Path(name).suffix}", tmp_path / name))


def read(decoder: DecoderProcess, path: Path, span_windows: int = 8) -> tuple[list[Span], VideoEnd]:
    spans = list(decoder.spans(path, SAMPLING, PREPROCESSING, span_windows=span_windows))
    end = spans[-1].end
    assert end is not None
    assert all(span.end is None for span in spans[:-1])
    assert [window.index for span in spans for window in span.windows] == list(range(end.windows))
    assert (end.error is None) == (end.error_kind is None) == (end.status == "ok")
    assert (end.status == "failed") == (end.windows == 0)
    assert "\n" not in (end.error or "")
    for span in spans:
        for window, clip in zip(span.windows, span.clips, strict=True):
            assert [read_frame_number(pixels) for pixels in clip] == [12 * window.index + 3 * i for i in range(4)]
    return spans, end


def assert_reads_the_next(decoder: DecoderProcess, videos: Path) -> None:
    _, end = read(decoder, videos / "good.mp4")
    assert (end.status, end.windows) == ("ok", 5)


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(is_so: Callable[[], bool], seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + seconds
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.02)
    return is_so()


def test_a_decoder_process_gives_the_same_spans_as_this_process(
    videos: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # The decoder process uses the real rule that chooses readers, so this process must do so, too.
    monkeypatch.undo()
    webm = encode(tmp_path / "a.webm", codec="libvpx-vp9", seconds=2)
    cut = encode(tmp_path / "cut.mp4", seconds=4, container_options={"movflags": "faststart"})
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    odd = tmp_path / os.fsdecode(b"-two\nlines 'caf\xe9'.mp4")
    shutil.copy(videos / "good.mp4", odd)
    (tmp_path / "text.mp4").write_text("not a video\n" * 99)
    paths = [videos / "good.mp4", videos / "good.ts", webm, cut, odd, tmp_path / "text.mp4", tmp_path / "none.mp4"]
    with DecoderProcess(LIMITS) as decoder:
        for path, span_windows in itertools.product(paths, (1, 3, 8)):
            here = list(read_spans(path, SAMPLING, PREPROCESSING, span_windows=span_windows))
            isolated = list(decoder.spans(path, SAMPLING, PREPROCESSING, span_windows=span_windows))
            assert [span.windows for span in isolated] == [span.windows for span in here]
            for span, other in zip(isolated, here, strict=True):
                assert np.array_equal(span.clips, other.clips)
            assert isolated[-1].end is not None
            assert here[-1].end is not None
            assert {**vars(isolated[-1].end), "decode_s": 0} == {**vars(here[-1].end), "decode_s": 0}
        assert decoder.started == 1


def test_paths_may_be_bytes_and_relative_to_where_this_process_is(
    videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with DecoderProcess() as decoder:
        read(decoder, videos / "good.mp4")
        monkeypatch.chdir(videos)
        *_, last = decoder.spans(b"good.mp4", SAMPLING, PREPROCESSING)
        assert last.end is not None and last.end.status == "ok"


FAULTS = {
    "abort": "crashed (SIGABRT)",
    "segfault": "crashed (SIGSEGV)",
    "exit": "crashed (exit status 0)",
    "noise": "sent an invalid message",
    "nonsense": "sent an invalid message",
    "many": "sent more windows than it was asked for",
    "hang": "gave no frame for 1 s",
    "eatcpp": "needed more than 0.5 GiB of memory",
}
KINDS = {"hang": "timeout", "eatcpp": "memory"}


@needs_decord
@pytest.mark.parametrize("fault", FAULTS)
def test_a_video_on_which_decord_fails_is_read_by_pyav_in_a_new_process(
    fault: str, decoder: DecoderProcess, videos: Path, tmp_path: Path
) -> None:
    _, end = read(decoder, faulty(videos, tmp_path, f"{fault}-decord-5.mp4"))
    assert (end.status, end.windows) == ("ok", 5)
    assert end.choice is not None
    assert (end.choice.decoder, end.choice.reason) == ("pyav", f"decord {FAULTS[fault]}")
    assert_reads_the_next(decoder, videos)
    assert decoder.started == 2


@pytest.mark.parametrize("fault", FAULTS)
def test_a_video_on_which_every_reader_fails_keeps_the_windows_before(
    fault: str, decoder: DecoderProcess, videos: Path, tmp_path: Path
) -> None:
    path = faulty(videos, tmp_path, f"{fault}-any-15.mp4")
    spans, end = read(decoder, path)
    # Three windows are before the fault. The last of them was held back for the span with the end.
    assert (end.status, end.windows, end.error_kind) == ("partial", 2, KINDS.get(fault, "crashed"))
    assert end.error == f"{path}: the decoder {FAULTS[fault]}; tried again with PyAV, it {FAULTS[fault]}"
    assert end.choice is not None and end.choice.decoder == "pyav"
    assert end.facts is not None
    assert (end.facts.codec, end.facts.duration_s) == ("h264", spans[-2].windows[-1].end_s)
    assert_reads_the_next(decoder, videos)
    assert decoder.started == 3


def test_a_decoder_that_eats_memory_is_stopped_at_the_limit(
    decoder: DecoderProcess, videos: Path, tmp_path: Path
) -> None:
    _, end = read(decoder, faulty(videos, tmp_path, "eat-any-0.ts"))
    assert (end.status, end.error_kind) == ("failed", "memory")
    assert_reads_the_next(decoder, videos)
    assert decoder.started == 2


def test_a_decoder_process_gives_the_windows_of_ranges(videos: Path) -> None:
    only = ((0.45, 0.5), (1.7, 1.8))
    here = list(read_spans(videos / "good.mp4", SAMPLING, PREPROCESSING, only=only))
    with DecoderProcess(LIMITS) as decoder:
        (span,) = decoder.spans(videos / "good.mp4", SAMPLING, PREPROCESSING, only=only)
        assert [window.index for window in span.windows] == [1, 4]
        assert np.array_equal(span.clips, here[0].clips)


def test_windows_outside_of_ranges_are_no_gaps_of_a_video_that_crashes(
    decoder: DecoderProcess, videos: Path, tmp_path: Path
) -> None:
    path = faulty(videos, tmp_path, "abort-any-17.ts")
    spans = list(decoder.spans(path, SAMPLING, PREPROCESSING, only=[(0.0, 0.1), (0.9, 2.0)]))
    assert [window.index for span in spans for window in span.windows] == [0, 2]
    end = spans[-1].end
    assert end is not None
    assert (end.status, end.error_kind, end.gaps) == ("partial", "crashed", ())


@pytest.mark.parametrize("fault", ["segfault", "hang"])
def test_a_file_that_crashes_or_hangs_the_probe_is_reported(
    fault: str, decoder: DecoderProcess, videos: Path, tmp_path: Path
) -> None:
    path = faulty(videos, tmp_path, f"{fault}-probe-0.mp4")
    kind = KINDS.get(fault, "crashed")
    _, end = read(decoder, path)
    assert (end.status, end.error_kind, end.facts, end.choice) == ("failed", kind, None, None)
    with pytest.raises(VideoError, match=r"the decoder (crashed|gave no frame)") as error:
        decoder.probe(path)
    assert error.value.kind == kind
    assert decoder.probe(videos / "good.mp4") == probe(videos / "good.mp4")
    with pytest.raises(VideoError, match="does not exist") as error:
        decoder.probe(videos / "none.mp4")
    assert error.value.kind == "missing"


@pytest.mark.parametrize("fault", ["abort", "hang"])
def test_windows_passed_on_before_a_crash_do_not_come_twice(
    fault: str, decoder: DecoderProcess, videos: Path, tmp_path: Path
) -> None:
    path = faulty(videos, tmp_path, f"{fault}-once-15.ts")
    spans, end = read(decoder, path, span_windows=2)
    assert [len(span.windows) for span in spans] == [2, 1, 1, 1]
    assert (end.status, end.windows) == ("ok", 5)
    assert decoder.started == 2


def test_a_slow_decoder_is_not_killed(decoder: DecoderProcess, videos: Path, tmp_path: Path) -> None:
    started = time.monotonic()
    _, end = read(decoder, faulty(videos, tmp_path, "slow-any-0.mp4"))
    assert time.monotonic() - started > 2 * LIMITS.frame_s
    assert (end.status, decoder.started) == ("ok", 1)


def test_clips_do_not_change_while_they_are_referenced(videos: Path, tmp_path: Path) -> None:
    upside_down = encode(tmp_path / "b.mp4", seconds=2, rotation=180)
    with DecoderProcess(LIMITS) as decoder:
        kept = [read(decoder, videos / "good.mp4", span_windows=1)[0][number].clips for number in (0, 4)]
        before = [clips.copy() for clips in kept]
        for span_windows in (1, 2, 8):
            other = [*decoder.spans(upside_down, SAMPLING, PREPROCESSING, span_windows=span_windows)][-1].clips
            assert not np.array_equal(other[-1], before[-1][-1])
            assert all(np.array_equal(clips, old) for clips, old in zip(kept, before, strict=True))
    assert all(np.array_equal(clips, old) for clips, old in zip(kept, before, strict=True))


def test_clips_that_are_released_are_never_copied(videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = set()
    with DecoderProcess(LIMITS) as decoder:
        for path in (videos / "good.mp4", videos / "good.ts"):
            for span in decoder.spans(path, SAMPLING, PREPROCESSING, span_windows=1):
                addresses.add(span.clips.ctypes.data)
                assert span.clips.flags.writeable
        assert 1 < len(addresses) < CLIP_BUFFERS
        assert addresses == {buffer.clips((1,)).ctypes.data for buffer in decoder._process._buffers[: len(addresses)]}


@pytest.mark.skipif(sys.platform != "linux", reason="the memory can be sealed only on Linux")
def test_a_decoder_cannot_cut_short_the_memory_from_which_its_parent_reads(
    decoder: DecoderProcess, videos: Path, tmp_path: Path
) -> None:
    spans, end = read(decoder, faulty(videos, tmp_path, "cut-any-15.mp4"), span_windows=1)
    assert (end.status, end.windows, decoder.started) == ("partial", len(spans), 1)
    assert "Operation not permitted" in (end.error or "")
    assert_reads_the_next(decoder, videos)


def test_a_process_is_replaced_after_many_requests(videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tagger.isolation.decoder.REQUESTS_PER_PROCESS", 2)
    pids = []
    with DecoderProcess(LIMITS) as decoder:
        for _ in range(5):
            assert_reads_the_next(decoder, videos)
            pids.append(decoder.pid)
        assert decoder.started == len(set(pids)) == 3
        assert [pid is not None and is_running(pid) for pid in pids] == [False] * 4 + [True]


@needs_decord
@pytest.mark.parametrize(("file", "codec", "name"), [("a.webm", "libvpx-vp9", "decord"), ("a.mp4", "libx264", "pyav")])
def test_a_decoder_that_waits_for_its_consumer_uses_no_cpu(file: str, codec: str, name: str, tmp_path: Path) -> None:
    path = encode(tmp_path / file, codec=codec, seconds=20)
    with DecoderProcess(LIMITS) as decoder:
        spans = decoder.spans(path, SAMPLING, PREPROCESSING, span_windows=2)
        next(spans)
        assert decoder.pid is not None
        child = psutil.Process(decoder.pid)
        assert wait_until(lambda: child.status() == psutil.STATUS_SLEEPING and is_quiet(child, 0.1))
        assert is_quiet(child, 1.5)
        *_, last = spans
        assert last.end is not None and last.end.choice is not None
        assert (last.end.choice.decoder, last.end.status, decoder.started) == (name, "ok", 1)


def is_quiet(process: psutil.Process, seconds: float) -> bool:
    """Checks that a process uses less than a tenth of a core for ``seconds``."""
    before = sum(process.cpu_times()[:2])
    time.sleep(seconds)
    return sum(process.cpu_times()[:2]) - before < 0.1 * seconds


def test_a_decoder_that_waits_for_its_consumer_is_at_most_one_span_ahead(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.ts", seconds=30, rate=30)
    with DecoderProcess(LIMITS) as decoder:
        spans = decoder.spans(path, SAMPLING, PREPROCESSING, span_windows=2)
        next(spans)
        assert decoder._process is not None and decoder.pid is not None
        count, child = decoder._process._count.fileno(), psutil.Process(decoder.pid)
        time.sleep(1.5 * LIMITS.frame_s)
        assert wait_until(lambda: child.status() == psutil.STATUS_SLEEPING)
        # A span is 24 frames. One span was taken, one waits, one window is held back, and decoders are some frames
        # ahead. A frame may count twice: when its packet is read, and when it is decoded.
        frames = int.from_bytes(progress_count(count), sys.byteorder)
        assert 48 <= frames < 180
        used = child.cpu_times()
        time.sleep(0.5)
        assert child.cpu_times() == used
        assert int.from_bytes(progress_count(count), sys.byteorder) == frames
        *_, last = spans
        assert last.end is not None
        assert (last.end.status, last.end.windows, decoder.started) == ("ok", 75, 1)
        assert last.end.decode_s < 1.5 * LIMITS.frame_s


def test_a_video_left_in_the_middle_does_not_disturb_the_next(decoder: DecoderProcess, videos: Path) -> None:
    first = decoder.spans(videos / "good.ts", SAMPLING, PREPROCESSING, span_windows=1)
    next(first)
    assert_reads_the_next(decoder, videos)
    with pytest.raises(RuntimeError, match="one video at a time"):
        next(first)
    assert_reads_the_next(decoder, videos)


def test_a_decoder_process_has_a_lower_priority_than_its_parent(decoder: DecoderProcess, videos: Path) -> None:
    assert_reads_the_next(decoder, videos)
    assert decoder.pid is not None
    mine, its = (os.getpriority(os.PRIO_PROCESS, pid) for pid in (0, decoder.pid))
    assert its == min(mine + NICENESS, 19)


def test_a_decoder_process_ends_with_its_thread_and_leaves_no_zombie(videos: Path) -> None:
    pids = []

    def work() -> None:
        assert_reads_the_next(decoder_of_this_thread(), videos)
        assert_reads_the_next(decoder_of_this_thread(), videos)
        pids.append(decoder_of_this_thread().pid)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(pids)) == 2
    assert not any(pid is None or psutil.pid_exists(pid) for pid in pids)


def test_a_forked_copy_of_this_process_does_not_end_its_decoder(videos: Path) -> None:
    with DecoderProcess() as decoder:
        assert_reads_the_next(decoder, videos)
        pid = os.fork()
        if not pid:
            decoder.close()
            os._exit(0)
        os.waitpid(pid, 0)
        assert_reads_the_next(decoder, videos)
        assert decoder.started == 1


def test_no_mutated_video_breaks_this_process(tmp_path: Path) -> None:
    report = fuzz(tmp_path, seed=3, count=60, seconds=60)
    assert report.broken == []
    assert {status for status, _, _ in report.ends} == {"ok", "partial", "failed"}


PARENT = """
import sys, time
from tagger.isolation import DecoderProcess, process
from tests.tagger.isolation.test_isolation import PREPROCESSING, SAMPLING
process.CHILD_MODULE = "tests.tagger.isolation.faulty_child"
decoder = DecoderProcess()
for span in decoder.spans(sys.argv[1], SAMPLING, PREPROCESSING, span_windows=1):
    print(decoder.pid, flush=True)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=lambda how: how.name)
def test_no_decoder_outlives_its_parent_even_when_stuck_in_c(how: signal.Signals, videos: Path, tmp_path: Path) -> None:
    path = faulty(videos, tmp_path, "hang-any-20.ts")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", PARENT, str(path)]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as parent:
        assert parent.stdout is not None and parent.stderr is not None
        pid = int(parent.stdout.readline())
        assert is_running(pid)
        # Like Ctrl-C, the signal goes to every process in the foreground.
        os.killpg(parent.pid, how)
        parent.wait(30)
        tracebacks = parent.stderr.read().count("Traceback")
    assert wait_until(lambda: not is_running(pid))
    assert tracebacks == (1 if how == signal.SIGINT else 0)


def test_a_process_that_cannot_be_started_is_not_reported_as_a_video_error(
    videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tagger.isolation.process.CHILD_MODULE", "tagger.nowhere")
    with pytest.raises(VtagError, match=r"cannot be started: it crashed \(exit status 1: .*No module named") as error:
        next(DecoderProcess().spans(videos / "good.mp4", SAMPLING, PREPROCESSING))
    assert not isinstance(error.value, VideoError)


def test_a_process_that_starts_too_slowly_is_reported(videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tagger.isolation.process.START_TIMEOUT_S", 0.01)
    with pytest.raises(VtagError, match=r"cannot be started: it did not start within 0\.01 s"):
        next(DecoderProcess().spans(videos / "good.mp4", SAMPLING, PREPROCESSING))


def test_the_library_training_and_the_job_decode_in_isolation(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tagger.isolation.process.CHILD_MODULE", "tests.tagger.isolation.faulty_child")
    path = faulty(videos, tmp_path, "abort-any-15.ts")
    tagger = Tagger.__new__(Tagger)
    tagger.__dict__ |= {
        "sampling": SAMPLING,
        "labels": ("a", "b"),
        "source": SimpleNamespace(info=SimpleNamespace(preprocessing=PREPROCESSING)),
        "classifier": SimpleNamespace(classify=lambda clips: (np.full((len(clips), 2), 0.5, np.float32), None)),
    }
    batch = pa.table({"video": [7], "path": [os.fsencode(path)], "was_listed": [True], "part": [0], "parts": [1]})
    clip = LabelledClip(path, "a", "g", "file")

    def tag() -> VideoEnd:
        return tagger.read(path)[1]

    def train() -> VideoEnd:
        (decoded,) = decode_clips([clip], SAMPLING, PREPROCESSING)
        assert len(decoded.windows) == 2
        return decoded.end

    def run() -> VideoEnd:
        tables = list(decode(batch, sampling=SAMPLING, preprocessing=PREPROCESSING, span_windows=1))
        return PartEnd.from_json(tables[-1]["end"].to_pylist()[-1]).end

    for work in (tag, train, run):
        # A new thread gets a new decoder process.
        with ThreadPoolExecutor(1) as pool:
            end = pool.submit(work).result()
        assert (end.status, end.windows, end.error_kind) == ("partial", 2, "crashed")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_program_with_closed_standard_streams_reads_videos(closed: str, videos: Path, tmp_path: Path) -> None:
    program = """
import sys
from tagger.isolation import decoder_of_this_thread
facts = decoder_of_this_thread().probe(sys.argv[1])
open(sys.argv[2], "w").write(facts.container)
"""
    facts = tmp_path / "facts"
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", program, videos / "good.mp4", facts]
    subprocess.run(command, check=True)
    assert "mp4" in facts.read_text()


def test_the_windows_after_damage_come_with_their_numbers(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", seconds=12, rate=25, options={"g": "25"})
    data = bytearray(path.read_bytes())
    at = len(data) // 2
    data[at : at + 1000] = bytes(1000)
    path.write_bytes(data)
    expected = list(read_spans(path, Sampling(), PREPROCESSING))
    with DecoderProcess() as decoder:
        spans = [(span.windows, span.clips.copy(), span.end) for span in decoder.spans(path, Sampling(), PREPROCESSING)]
    end, same = spans[-1][2], expected[-1].end
    assert end is not None and same is not None
    assert replace(end, decode_s=0.0, choice=None) == replace(same, decode_s=0.0, choice=None)
    assert len(end.gaps) == 1
    assert [window for windows, *_ in spans for window in windows] == [w for span in expected for w in span.windows]
    numbers = [window.index for windows, *_ in spans for window in windows]
    assert numbers != list(range(len(numbers)))
    assert np.array_equal(np.concatenate([clips for _, clips, _ in spans]), np.concatenate([s.clips for s in expected]))
