"""Public signatures are typed, and type checkers find plain mistakes."""

import inspect
import json
import os
import pathlib
import re
import subprocess
import sys
import typing
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import feller
from feller.core.pytree import Cond
from feller.models.model import OnStep
from feller.paths import Network
from feller.paths.processes import Process, Score
from feller.training.objective import RewardFunction

STATES = (Cond, Network, OnStep, Process, RewardFunction, Score)
"""Functions and dicts over states, each a tensor or a dict of states, which no type of Python tells apart."""
ABSTRACT = (
    *(
        "Coupling",
        "FlowMapLoss",
        "Loss",
        "Modality",
        "Objective",
        "Path",
        "Solver",
        "Space",
    ),  # methods that take any state, for all kinds of it
    *("ExactDivergence", "GeodesicCost", "Hutchinson", "LeafTimes", "VelocityField", "WithStepEnd"),
)
"""Classes whose methods, but not their constructors, speak of states."""


def holds_any(hint: object) -> bool:
    if any(hint is known or hint == known for known in STATES):
        return False
    if hint is Any:
        return True
    parts = hint if isinstance(hint, list) else typing.get_args(hint)
    return any(map(holds_any, parts))


def untyped(function: Callable[..., object], name: str) -> Iterator[str]:
    """Yield the parameters without a type, or with one that contains `Any`."""
    hints = typing.get_type_hints(function)
    for parameter in inspect.signature(function).parameters:
        if parameter not in ("self", "cls") and holds_any(hints.get(parameter, Any)):
            yield f"{name}({parameter})"
    if not name.endswith("__init__") and holds_any(hints.get("return", Any)):
        yield f"{name} -> "


def methods(kind: type) -> Iterator[tuple[str, Callable[..., object]]]:
    """Yield the public methods of a class that feller defines."""
    if kind.__init__ is not object.__init__ and not inspect.isabstract(kind):
        yield "__init__", kind.__init__
    for name, value in inspect.getmembers_static(kind):
        value = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
        ours = inspect.isfunction(value) and value.__module__.startswith("feller")
        if ours and (name == "__call__" or not name.startswith("_")):
            yield name, value


@pytest.mark.parametrize("name", [name for name in feller.__all__ if name != "__version__"])
def test_no_public_signature_holds_any(name: str) -> None:
    public = getattr(feller, name)
    if inspect.ismodule(public):
        checks = [value for key, value in vars(public).items() if key.startswith("check_")]
        assert len(checks) >= 5
        found = [one for check in checks for one in untyped(check, check.__name__)]
        assert found == ["check_path(sample_endpoints)", "check_path(certain_prediction)"]  # functions of states
        return
    if public is Process or not callable(public):
        return
    if not inspect.isclass(public):
        assert [*untyped(public, name)] == []
        return
    found = [one for method, function in methods(public) for one in untyped(function, f"{name}.{method}")]
    states = tuple(getattr(feller, kind) for kind in ABSTRACT)
    if issubclass(public, states):
        found = [one for one in found if "__init__" in one]
    assert found == (["Dataset.__init__(values)"] if name == "Dataset" else [])  # which are states


HERE = pathlib.Path(__file__).parent
FILES = [HERE / "typed" / name for name in ("right.py", "wrong.py")]
MYPY = (
    "-m",
    "mypy",
    "--follow-imports=silent",
    "--no-error-summary",
    "--ignore-missing-imports",
    "--no-incremental",
    "--cache-dir",
    os.devnull,
)
DEEP = (
    *(f"torch.{name}" for name in ("_inductor", "_dynamo", "_refs", "_decomp", "_prims", "_export", "_functorch")),
    *(f"torch.{name}" for name in ("_higher_order_ops", "_subclasses", "distributed", "export", "fx", "onnx")),
    *("onnx", "onnx_ir", "onnxscript", "scipy", "sklearn", "PIL", "ml_dtypes", "typeguard", "pandas", "tyro"),
    *("matplotlib", "pyarrow"),
)
"""Packages whose insides none of our public types needs, and which take most of the time."""


def mistakes() -> set[int]:
    return {n for n, line in enumerate(FILES[1].read_text().splitlines(), 1) if "# wrong" in line}


def check(complaints: set[tuple[str, int]]) -> None:
    assert len(mistakes()) == 16
    assert complaints == {("wrong.py", line) for line in mistakes()}


def test_mypy_finds_exactly_the_marked_mistakes(tmp_path: pathlib.Path) -> None:
    sections = [f"[mypy-{name}.*]\nfollow_imports = skip\n" for name in DEEP]
    (tmp_path / "mypy.ini").write_text("".join(["[mypy]\n", *sections]))
    command = [sys.executable, *MYPY, "--config-file", str(tmp_path / "mypy.ini"), *map(str, FILES)]
    said = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "MYPYPATH": str(HERE.parent / "src")}
    )
    found = re.findall(r"(right|wrong)\.py:(\d+): error", said.stdout)
    check({(f"{name}.py", int(line)) for name, line in found})


def test_pyright_finds_exactly_the_marked_mistakes(tmp_path: pathlib.Path) -> None:
    settings = {"include": [*map(str, FILES)], "extraPaths": [str(HERE.parent / "src")], "typeCheckingMode": "standard"}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [
        sys.executable,
        "-m",
        "basedpyright",
        "-p",
        str(tmp_path),
        "--pythonpath",
        sys.executable,
        "--outputjson",
    ]
    found = json.loads(subprocess.run(command, capture_output=True, text=True).stdout)["generalDiagnostics"]
    errors = [one for one in found if one["severity"] == "error"]
    check({(pathlib.Path(one["file"]).name, one["range"]["start"]["line"] + 1) for one in errors})
