"""A click group whose commands are imported when they are used."""

import os
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from jobs.cli.command.endings import end_at_interrupt, one_line_errors
from jobs.cli.terminal.download import shown_downloads
from tagger.system.home import missing_variables
from tagger.system.streams import open_closed_streams


class LazyGroup(click.Group):
    """``targets`` maps a command's name to ``module:attribute``, in the order of the help page."""

    def __init__(self, *args: Any, targets: Mapping[str, str], **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._targets = targets

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the help page."""
        return list(self._targets)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports the command; None when there is no command of that name."""
        if cmd_name not in self._targets:
            return None
        module, attribute = self._targets[cmd_name].split(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command; an error ends it with one line."""
        with one_line_errors(ctx), shown_downloads():
            return super().invoke(ctx)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs as a program: handles Ctrl-C from here on, and gets along without standard streams or a home folder."""
        open_closed_streams()
        os.environ.update(missing_variables())
        end_at_interrupt()
        return super().__call__(*args, **kwargs)
