"""Callbacks for the progress of a training."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from training.data.data_set import LabelledClip, Part
from training.fitting.epochs import Epoch, Step
from training.inputs.ingest import OnClip


@dataclass(frozen=True)
class Reading:
    """Progress through the clips of one part: reading them, and computing features when the backbone is frozen."""

    part: Part
    done: int
    total: int
    unreadable: str | None = None


@dataclass(frozen=True)
class Watch:
    """Callbacks for the progress of a training.

    ``on_resume`` gets the epoch after which an interrupted stage goes on, before any other call for that stage.
    """

    on_reading: Callable[[Reading], None] = lambda reading: None
    on_step: Callable[[Step], None] = lambda step: None
    on_epoch: Callable[[Epoch], None] = lambda epoch: None
    on_resume: Callable[[Epoch], None] = lambda epoch: None

    @classmethod
    def telling(cls, tell: Callable[[tuple[str, Any]], None]) -> Self:
        """A watch that tells everything as an event, a name with a value, to another process."""
        return cls(**{field: _named(name, tell) for name, field in _EVENTS.items()})

    def on_event(self, event: tuple[str, Any]) -> None:
        """Takes an event of a watch in another process, made by ``telling``."""
        name, value = event
        getattr(self, _EVENTS[name])(value)


_EVENTS = {"reading": "on_reading", "step": "on_step", "epoch": "on_epoch", "resume": "on_resume"}


def _named(name: str, tell: Callable[[tuple[str, Any]], None]) -> Callable[[Any], None]:
    return lambda value: tell((name, value))


def clip_counter(part: Part, total: int, *, on_reading: Callable[[Reading], None]) -> OnClip:
    """A callback that counts clips and reports each as a ``Reading`` of ``part``."""
    done = 0

    def on_clip(clip: LabelledClip, problem: str | None) -> None:
        nonlocal done
        done += 1
        on_reading(Reading(part, done, total, problem))

    return on_clip
