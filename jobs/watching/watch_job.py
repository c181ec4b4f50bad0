"""Watches a source: gives each segment and each change of the label to views, and to all that was asked for."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from jobs.browse.events import Rules
from jobs.browse.labels import find_label
from jobs.browse.thresholds import read_thresholds
from jobs.cluster.termination import Termination
from jobs.errors import Interrupted
from jobs.tagging.plan import with_hop
from jobs.watching.commands import Commands, Failed
from jobs.watching.rolled_parts import RolledParts
from jobs.watching.smoother import Moment, Smoother
from tagger.live.connection import Wanted
from tagger.live.source import LiveSource, parse_source
from tagger.live.watch import Dropped, Event, LiveSegment, Retry, wanted_for, watch_source
from tagger.models.registry import BUILTIN

if TYPE_CHECKING:
    from tagger.tagger import Tagger


@dataclass(frozen=True)
class WatchConfig:
    """What to watch, and how. ``labels`` are those at which ``command`` is run."""

    source: str
    model: str = BUILTIN
    weights: Path | None = None
    frames: int | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    hop_s: float | None = None
    top_k: int = 5
    smooth: int = 1
    min_confidence: tuple[str, ...] = ()
    pace: bool = False
    out: str | None = None
    roll_s: float = 600.0
    labels: tuple[str, ...] = ()
    command: str | None = None
    in_shell: bool = False


@dataclass
class WatchSummary:
    """What was watched until now. ``dropped`` windows were not classified; the source was ``lost`` so many times."""

    source: str
    segments: int = 0
    dropped: int = 0
    lost: int = 0
    commands: int = 0


Note = Event | Failed


class WatchView(Protocol):
    """Shows what is watched. It is called in one thread."""

    def segment(self, segment: LiveSegment) -> None:
        """Shows a new segment."""

    def moment(self, moment: Moment) -> None:
        """Shows a moment whose label is known now."""

    def change(self, moment: Moment) -> None:
        """Shows a moment with another label than the one before it."""

    def note(self, note: Note) -> None:
        """Shows what happened to the source, the windows or a command."""


@dataclass(frozen=True)
class LoadedWatch:
    """A source that can be watched now: it is checked, and the model is loaded."""

    config: WatchConfig
    source: LiveSource
    tagger: "Tagger"
    rules: Rules
    wanted: Wanted
    commands: Commands | None
    parts: RolledParts | None


def prepare(config: WatchConfig) -> LoadedWatch:
    """Checks a source and its options, and loads the model. Raises VtagError."""
    from tagger.tagger import Tagger, find_model

    source = parse_source(config.source)
    lowest, by_label = read_thresholds(config.min_confidence)
    rules = Rules(smooth=config.smooth, min_confidence=lowest, label_confidences=by_label)
    found = find_model(config.model, config.weights, frames=config.frames)
    labels = [find_label(label, found.info.labels, found.name) for label in config.labels]
    commands = None
    if config.command is not None:
        commands = Commands(config.command, labels, source.name, in_shell=config.in_shell)
    with_hop(found.info.sampling, config.hop_s)  # A distance that is too short is an error.
    wanted = wanted_for(source, found.info, hop_s=config.hop_s, pace=1.0 if config.pace else None)
    parts = None
    if config.out is not None:
        parts = RolledParts(config.out, source.name, found, wanted.sampling, config.top_k, config.roll_s)
    return LoadedWatch(config, source, Tagger(found, config.device, config.precision), rules, wanted, commands, parts)


def run_watch(
    loaded: LoadedWatch,
    views: Sequence[WatchView],
    summary: WatchSummary,
    on_picture: Callable[[bytes], None] | None = None,
) -> None:
    """Watches a source to its end, and counts in ``summary``. ``on_picture`` gets a JPEG of the picture, a few in a
    second, in another thread.

    Raises VtagError, and Interrupted at Ctrl-C, SIGTERM and SIGHUP; rows are kept all the same.
    """
    try:
        with Termination():
            _Watching(loaded, views, summary).run(on_picture)
    except KeyboardInterrupt:
        out = loaded.config.out if summary.segments else None
        kept = "" if out is None else f"; all segments until now are kept in {out}, and the same command continues"
        raise Interrupted(f"interrupted{kept}") from None


class _Watching:
    """What is known while a source is watched."""

    def __init__(self, loaded: LoadedWatch, views: Sequence[WatchView], summary: WatchSummary):
        self._loaded, self._views, self._summary = loaded, views, summary
        self._parts, self._commands = loaded.parts, loaded.commands
        self._smoother = Smoother(loaded.wanted.sampling, loaded.tagger.labels, loaded.rules)
        self._label: str | None = None
        self._is_back = False

    def run(self, on_picture: Callable[[bytes], None] | None) -> None:
        with self._parts or contextlib.nullcontext():
            segments = watch_source(
                self._loaded.source,
                self._loaded.tagger,
                self._loaded.wanted,
                top_k=self._loaded.config.top_k,
                on_event=self._on_event,
                on_picture=on_picture,
                on_idle=self._on_idle,
            )
            with contextlib.closing(segments):
                for segment in segments:
                    self._take(segment)
            self._show(self._smoother.finish())
            self._note_failed_commands()

    def _take(self, segment: LiveSegment) -> None:
        # It is kept first: a view may end the watch, as a pipe does that is closed.
        trouble = None if self._parts is None else self._parts.add(segment)
        self._summary.segments += 1
        self._show(self._smoother.push(segment))
        for view in self._views:
            view.segment(segment)
        self._note_trouble(trouble)
        self._note_failed_commands()

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Retry):
            self._summary.lost += 1
            # An event ends with the picture. If its label is there when the source is back, another one begins.
            self._show(self._smoother.finish())
            self._is_back = True
        self._note(event)
        if isinstance(event, Dropped):
            self._summary.dropped += event.windows
        else:
            self._on_idle()

    def _on_idle(self) -> None:
        if self._parts is not None:
            self._note_trouble(self._parts.roll_if_quiet())
        self._note_failed_commands()

    def _show(self, moments: Sequence[Moment]) -> None:
        for moment in moments:
            for view in self._views:
                view.moment(moment)
            has_begun = moment.label != self._label or (self._is_back and moment.label is not None)
            self._label, self._is_back = moment.label, False
            if not has_begun:
                continue
            for view in self._views:
                view.change(moment)
            if self._commands is not None:
                failed = self._commands.begin(moment)
                self._summary.commands = self._commands.started
                self._note_failed(failed)

    def _note_trouble(self, trouble: str | None) -> None:
        self._note_failed(None if trouble is None else Failed(trouble))

    def _note_failed_commands(self) -> None:
        self._note_failed(None if self._commands is None else self._commands.failures())

    def _note_failed(self, failed: Failed | None) -> None:
        if failed is not None:
            self._note(failed)

    def _note(self, note: Note) -> None:
        for view in self._views:
            view.note(note)
