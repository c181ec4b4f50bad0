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

    ``on_resume`` gets the last finished epoch of an interrupted stage, after the clips are read and before the first
    step.
    """

    on_reading: Callable[[Reading], None] = lambda reading: None
    on_step: Callable[[Step], None] = lambda step: None
    on_epoch: Callable[[Epoch], None] = lambda epoch: None
    on_resume: Callable[[Epoch], None] = lambda epoch: None

    @classmethod
    def forwarding(cls, send: Callable[[tuple[str, Any]], None]) -> Self:
        """Returns a watch that passes each call to ``send`` as an event, which is a name and a value.

        ``send`` can take it to another process.
        """
        return cls(**{field: _as_event(name, send) for name, field in _EVENTS.items()})

    def on_event(self, event: tuple[str, Any]) -> None:
        """Calls the callback for an event of a watch that ``forwarding`` made."""
        name, value = event
        getattr(self, _EVENTS[name])(value)


_EVENTS = {"reading": "on_reading", "step": "on_step", "epoch": "on_epoch", "resume": "on_resume"}


def _as_event(name: str, send: Callable[[tuple[str, Any]], None]) -> Callable[[Any], None]:
    return lambda value: send((name, value))


def clip_counter(part: Part, total: int, *, on_reading: Callable[[Reading], None]) -> OnClip:
    """Returns a callback that counts clips and reports each as a ``Reading`` of ``part``."""
    done = 0

    def on_clip(clip: LabelledClip, problem: str | None) -> None:
        nonlocal done
        done += 1
        on_reading(Reading(part, done, total, problem))

    return on_clip
