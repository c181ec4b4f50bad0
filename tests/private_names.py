"""Finds uses of private names of dependencies in source code: they tie the project to one version of a dependency."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
OWN = ("tagger", "training", "jobs", "tests", "examples")
ALLOWED_FOLDER = ROOT / "tagger/models/fast"
"""The only folder with such uses. Each of them has a fall-back, and a test that forces the fall-back."""

PUBLIC = {"_asdict", "_fields", "_replace"}
"""Documented names of the standard library (collections.namedtuple) that begin with an underscore."""


def sources() -> list[Path]:
    """All Python files of the project."""
    return sorted(path for folder in OWN for path in (ROOT / folder).rglob("*.py"))


def is_private(name: str) -> bool:
    """Returns whether a name begins with an underscore and is no special name such as ``__init__``."""
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__")) and name.strip("_") != ""


def defined_names(files: list[Path]) -> set[str]:
    """Private names that the project itself defines: functions, classes, variables, attributes and parameters."""
    found: set[str] = set()
    for node in (node for file in files for node in ast.walk(ast.parse(file.read_text("utf-8")))):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name) | ast.keyword(arg=str(name)):
                found.add(name)
            case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name, ctx=ast.Store()):
                found.add(name)
            case ast.alias(asname=str(name)):
                found.add(name)
    return {name for name in found if is_private(name)}


def private_uses(source: str, defined: set[str]) -> Iterator[tuple[int, str]]:
    """Yields line and name of each use of a private name of a dependency. ``defined`` are the project's own names."""
    tree = ast.parse(source)
    modules: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                modules[alias.asname or alias.name.split(".")[0]] = alias.name.split(".")[0]
                if _is_foreign(alias.name) and any(map(is_private, alias.name.split("."))):
                    yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom) and node.module and _is_foreign(node.module):
            for alias in node.names:
                modules[alias.asname or alias.name] = node.module.split(".")[0]
                full = f"{node.module}.{alias.name}"
                if any(map(is_private, full.split("."))):
                    yield node.lineno, full
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in PUBLIC:
            root = node.value
            while isinstance(root, ast.Attribute):
                root = root.value
            module = modules.get(root.id) if isinstance(root, ast.Name) else None
            is_unknown = node.attr not in defined and module not in sys.stdlib_module_names
            if is_unknown or (module is not None and _is_foreign(module)):
                yield node.lineno, ast.unparse(node)


def _is_foreign(module: str) -> bool:
    top = module.split(".")[0]
    return top not in OWN and top not in sys.stdlib_module_names
