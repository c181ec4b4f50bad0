"""``vtag --version``: the versions that a bug report needs."""

import importlib.metadata
import platform

import click

import tagger

PACKAGES = {"torch": "torch", "Ray": "ray", "PyAV": "av", "decord": "decord"}
"""Printed name of each dependency, and the name of its package."""


def print_versions(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    """Prints one line for each version and ends the program."""
    if not value or ctx.resilient_parsing:
        return
    click.echo(f"vtag {tagger.__version__}")
    click.echo(f"Python {platform.python_version()} ({platform.system()} {platform.machine()})")
    for name, package in PACKAGES.items():
        click.echo(f"{name} {_version(package)}{_cuda() if package == 'torch' else ''}")
    ctx.exit()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "is not installed"


def _cuda() -> str:
    """The CUDA that torch was built for, and the GPU that it finds."""
    try:
        import torch

        if torch.version.cuda is None:
            return " (without CUDA)"
        gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    except Exception as error:  # The bug report may be about a broken installation.
        return f" (does not work: {error})"
    return f" (CUDA {torch.version.cuda}, {gpu})"
