"""Libraries that only some formats need: the extra ``export``."""

from importlib import import_module
from typing import Any

from jobs.errors import JobError


def library(module: str, package: str, name: str) -> Any:
    """Imports a library for the format ``name``. Raises JobError, which says how to install it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise JobError(f"the format {name} needs {package}: pip install 'vtag[export]'") from error
