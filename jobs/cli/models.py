"""``vtag models``: lists the models, and describes one of them."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from jobs.cli.command.options import examples, json_option, verbose_option

if TYPE_CHECKING:
    from rich.console import Console

    from tagger.models.known_model import KnownModel

ORIGIN = ("source", "licence", "protocol")
"""What the list tells about the weights of each model."""

LABELS_SHOWN = 40
"""Number of labels that the description of a model names."""


@click.command(epilog=examples("vtag models", "vtag models actions38", "vtag models model.safetensors --json"))
@click.argument("model", metavar="[NAME|FILE]", required=False)
@json_option("Print JSON instead of a table, with all labels and scores.")
@verbose_option
def models(model: str | None, as_json: bool, verbose: bool) -> None:
    """List the models, or describe one, by name or model file.

    The list says whether each model is ready, is downloaded when first used, or must be trained, and where its weights
    come from, under which licence, and how their scores were measured. A description also has the labels, sampling,
    preprocessing, training data and scores, as far as the model has them.
    """
    from rich.console import Console

    found = known_models() if model is None else describe(model)
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
    elif isinstance(found, list):
        _print_list(found, Console())
    else:
        _print_description(found, Console())


def known_models() -> list[dict[str, Any]]:
    """Returns the models that have a name, each with a summary, its state, and the path and origin of its weights."""
    from tagger.models.registry import KNOWN_MODELS

    return [_row(model) for model in KNOWN_MODELS.values()]


def describe(model: str) -> dict[str, Any]:
    """Returns the description of a model, without loading or downloading its weights. Raises ModelFileError."""
    from tagger import find_model
    from tagger.models.embeddings.embedding import what_is_kept
    from tagger.models.registry import BUILTIN, KNOWN_MODELS
    from tagger.segments import BACKGROUND

    known = KNOWN_MODELS.get(model)
    if known is None or model == BUILTIN:
        source = find_model(model)
        file = {"file": str(source.file), "bytes": source.file.stat().st_size, "sha256": source.hash}
        origin = {} if known is None else _origin(known)
        background = {"background class": True} if BACKGROUND in source.info.labels else {}
        kept = {"embeddings": what_is_kept(source.info)}
        return {"name": source.name, **file, **origin, **asdict(source.info), **kept, **background}
    if known.is_downloaded:
        others = [asdict(sampling) for sampling in known.samplings[1:]]
        kept = {"embeddings": what_is_kept(known.info())}
        return {**_row(known), **asdict(known.info()), **kept, **({"other samplings": others} if others else {})}
    return {**_row(known), "preprocessing": asdict(known.preprocessing)}


def _row(known: "KnownModel") -> dict[str, Any]:
    from tagger.models.registry import BUILTIN, builtin_model_path
    from tagger.models.weights import cached_file

    state, path = "to be trained", None
    if known.name == BUILTIN:
        state, path = "ready", builtin_model_path()
    elif known.is_downloaded and known.weights is not None:
        path = cached_file(known.weights)
        state = "ready" if path.exists() else "to be downloaded"
    row = {"name": known.name, "summary": known.summary, "state": state, "weights": path and str(path)}
    return {**row, **_origin(known)}


def _origin(known: "KnownModel") -> dict[str, Any]:
    """Returns source, licence and protocol of the weights, and the address and the check of a download."""
    weights = known.weights
    if weights is None:
        return {"source": "none: trained from scratch", "licence": None, "protocol": None}
    origin = {name: getattr(weights, name) for name in ORIGIN}
    return {**origin, "url": weights.url, "check": weights.check} if weights.url else origin


def _print_list(rows: list[dict[str, Any]], console: "Console") -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("model", style="bold", no_wrap=True)
    table.add_column("what it is")
    table.add_column("state", no_wrap=True)
    for row in rows:
        table.add_row(row["name"], row["summary"], row["state"])
    console.print(table)
    console.print()
    for row in rows:
        if row["state"] == "to be downloaded":
            console.print(f"{row['name']} is downloaded when first used, to {row['weights']}", soft_wrap=True)
    console.print()
    _print_origins(rows, console)
    console.print()
    console.print("Train your own:   vtag train DATA --model NAME --out model.safetensors", highlight=False)
    console.print("Describe a model: vtag models NAME|FILE", highlight=False)


def _print_origins(rows: list[dict[str, Any]], console: "Console") -> None:
    """Prints source, licence and protocol of the weights. Models with the same weights share a paragraph."""
    from rich.table import Table
    from rich.text import Text

    shared: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        shared.setdefault(row["source"], []).append(row)
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for group in shared.values():
        table.add_row(Text("weights of", "bold"), Text(", ".join(row["name"] for row in group), "bold"))
        for name in ORIGIN:
            if group[0][name]:
                table.add_row(f"  {name}", Text(group[0][name]))
    console.print(table, highlight=False)


def _print_description(model: dict[str, Any], console: "Console") -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in model.items():
        # ``embeddings`` says the same in words as ``embedding``.
        if value not in (None, {}, ()) and name != "embedding":
            table.add_row(name, Text(_shown(name, value)))
    console.print(table, highlight=False)


def _shown(name: str, value: Any) -> str:
    """Returns a value of a description as text."""
    match name:
        case "labels":
            more = f", and {len(value) - LABELS_SHOWN} more (all: --json)" if len(value) > LABELS_SHOWN else ""
            return f"{len(value)}: {', '.join(value[:LABELS_SHOWN])}{more}"
        case "sampling":
            from tagger import Sampling

            sampling = Sampling(**value)
            return f"{sampling}: windows of {sampling.window_s:.2f} s"
        case "other samplings":
            from tagger import Sampling

            return "\n".join(f"--frames {each['num_frames']}: {Sampling(**each)}" for each in value)
        case "preprocessing":
            side, crop = value["resize"], f"{value['size']}×{value['size']}"
            views = {
                "whole": f"the whole frame, squeezed to {crop}",
                "centre": f"shorter side to {side}, centre {crop}",
                "three": f"shorter side to {value['size']}, three crops {crop}: both ends and the middle",
            }
            colours = "; ".join(
                f"{key} {', '.join(f'{number:.3g}' for number in value[key])}" for key in ("mean", "std")
            )
            return f"{views[value['view']]}; {colours}"
        case "bytes":
            return f"{value / 1e6:.1f} MB"
        case "background class":
            return "yes: windows that show none of the other classes get the label background"
        case "temperature":
            return f"{value:.3g}"
        case "ood" if value:
            energies = value["energies"]
            return f"{len(energies)} energies of validation windows, {energies[0]:.3g} to {energies[-1]:.3g}"
    return _flat(value)


def _flat(value: Any, separator: str = "\n") -> str:
    """Returns values with their names, one per line; nested values share a line. Tables are left to ``--json``."""
    if isinstance(value, dict):
        named = [f"{key} {_flat(inner, ', ')}" for key, inner in value.items() if not _is_table(inner)]
        return separator.join([*named, *(["tables: --json"] if len(named) < len(value) else [])])
    if isinstance(value, list | tuple):
        return ", ".join(map(_flat, value)) or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _is_table(value: Any) -> bool:
    return isinstance(value, list | tuple) and any(isinstance(inner, list | tuple | dict) for inner in value)
