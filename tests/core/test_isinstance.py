"""No `isinstance` on paths, objectives, families and modalities outside of their packages."""

import ast
import functools
import pathlib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

SOURCE = pathlib.Path(__file__).parents[2] / "src"
ALLOWED = ("feller.models.families",)
"""Folders that may ask."""
MODALITY = ("feller.data.modality", "feller.data.loading.user_modality")
"""Where `view` is, and where a class of the user's is looked at."""
CLASSES = {
    "feller.paths.path.Path": ((*ALLOWED, "feller.paths"), 0),
    "feller.models.families.model_family.ModelFamily": (ALLOWED, 0),
    "feller.training.objective.Objective": (ALLOWED, 0),
    "feller.training.objective.ObjectiveConfig": (ALLOWED, 0),
    "feller.data.modality.Modality": ((*ALLOWED, "feller.app.modalities", *MODALITY), 0),
}
"""Base -> folders that may ask about it, and how often others do so at most: a number that may only fall."""


@dataclass(frozen=True, slots=True)
class Asks:
    """Names of classes in a module with their origins, classes with their bases, and comparisons with a class."""

    names: dict[str, str]
    bases: dict[str, list[ast.expr]]
    compared: list[tuple[int, ast.expr]]


@functools.cache
def modules() -> dict[str, Asks]:
    """Return the class names of each module, without its syntax tree, which is large."""
    found = {}
    for file in sorted(SOURCE.rglob("*.py")):
        parts = file.relative_to(SOURCE).with_suffix("").parts
        module, tree = ".".join(parts[:-1] if parts[-1] == "__init__" else parts), ast.parse(file.read_text())
        names = {
            alias.asname or alias.name: f"{node.module}.{alias.name}"
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module
            for alias in node.names
        }
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
        names |= {node.name: f"{module}.{node.name}" for node in classes}
        found[module] = Asks(names, {f"{module}.{node.name}": node.bases for node in classes}, list(compared(tree)))
    return found


def home(module: str, node: ast.expr) -> str:
    """Return where the class that an expression names is defined, following re-exports."""
    node = node.value if isinstance(node, ast.Subscript) else node
    place = modules()[module].names.get(node.id, "") if isinstance(node, ast.Name) else ""
    while True:
        package, _, name = place.rpartition(".")
        further = modules()[package].names.get(name, place) if package in modules() else place
        if further == place:
            return place
        place = further


@functools.cache
def bases() -> dict[str, set[str]]:
    """Return class -> base classes."""
    return {
        name: {home(module, base) for base in those}
        for module, asks in modules().items()
        for name, those in asks.bases.items()
    }


def kinds(base: str) -> set[str]:
    """Return a class and its subclasses."""
    found = {base}
    while more := {name for name, those in bases().items() if those & found} - found:
        found |= more
    return found


def compared(tree: ast.Module) -> Iterator[tuple[int, ast.expr]]:
    """Yield lines and expressions of classes that values are compared with."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass"):
            yield from ((node.lineno, name) for name in ast.walk(node.args[1]) if isinstance(name, ast.Name))
        elif isinstance(node, ast.MatchClass):
            yield node.lineno, node.cls
        elif isinstance(node, ast.Compare) and "type(" in ast.unparse(node.left):
            yield from ((node.lineno, name) for name in node.comparators)


def offenders(base: str, allowed: tuple[str, ...]) -> set[str]:
    """Return the isinstance checks."""
    classes = kinds(base)
    return {
        f"{module}:{line}"
        for module, asks in modules().items()
        if not any(f"{module}.".startswith(f"{folder}.") for folder in allowed)
        for line, node in asks.compared
        if home(module, node) in classes
    }


@pytest.mark.parametrize("base", CLASSES)
def test_no_isinstance_on_interfaces_outside_their_packages(base: str) -> None:
    allowed, most = CLASSES[base]
    found = offenders(base, allowed)
    assert base in bases()
    assert len(found) <= most, f"ask it what it can do instead, in {sorted(found)}"


def test_isinstance_through_reexports_is_found() -> None:
    text = (
        "from feller.paths import Affine\n\n\ndef f(x):\n    return isinstance(x, int | Affine) or type(x) is Affine\n"
    )
    modules()["mine"] = Asks({"Affine": "feller.paths.Affine"}, {}, [])
    found = [home("mine", node) for _, node in compared(ast.parse(text))]
    del modules()["mine"]
    assert found.count("feller.paths.affine.Affine") == 2
    assert "feller.paths.affine.Affine" in kinds("feller.paths.path.Path")
