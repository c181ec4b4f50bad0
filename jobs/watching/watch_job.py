"""Watches a source: gives each segment and each change of the label to views, and to all that was asked for."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from jobs.browse.events import Rules
from jobs.browse.labels import find_label
from jobs.browse.thresholds import read_thresholds
from jobs.cluster.termination import Sigterm
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

    Raises VtagError, and Interrupted at Ctrl-C and SIGTERM; rows are kept all the same.
    """
    try:
        with Sigterm():
            _watch(loaded, views, on_picture, summary)
    except KeyboardInterrupt:
        out = loaded.config.out
        kept = "" if out is None else f"; all segments until now are kept in {out}, and the same command continues"
        raise Interrupted(f"interrupted{kept}") from None


def _watch(
    loaded: LoadedWatch, views: Sequence[WatchView], on_picture: Callable[[bytes], None] | None, summary: WatchSummary
) -> None:
    config, source, tagger = loaded.config, loaded.source, loaded.tagger
    wanted, parts = loaded.wanted, loaded.parts
    smoother = Smoother(wanted.sampling, tagger.labels, loaded.rules)
    label: str | None = None
    with contextlib.ExitStack() as stack:
        if parts is not None:
            stack.enter_context(parts)

        def note(what: Note) -> None:
            for view in views:
                view.note(what)

        def on_event(event: Event) -> None:
            if isinstance(event, Dropped):
                summary.dropped += event.windows
            summary.lost += isinstance(event, Retry)
            note(event)
            if parts is not None and (trouble := parts.roll_if_due()) is not None:
                note(Failed(trouble))

        def show(moments: list[Moment]) -> None:
            nonlocal label
            for moment in moments:
                for view in views:
                    view.moment(moment)
                if moment.label == label:
                    continue
                label = moment.label
                for view in views:
                    view.change(moment)
                if loaded.commands is not None:
                    failed = loaded.commands.begin(moment)
                    summary.commands = loaded.commands.started
                    if failed is not None:
                        note(failed)

        segments = watch_source(
            source,
            tagger,
            wanted,
            top_k=config.top_k,
            on_event=on_event,
            on_picture=on_picture,
        )
        with contextlib.closing(segments):
            for segment in segments:
                summary.segments += 1
                # It is kept first: a view may end the watch, as a pipe does that is closed.
                trouble = None if parts is None else parts.add(segment)
                show(smoother.push(segment))
                for view in views:
                    view.segment(segment)
                if trouble is not None:
                    note(Failed(trouble))
        show(smoother.finish())
