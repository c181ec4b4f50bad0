"""The import graph of the project, read from its source code with ``ast``.

Imports under ``TYPE_CHECKING`` and inside functions count as well: a reader follows them, too.
"""

import ast
from collections import defaultdict
from collections.abc import Container, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

Graph = Mapping[str, set[str]]
"""The modules that each module imports."""

FLOORS = {
    "tagger": (
        ("errors", "file_content", "windows", "preprocessing", "schema", "ood"),
        ("window_cutter",),
        ("system",),
        ("video",),
        ("clips", "segments"),
        ("isolation",),
        ("model_file",),
        ("models",),
        ("cuda",),
        ("classifier",),
        ("inspection", "tagger"),
        ("live",),
    ),
    "training": (("distributed",), ("data",), ("inputs",), ("evaluation",), ("teaching",), ("fitting",), ("report",)),
    "jobs": (
        ("errors",),
        ("storage",),
        ("archive",),
        ("result", "cluster"),
        ("tagging", "training"),
        ("browse",),
        ("watching",),
        ("measure",),
        ("cli.terminal",),
        ("cli.command",),
        ("cli",),
    ),
}
"""The folders and modules of each package, floor by floor from the ground. Each may import from lower floors only."""

PACKAGES = tuple(FLOORS)
"""Each package may import from those before it."""

PRINTERS = {"click", "rich"}

SLOW = {"pandas", "sklearn", "torchvision"}
"""Libraries that take up to two seconds of a core to import, in each process of a job or a training."""

COMMAND_FOLDERS = (["cli"], ["cli", "questions"])

MAX_MODULES = 14
"""Modules that a folder may hold, beside its ``__init__``."""


def modules(root: Path, packages: tuple[str, ...] = PACKAGES) -> dict[str, Path]:
    """Returns the file of each module by its dotted name. A folder's ``__init__`` has the name of the folder."""
    found = {}
    for path in sorted(path for package in packages for path in (root / package).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def import_graph(files: Mapping[str, Path]) -> dict[str, set[str]]:
    """Returns the modules among ``files`` that each of them imports."""
    graph: dict[str, set[str]] = defaultdict(set)
    for module, path in files.items():
        graph[module] = set()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                graph[module].update(alias.name for alias in node.names if alias.name in files)
            elif isinstance(node, ast.ImportFrom):
                for name in (f"{node.module}.{alias.name}" for alias in node.names):
                    if name in files:
                        graph[module].add(name)
                    elif node.module in files:
                        graph[module].add(node.module)
    return graph


def import_cycles(graph: Graph) -> list[str]:
    """Returns one import cycle as a line; an empty list when there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        # ``graphlib`` lists each module before the one that imports it.
        return [" imports ".join(reversed(error.args[1]))]
    return []


def upward_imports(graph: Graph, floors: Mapping[str, tuple[tuple[str, ...], ...]] = FLOORS) -> list[str]:
    """Returns the imports from a higher floor, or from another folder of the same floor, as lines."""
    packages = list(floors)

    def place(module: str) -> tuple[int, int, str]:
        """Number of the package, number of the floor, and the folder or module that the floor lists."""
        package, _, inside = module.partition(".")
        entries = [
            (number, entry)
            for number, floor in enumerate(floors[package])
            for entry in floor
            if inside == entry or inside.startswith(f"{entry}.")
        ]
        if not inside:
            # The package itself offers names from every floor.
            return packages.index(package), len(floors[package]), package
        if not entries:
            raise AssertionError(f"{module} is on no floor; add it to FLOORS in {__name__}")
        number, entry = max(entries, key=lambda found: len(found[1]))
        return packages.index(package), number, entry

    lines = []
    for module, imported in edges(graph):
        here, there = place(module), place(imported)
        if there[:2] > here[:2] or (there[:2] == here[:2] and there[2] != here[2]):
            lines.append(f"{module} imports {imported}")
    return lines


def edges(graph: Graph) -> Iterator[tuple[str, str]]:
    """Yields each import, sorted: the module, and the module that it imports."""
    for module in sorted(graph):
        for imported in sorted(graph[module]):
            yield module, imported


def crowded_folders(files: Mapping[str, Path]) -> list[str]:
    """Returns the folders with too many modules, as lines."""
    counts: dict[Path, int] = defaultdict(int)
    for path in files.values():
        counts[path.parent] += path.name != "__init__.py"
    return [f"{folder} holds {count} modules" for folder, count in counts.items() if count > MAX_MODULES]


def repeated_names(files: Mapping[str, Path]) -> list[str]:
    """Returns the modules of one package that have the same name, as lines.

    Modules of COMMAND_FOLDERS are left out: they are named after commands.
    """
    places: dict[tuple[str, str], list[str]] = defaultdict(list)
    for module, path in files.items():
        package, *folders, name = module.split(".") if "." in module else (module, "")
        if path.name != "__init__.py" and folders not in COMMAND_FOLDERS:
            places[package, name].append(module)
    return [" and ".join(found) for found in places.values() if len(found) > 1]


def imports_one_of(node: ast.AST, libraries: Container[str]) -> bool:
    """Tells whether a node of a module imports one of the libraries, or something in it."""
    match node:
        case ast.Import(names=names):
            return any(alias.name.split(".")[0] in libraries for alias in names)
        case ast.ImportFrom(module=str(module)):
            return module.split(".")[0] in libraries
    return False


def slow_modules(files: Mapping[str, Path]) -> list[str]:
    """Returns the modules that import one of ``SLOW`` whenever they are imported, and not only in a function."""
    return [
        module
        for module, path in files.items()
        if any(imports_one_of(node, SLOW) for node in ast.parse(path.read_text("utf-8")).body)
    ]


def printing_modules(files: Mapping[str, Path]) -> list[str]:
    """Returns the modules outside of ``jobs.cli`` that call ``print`` or import click or rich."""

    def prints(node: ast.AST) -> bool:
        match node:
            case ast.Call(func=ast.Name(id="print")):
                return True
        return imports_one_of(node, PRINTERS)

    return [
        module
        for module, path in files.items()
        if not f"{module}.".startswith("jobs.cli.") and any(map(prints, ast.walk(ast.parse(path.read_text("utf-8")))))
    ]
