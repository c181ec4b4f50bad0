"""``vtag watch``: what a person types, and sees."""

import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import Result
from rich.console import Console

import tagger.tagger
from jobs.browse.events import Rules
from jobs.cli import main
from jobs.cli.command.story import story_of
from jobs.cli.terminal.watch_view import JsonView, LastingView, LiveBar, PlainView, note_line
from jobs.watching.commands import Failed
from tagger.live import connection
from tagger.live import watch as live_watch
from tagger.live.inbox import Lost, Opened
from tagger.live.watch import Dropped, Retry
from tests.click_runner import CliRunner
from tests.jobs.watching.made_up import SAMPLING as MADE_UP_SAMPLING
from tests.jobs.watching.made_up import labelled
from tests.jobs.watching.test_smoother import smoothed
from tests.tagger.live.fake_model import LABELS, fake_tagger
from tests.tagger.live.senders import transport_stream
from tests.videos import encode

CHANGE = re.compile(r"\d\d:\d\d:\d\d +[\d.]+ s  (dark|light|-) +0\.\d\d")


@pytest.fixture(autouse=True)
def free_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that costs nothing, with the labels dark and light."""
    use_free_model(monkeypatch)


def use_free_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces each model."""
    source = SimpleNamespace(name="free", hash="abc123", info=fake_tagger().source.info)

    def load(found: Any, device: str, precision: str) -> Any:
        loaded = fake_tagger()
        loaded.source.name, loaded.source.hash = found.name, found.hash
        return loaded

    monkeypatch.setattr(tagger.tagger, "find_model", lambda *_, **__: source)
    monkeypatch.setattr(tagger.tagger, "Tagger", load)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return encode(tmp_path / "a.mp4", seconds=3)


def vtag(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["watch", *map(str, arguments)])


def test_a_file_is_watched_and_each_change_is_a_line(video: Path) -> None:
    done = vtag(video)
    assert done.exit_code == 0, done.output
    assert all(CHANGE.fullmatch(line) for line in done.stdout.splitlines()) and done.stdout
    assert done.stderr == f"vtag: watching mp4, h264, 96×64\nvtag: the end of {video}: 11 segments\n"
    quiet = vtag(video, "-q")
    assert (quiet.exit_code, quiet.stderr) == (0, "")


def test_json_lines_have_the_time_of_the_stream_and_of_the_day(video: Path) -> None:
    lines = [json.loads(line) for line in vtag(video, "--json", "--every", "1s").stdout.splitlines()]
    assert [line["event"] for line in lines[:3]] == ["opened", "change", "segment"]
    segments = [line for line in lines if line["event"] == "segment"]
    assert [line["start_s"] for line in segments] == [0.0, 1.0, 2.0]
    for line in segments:
        assert line["ended_at"].startswith("20") and line["ended_at"].endswith("+00:00")
        assert line["latency_s"] >= 0 and line["label"] in LABELS
    assert lines[-1] == {
        "event": "summary",
        "source": str(video),
        "segments": 3,
        "dropped": 0,
        "lost": 0,
        "commands": 0,
    }


def test_quiet_json_lines_are_changes_only(video: Path) -> None:
    lines = [json.loads(line) for line in vtag(video, "--json", "-q").stdout.splitlines()]
    assert {line["event"] for line in lines} == {"change"}


def test_ctrl_c_ends_json_lines_with_the_summary(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(view: JsonView, segment: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(JsonView, "segment", interrupt)
    done = vtag(video, "--json")
    assert done.exit_code == 130
    last = json.loads(done.stdout.splitlines()[-1])
    assert (last["event"], last["segments"]) == ("summary", 1)


@pytest.mark.parametrize("options", [["--out", "seen"], ["--page"], ["--on", "dark", "--exec", "true"]])
def test_the_work_goes_on_when_the_reader_of_the_lines_is_gone(
    options: list[str], video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def close(view: PlainView, moment: Any) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.chdir(video.parent)
    monkeypatch.setattr(PlainView, "change", close)
    done = vtag(video, *options)
    assert done.exit_code == 0 and f"vtag: the end of {video}: 11 segments" in done.stderr
    assert done.stderr.count("standard output cannot be written: broken pipe; the watch goes on") == 1
    if "seen" in options:
        assert "1 video, 11 segments, complete" in CliRunner().invoke(main, ["verify", "seen"]).stdout
    # Without these, the lines are all that is asked for.
    assert vtag(video).exit_code == 1


PIPED = """
import sys
from pytest import MonkeyPatch
from tests.jobs.cli.test_cli_watch_picture import use_free_model

use_free_model(MonkeyPatch())
from jobs.cli import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize(("options", "status"), [(["--out", "seen"], 0), ([], 1)])
def test_a_pipe_that_is_closed_is_no_error_at_the_end(options: list[str], status: int, video: Path) -> None:
    command = [sys.executable, "-c", PIPED, "watch", str(video), "--json", *options]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        command, stdout=writing, stderr=subprocess.PIPE, text=True, cwd=video.parent, env=environment, check=False
    )
    os.close(writing)
    assert done.returncode == status
    assert [line.split(":")[1] for line in done.stderr.splitlines()] == [" standard output cannot be written"] * len(
        options[:1]
    )


def test_a_silent_pipe_is_kept_when_the_time_of_its_part_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "seen"
    reading, writing = os.pipe()
    monkeypatch.setattr(connection, "STDIN", reading)
    monkeypatch.setattr(live_watch, "IDLE_S", 0.05)
    there: list[bool] = []

    def feed() -> None:
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(transport_stream(2))
            pipe.flush()
            until_s = time.monotonic() + 60
            while not (is_there := out.exists()) and time.monotonic() < until_s:
                time.sleep(0.01)
        there.append(is_there)

    thread = threading.Thread(target=feed)
    thread.start()
    done = vtag("-", "--out", out, "--roll", "10ms")
    thread.join()
    os.close(reading)
    assert (done.exit_code, there) == (0, [True]), done.output


def test_segments_are_kept_and_the_commands_for_results_take_them(video: Path, tmp_path: Path) -> None:
    out = tmp_path / "seen"
    for _ in range(2):
        done = vtag(video, "--out", out)
        assert done.exit_code == 0, done.output
    assert done.stderr.endswith(f": 11 segments; kept in {out}\n")
    checked = CliRunner().invoke(main, ["verify", str(out)])
    assert checked.exit_code == 0 and "2 videos, 22 segments, complete" in checked.stdout


def test_a_label_runs_a_command(video: Path, tmp_path: Path) -> None:
    done = vtag(video, "--on", "DARK", "--on", "light", "--exec", f"touch {tmp_path}/seen", "--json")
    assert json.loads(done.stdout.splitlines()[-1])["commands"] >= 1
    until = time.monotonic() + 30
    while not (tmp_path / "seen").exists():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_page_is_served_while_it_is_watched(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from jobs.watching.live_page import LivePage

    pictures: list[bytes] = []
    monkeypatch.setattr(LivePage, "on_picture", lambda page, picture: pictures.append(picture))
    done = vtag(video, "--page")
    assert re.search(r"vtag: the picture is at http://127\.0\.0\.1:\d+/[\w-]{32}/\n", done.stderr)
    assert pictures and pictures[0].startswith(b"\xff\xd8")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_as_ctrl_c_does_and_rows_are_kept(
    number: signal.Signals, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "seen"
    # nohup ignores SIGHUP.
    before = signal.signal(number, signal.SIG_DFL)

    def terminate(view: PlainView, segment: Any) -> None:
        if segment.index == 3:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(PlainView, "segment", terminate)
    done = vtag(video, "--out", out)
    signal.signal(number, before)
    assert done.exit_code == 130
    kept = f"all segments until now are kept in {out}, and the same command continues"
    assert done.stderr.splitlines()[-1] == f"vtag: interrupted; {kept}"
    checked = CliRunner().invoke(main, ["verify", str(out)])
    assert re.search(r"1 video, [34] segments, complete", checked.stdout)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("vtag-")]
    assert not Path(f"{out}.run").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([""], 1, "the source is empty; give a camera, an address, a file, or - for standard input"),
        (["nothing.mp4"], 1, "nothing.mp4 cannot be watched: no such file or directory"),
        (["/dev/video973"], 1, "there is no camera /dev/video973"),
        (
            ["s3://b/v"],
            2,
            "'s3://b/v' is the address of a folder, not of a stream (rtsp, rtsps, rtmp, rtmps, http, https, tcp, udp)",
        ),
        (["."], 2, "'.' is a folder; also give --out"),
        (["rtsp://camera/1", "--pace"], 1, "pace would change nothing: rtsp://camera/1 is a live stream"),
        ([".", "--page"], 2, "--page would change nothing: SOURCE is a folder"),
        (["{video}", "--settle", "1s"], 2, "--settle would change nothing: SOURCE is no folder"),
        (["{video}", "--ext", "x"], 2, "--ext would change nothing: SOURCE is no folder"),
        (["{video}", "--on", "dark"], 2, "--on and --exec belong together"),
        (["{video}", "--exec", "true"], 2, "--on and --exec belong together"),
        (["{video}", "--on", "drak", "--exec", "true"], 1, "free has no label 'drak'; did you mean dark?"),
        (["{video}", "--on", "dark", "--exec", "echo 'a"], 1, "--exec echo 'a is no command"),
        (["{video}", "--every", "10ms"], 1, "windows every 0.01 s are too close"),
        (["{video}", "--smooth", "2"], 2, "2 is even"),
        (["{video}", "--shell"], 2, "--shell would change nothing"),
        (["{video}", "--roll", "1min"], 2, "--roll would change nothing"),
        (["{video}", "--port", "1"], 2, "--port would change nothing"),
        (["{video}", "--out", "t.parquet"], 1, "is one file; a live picture is kept in a folder"),
        (["{video}", "--min-confidence", "7"], 1, "7 is no confidence"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    arguments: list[str], status: int, message: str, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(video.parent)
    done = vtag(*(argument.format(video=video) for argument in arguments))
    assert done.exit_code == status
    assert message in done.stderr.splitlines()[-1]
    assert not done.stdout and "Traceback" not in done.stderr


def test_no_error_shows_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    address = "rtsp://ada:hunter2@camera/1?token=hunter2"
    monkeypatch.setattr(sys, "argv", ["vtag", "watch", address])
    assert "rtsp://ada@camera/1?token=***" in story_of(KeyError("deep down")) and "hunter2" not in story_of(KeyError())
    assert "hunter2" not in vtag("ftp://ada:hunter2@host/1").output

    def fail(*_: object, **__: object) -> None:
        raise KeyError("deep down")

    monkeypatch.setattr(tagger.tagger, "Tagger", fail)
    assert "while watching rtsp://ada@camera/1?token=***;" in (done := vtag(address)).stderr
    assert "hunter2" not in done.output


BAR = LiveBar(Console(file=io.StringIO()))


@pytest.mark.parametrize("view", [BAR, PlainView(), PlainView(quiet=True), JsonView(), JsonView(quiet=True)])
def test_a_failure_is_always_told_on_standard_error(
    view: LiveBar | PlainView | JsonView, capsys: pytest.CaptureFixture[str]
) -> None:
    view.note(Failed("seen cannot be written: no space left on device"))
    assert capsys.readouterr().err == "vtag: seen cannot be written: no space left on device\n"


def test_a_failure_is_told_when_the_lines_are_shown_no_more(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    view = LastingView(JsonView())

    def close(*_: object, **__: object) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(JsonView, "change", close)
    monkeypatch.setattr(JsonView, "segment", pytest.fail)
    (moment,) = smoothed(labelled("Biking"), Rules(), MADE_UP_SAMPLING).values()
    view.change(moment)
    view.segment(labelled("Biking")[0])
    view.note(Failed("seen cannot be written: no space left on device"))
    output, seen = (line.removeprefix("vtag: ") for line in capsys.readouterr().err.splitlines())
    assert output.startswith("standard output cannot be written: broken pipe;")
    assert seen == "seen cannot be written: no space left on device"


def test_the_help_says_how_windows_overlap() -> None:
    words = " ".join(CliRunner().invoke(main, ["watch", "--help"]).stdout.split())
    assert words.count("half a window; of a folder, no overlap") == 2


def test_notes_are_one_line_each() -> None:
    assert note_line(Opened("rtsp", "h264", 1920, 1080)) == "watching rtsp, h264, 1920×1080"
    assert note_line(Retry("connection refused", 4.0)) == "the picture is lost: connection refused; trying again in 4 s"
    assert note_line(Dropped(1)) == "the model does not keep up: 1 window dropped"
    assert note_line(Lost("no picture came for 2.0 s")) == "not all of the picture was seen: no picture came for 2.0 s"
    assert note_line(Failed("the command ended with exit status 1")) == "the command ended with exit status 1"


def test_dropped_windows_do_not_fill_the_screen(capsys: pytest.CaptureFixture[str]) -> None:
    view = PlainView()
    for _ in range(500):
        view.note(Dropped(3))
    assert capsys.readouterr().err == "vtag: the model does not keep up: 3 windows dropped\n"


def test_the_bar_shows_the_last_minute_and_lines_stay_above_it() -> None:
    console = Console(width=60, force_terminal=True, color_system=None, record=True, file=io.StringIO())
    bar = LiveBar(console)
    segments = labelled(*["Biking"] * 30, *["Swing"] * 40)
    moments = smoothed(segments, Rules(), MADE_UP_SAMPLING)
    bar.change(moments[0])
    for segment in segments:
        bar.moment(moments[segment.index])
        bar.segment(segment)
    console.print(bar.draw(60))
    change, cells, legend, newest = console.export_text().splitlines()
    assert "Biking" in change and "0.80" in change
    assert set(cells) == {"█"} and len(cells) == 60
    assert legend.split() == ["█", "Biking", "█", "Swing"]
    assert newest.rstrip() == "Swing 0.80 · 250 ms behind"
