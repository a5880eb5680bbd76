"""Nobody asks a path, an objective or a family what it is: what they can do is asked of themselves."""

import ast
import pathlib
from collections.abc import Iterator

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


def modules() -> dict[str, ast.Module]:
    """Return the syntax tree of each module."""
    found = {}
    for file in sorted(SOURCE.rglob("*.py")):
        parts = file.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = ast.parse(file.read_text())
    return found


MODULES = modules()
NAMES = {
    module: {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    | {node.name: f"{module}.{node.name}" for node in tree.body if isinstance(node, ast.ClassDef)}
    for module, tree in MODULES.items()
}
"""Module -> names of classes in it -> where they come from."""


def home(module: str, node: ast.expr) -> str:
    """Return where a class is defined that an expression names, through packages that hand it on."""
    node = node.value if isinstance(node, ast.Subscript) else node
    place = NAMES[module].get(node.id, "") if isinstance(node, ast.Name) else ""
    while True:
        package, _, name = place.rpartition(".")
        further = NAMES.get(package, {}).get(name, place)
        if further == place:
            return place
        place = further


BASES = {
    f"{module}.{node.name}": {home(module, base) for base in node.bases}
    for module, tree in MODULES.items()
    for node in tree.body
    if isinstance(node, ast.ClassDef)
}


def kinds(base: str) -> set[str]:
    """Return a class and all that inherit from it."""
    found = {base}
    while more := {name for name, bases in BASES.items() if bases & found} - found:
        found |= more
    return found


def asked(tree: ast.Module) -> Iterator[tuple[int, ast.expr]]:
    """Yield lines and expressions of classes that values are compared with."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass"):
            yield from ((node.lineno, name) for name in ast.walk(node.args[1]) if isinstance(name, ast.Name))
        elif isinstance(node, ast.MatchClass):
            yield node.lineno, node.cls
        elif isinstance(node, ast.Compare) and "type(" in ast.unparse(node.left):
            yield from ((node.lineno, name) for name in node.comparators)


def offenders(base: str, allowed: tuple[str, ...]) -> set[str]:
    """Return the places where somebody asks whether a value is of a class."""
    classes = kinds(base)
    return {
        f"{module}:{line}"
        for module, tree in MODULES.items()
        if not any(f"{module}.".startswith(f"{folder}.") for folder in allowed)
        for line, node in asked(tree)
        if home(module, node) in classes
    }


@pytest.mark.parametrize("base", CLASSES)
def test_nobody_asks(base: str) -> None:
    allowed, most = CLASSES[base]
    found = offenders(base, allowed)
    assert base in BASES
    assert len(found) <= most, f"ask it what it can do instead, in {sorted(found)}"


def test_that_would_be_found() -> None:
    text = (
        "from feller.paths import Affine\n\n\ndef f(x):\n    return isinstance(x, int | Affine) or type(x) is Affine\n"
    )
    NAMES["mine"] = {"Affine": "feller.paths.Affine"}
    found = [home("mine", node) for _, node in asked(ast.parse(text))]
    del NAMES["mine"]
    assert found.count("feller.paths.affine.Affine") == 2
    assert "feller.paths.affine.Affine" in kinds("feller.paths.path.Path")
