"""click's CliRunner with standard error apart, as click 8.2 and later have it. Goes when 8.2 is the oldest version."""

from importlib.metadata import version
from typing import Any

from click.testing import CliRunner as Runner
from click.testing import Result

IS_OLD = tuple(map(int, version("click").split(".")[:2])) < (8, 2)


class _BothOutputs(Result):
    @property
    def output(self) -> str:
        return self.stdout + self.stderr


class CliRunner(Runner):
    """Runs commands in this process."""

    def __init__(self) -> None:
        super().__init__(**({"mix_stderr": False} if IS_OLD else {}))

    def invoke(self, *args: Any, **kwargs: Any) -> Result:
        """Runs a command; ``output`` of the result is all that it has printed."""
        result = super().invoke(*args, **kwargs)
        if IS_OLD:
            result.__class__ = _BothOutputs
        return result
