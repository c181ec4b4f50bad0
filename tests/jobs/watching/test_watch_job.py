"""What a watch does with segments and events, which are made up here."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jobs.browse.events import Rules
from jobs.errors import Interrupted
from jobs.watching import rolled_parts, watch_job
from jobs.watching.commands import Commands, Failed
from jobs.watching.rolled_parts import RolledParts
from jobs.watching.smoother import Moment
from jobs.watching.watch_job import LoadedWatch, Note, WatchConfig, WatchSummary, run_watch
from tagger import LiveSegment
from tagger.live.watch import Dropped, Event, Retry
from tests.jobs.watching.made_up import LABELS, SAMPLING, labelled

LOST = Retry("no data came for 10 s", 1.0)

SILENCE = None
"""A second in which nothing comes."""

Step = LiveSegment | Event | Callable[[], None] | None


class View:
    """Keeps the labels of changes, and the notes, that it is to show."""

    def __init__(self) -> None:
        self.shown: list[str | Note | None] = []

    def segment(self, segment: LiveSegment) -> None:
        pass

    def moment(self, moment: Moment) -> None:
        pass

    def change(self, moment: Moment) -> None:
        self.shown.append(moment.label)

    def note(self, note: Note) -> None:
        self.shown.append(note)

    @property
    def labels(self) -> list[str | None]:
        return [each for each in self.shown if each is None or isinstance(each, str)]


def watch(
    *steps: Step,
    monkeypatch: pytest.MonkeyPatch,
    commands: Commands | None = None,
    parts: RolledParts | None = None,
    rules: Rules | None = None,
) -> tuple[View, WatchSummary]:
    """Watches a source that gives ``steps``: segments, events and silence. Functions are called between them."""

    def watch_source(*_: object, on_event: Any, on_idle: Any, **__: object) -> Iterator[LiveSegment]:
        for step in steps:
            if step is SILENCE:
                on_idle()
            elif isinstance(step, LiveSegment):
                yield step
            elif callable(step):
                step()
            else:
                on_event(step)

    monkeypatch.setattr(watch_job, "watch_source", watch_source)
    tagger: Any = SimpleNamespace(labels=LABELS)
    wanted: Any = SimpleNamespace(sampling=SAMPLING)
    source: Any = None
    view, summary = View(), WatchSummary("0")
    loaded = LoadedWatch(WatchConfig("0"), source, tagger, rules or Rules(), wanted, commands, parts)
    run_watch(loaded, [view], summary)
    return view, summary


def test_a_label_that_is_there_after_an_outage_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = Commands("true", ["Biking"], "0")
    before, after = labelled("Biking", "Biking"), labelled("Biking", "Biking", first=20)
    view, summary = watch(*before, LOST, LOST, *after, monkeypatch=monkeypatch, commands=commands)
    assert view.labels == ["Biking", "Biking"]
    assert (summary.lost, summary.commands) == (2, 2)


def test_a_label_goes_on_over_dropped_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    view, summary = watch(
        *labelled("Biking"), Dropped(1), *labelled("Biking", first=2), Dropped(3), monkeypatch=monkeypatch
    )
    assert (view.labels, summary.dropped) == (["Biking"], 4)


def test_a_label_that_is_not_certain_after_an_outage_ends_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = Rules(label_confidences={"Swing": 0.9})
    steps = [LOST, *labelled("Swing"), LOST, *labelled("Biking", first=10), LOST, *labelled("Swing", first=20)]
    view, _ = watch(*steps, monkeypatch=monkeypatch, rules=rules)
    assert view.labels == ["Biking", None]


def test_labels_that_are_smoothed_are_shown_when_the_source_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [*labelled("Biking", "Biking"), LOST]
    view, _ = watch(*steps, monkeypatch=monkeypatch, rules=Rules(smooth=5))
    assert view.shown == ["Biking", LOST]


def test_a_part_is_written_in_a_silence_and_trouble_with_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 0.0
    monkeypatch.setattr(rolled_parts, "now_s", lambda: now_s)
    model: Any = SimpleNamespace(name="actions38", hash="abc123")
    parts = RolledParts(str(tmp_path / "seen"), "0", model, SAMPLING, 3, 5.0)
    written: list[bool] = []

    def pass_time() -> None:
        nonlocal now_s
        now_s += 5.0

    def look() -> None:
        assert parts.finish_publishing() is None
        written.append((tmp_path / "seen").exists())

    watch(*labelled("Biking"), SILENCE, look, pass_time, SILENCE, look, monkeypatch=monkeypatch, parts=parts)
    assert written == [False, True]


def test_a_command_that_fails_is_told_in_a_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = Commands("false", ["Biking"], "0")
    failed = Failed("the command for Biking ended with exit status 1")
    steps = [*labelled("Swing"), lambda: monkeypatch.setattr(commands, "failures", lambda: failed), SILENCE, LOST]
    view, _ = watch(*steps, lambda: monkeypatch.undo(), monkeypatch=monkeypatch, commands=commands)
    assert view.shown == ["Swing", failed, LOST, failed]


def test_a_segment_that_is_not_kept_because_of_an_interrupt_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    class InterruptedParts(contextlib.nullcontext[None]):
        def add(self, segment: LiveSegment) -> None:
            if segment.index == 2:
                raise KeyboardInterrupt

    counted = WatchSummary("0")
    monkeypatch.setattr(f"{__name__}.WatchSummary", lambda source: counted)
    parts: Any = InterruptedParts()
    with pytest.raises(Interrupted):
        watch(*labelled("Biking", "Biking", "Biking"), monkeypatch=monkeypatch, parts=parts)
    assert counted.segments == 2
