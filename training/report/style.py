"""The style of the pages that vtag writes, in files beside this module."""

from importlib.resources import files


def style_file(name: str) -> str:
    """Returns the text of a file: ``style.css`` is for all pages of vtag, ``page.css`` for reports of models."""
    return files("training.report").joinpath(name).read_text("utf-8")
