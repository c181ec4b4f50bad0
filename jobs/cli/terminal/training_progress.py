"""The progress of a training in the terminal."""

from collections import Counter
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from training.fitting.epochs import Epoch, Step
from training.fitting.watch import Reading, Watch

PART_TITLES = {"train": "Training clips", "val": "Validation clips", "test": "Scoring clips"}


class TrainingProgress:
    """Shows bars while clips are read and during epochs, and prints a line for each finished epoch.

    When the console is not a terminal, prints lines only.
    """

    def __init__(self, console: Console):
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not console.is_terminal or console.quiet,
        )
        self._reading: dict[str, TaskID] = {}
        self._epoch: TaskID | None = None
        self._unreadable: Counter[str] = Counter()

    def __enter__(self) -> Self:
        # Rich before 14 prints an empty line when a disabled bar is stopped.
        if not self._bars.disable:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._bars.disable:
            self._bars.stop()

    @property
    def watch(self) -> Watch:
        """Returns the callbacks for a training."""
        return Watch(self.on_reading, self.on_step, self.on_epoch, self.on_resume)

    def on_reading(self, reading: Reading) -> None:
        """Shows that a clip has been read or skipped."""
        if reading.part not in self._reading:
            self._reading[reading.part] = self._bars.add_task(PART_TITLES[reading.part], total=reading.total, note="")
        self._bars.update(self._reading[reading.part], completed=reading.done)
        if reading.unreadable:
            self._unreadable[reading.part] += 1
            self._console.print(f"Skipped: {reading.unreadable}", highlight=False, markup=False, soft_wrap=True)
        if reading.done == reading.total:
            # The next stage may read the same clips again, in another form.
            self._bars.remove_task(self._reading.pop(reading.part))
            unreadable = self._unreadable.pop(reading.part, 0)
            if self._bars.disable:
                skipped = f", {unreadable} skipped" if unreadable else ""
                self._console.print(
                    f"{PART_TITLES[reading.part]}: {reading.done - unreadable} read{skipped}", highlight=False
                )

    def on_resume(self, epoch: Epoch) -> None:
        """Prints that an interrupted stage continues after ``epoch``."""
        self._console.print(f"Continuing after epoch {epoch.number}/{epoch.of}", highlight=False)

    def on_step(self, step: Step) -> None:
        """Shows a step within an epoch. The time left is that of all epochs of the stage."""
        whole = step.total * step.of
        done = step.total * (step.epoch - 1) + step.windows
        if self._epoch is None:
            self._epoch = self._bars.add_task("", total=whole, completed=done, note="")
        pace = step.windows / max(step.seconds, 1e-9)
        # In an epoch, the head sees all windows of a clip, and layers see one view of each clip.
        what = "windows" if step.stage == "head" else "clips"
        note = f"loss {step.loss:.3f}, accuracy {step.accuracy:.3f}, {pace:.1f} {what}/s"
        self._bars.update(
            self._epoch, completed=done, total=whole, description=f"Epoch {step.epoch}/{step.of}", note=note
        )

    def on_epoch(self, epoch: Epoch) -> None:
        """Prints the losses and accuracies of a finished epoch."""
        if self._epoch is not None and epoch.number == epoch.of:
            self._bars.remove_task(self._epoch)
            self._epoch = None
        self._console.print(
            f"Epoch {epoch.number:>{len(str(epoch.of))}}/{epoch.of}  "
            f"loss {epoch.train_loss:.3f}, accuracy {epoch.train_accuracy:.3f}; validation: "
            f"loss {epoch.val_loss:.3f}, windows {epoch.val_accuracy:.3f}, videos {epoch.val_video_accuracy:.3f}",
            highlight=False,
            soft_wrap=True,
        )
