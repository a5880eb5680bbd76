"""Mistakes in code of the user's own are told by its line, and those of feller's are not blamed on it."""

import importlib
import pathlib
import subprocess
import sys

import pytest
import torch

import feller
from feller.cli import main
from feller.code import blamed, load_file, load_function, place_of
from feller.control.costs.function import Function
from feller.control.rewards import code
from feller.errors import InputError, UsageError

MINE = """
from dataclasses import dataclass

import torch

import feller
from feller.networks.mlp import MLP


@dataclass(frozen=True)
class Straight(feller.Path):
    def sample(self, x_0, x_1, t, draw=None):
        SAMPLE
        return torch.lerp(x_0, x_1, t[:, None])

    def target(self, x_t, x_0, x_1, t):
        return TARGET

    def characteristics(self, prediction, x_t, t):
        return feller.Characteristics(velocity=prediction)


DECORATION
class Cubic(feller.Loss):
    def entries(self, prediction, target, x_t, t):
        return (prediction - target).abs() ** 1.5


def mine(ARGUMENTS):
    RECIPE
    objective = feller.Matching(Straight(), data.modality.space(), Cubic())
    return feller.Recipe(architecture=MLP(width=8, depth=1), objective=objective, train=feller.Training(batch=16))
"""
WHOLE = {
    "SAMPLE": "pass",
    "TARGET": "x_1 - x_0",
    "DECORATION": "@dataclass(frozen=True)",
    "ARGUMENTS": "data, size",
    "RECIPE": "pass",
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> pathlib.Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("feller.journeys.fit.evaluate", lambda run, tell: {})
    return tmp_path


def write(name: str, **changes: str) -> pathlib.Path:
    text = MINE
    for word, line in {**WHOLE, **changes}.items():
        text = text.replace(word, line)
    path = pathlib.Path(name)
    path.write_text(text)
    return path


def line_of(path: pathlib.Path, words: str) -> int:
    return next(i for i, line in enumerate(path.read_text().splitlines(), 1) if words in line)


def fit(path: pathlib.Path) -> int:
    return main(
        ["fit", "example:moons", "--recipe", f"{path}:mine", "--size", "tiny", "--steps", "2", "--out", "runs/own"]
    )


@pytest.mark.parametrize(
    ("changes", "words", "said"),
    [
        ({"RECIPE": "thing + 1"}, "thing + 1", ", in mine: NameError: name 'thing' is not defined"),
        ({"RECIPE": "feller.Path()"}, "feller.Path()", ", in mine: TypeError: Can't instantiate abstract class Path"),
        ({"SAMPLE": "x_1[:, 7]"}, "x_1[:, 7]", ", in sample: IndexError: index 7 is out of bounds"),
        (
            {"velocity=prediction": "velocity=prediction[:, 9]"},
            "velocity=",
            ", in characteristics: IndexError: index 9",
        ),
        ({"SAMPLE": "torch.nn.functional.interpolate(x_1, 7)"}, "interpolate", ", in sample: NotImplementedError"),
    ],
)
def test_a_mistake_is_told_by_its_line(capsys, changes: dict[str, str], words: str, said: str) -> None:
    path = write(f"a{abs(hash(words))}.py", **changes)
    assert fit(path) == 1
    told = capsys.readouterr().err
    assert f"feller: {path} line {line_of(path, words)}{said}" in told
    assert "fault of feller" not in told
    assert "Traceback" not in told
    assert not pathlib.Path("runs/own/weights.safetensors").exists()


def test_the_calls_are_shown_on_demand(capsys, monkeypatch) -> None:
    monkeypatch.setenv("FELLER_TRACEBACK", "1")
    assert fit(write("shown.py", RECIPE="thing + 1")) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ARGUMENTS": ""}, "is called with (data, size), and it is written to take ()"),
        ({"TARGET": "'a'", ", Cubic())": ")"}, "fails at a trial of two examples, in what feller makes of it: "),
        ({"DECORATION": ""}, "decorate Cubic with @dataclass(frozen=True): its fields are what a run keeps of it"),
    ],
)
def test_what_fits_nothing_is_refused_in_words(capsys, changes: dict[str, str], said: str) -> None:
    assert fit(write(f"b{len(said)}.py", **changes)) == 1
    told = capsys.readouterr().err
    assert said in told
    assert "Traceback" not in told


def test_a_target_of_another_shape_is_refused() -> None:
    """In a process of its own: here shapes are checked in all functions."""
    path = write("narrow.py", **{"TARGET": "(x_1 - x_0)[:, :1]", ", Cubic())": ")"})
    words = ("fit", "example:moons", "--recipe", f"{path}:mine", "--size", "tiny", "--steps", "2", "--out", "runs/own")
    found = subprocess.run([sys.executable, "-m", "feller", *words], capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert "the network answers with [2, 2] and the target is [2, 1]" in found.stderr
    assert not pathlib.Path("runs/own").exists()


def test_a_mistake_of_ours_stays_ours(capsys, monkeypatch) -> None:
    def broken(*words, **more):
        raise IndexError("ours")

    path = write("right.py")
    monkeypatch.setattr("feller.journeys.fit.prepare", broken)
    assert fit(path) == 1
    told = capsys.readouterr().err
    assert "this is a fault of feller, not yours" in told
    assert "Traceback" in told


def test_where_it_calls_us_both_places_are_named() -> None:
    pathlib.Path("calls.py").write_text("import feller\n\n\ndef asks():\n    feller.linear_grid(0)\n")
    with pytest.raises(ValueError, match="at least one step") as wrong:
        load_function("calls.py:asks")()
    told = blamed(wrong.value) or ""
    assert told.startswith("calls.py line 5, in asks: ValueError: ")
    assert "(in feller.times line " in told
    assert blamed(KeyError("nowhere")) is None


def test_a_file_that_does_not_run_is_told_by_its_line() -> None:
    pathlib.Path("halts.py").write_text("import math\n\nmath.sqroot(2)\n")
    with pytest.raises(InputError, match=r"halts\.py does not run: line 3: AttributeError: module 'math' has no"):
        load_file(pathlib.Path("halts.py"))


def test_a_reward_is_told_by_its_line() -> None:
    pathlib.Path("wish.py").write_text("def warm(x):\n    return x[:, 9]\n")
    wish = code("wish.py:warm")
    assert wish is not None
    with pytest.raises(InputError, match=r"your reward warm failed: wish\.py line 2, in warm: IndexError"):
        wish(torch.zeros(3, 2), {})


def test_an_imported_function_is_a_recipe_and_its_file_runs_once(here, monkeypatch) -> None:
    path = write("imported_recipe.py")
    path.write_text(path.read_text() + "\n\nopen('ran', 'a').write('x')\n")
    monkeypatch.syspath_prepend(str(here))
    module = importlib.import_module("imported_recipe")
    run, _ = feller.fit("example:moons", recipe=module.mine, size="tiny", steps=2, out="runs/called")
    assert run.read_record(run.recipe)["asked"]["recipe"] == "imported_recipe.py:mine"
    assert feller.load_model("runs/called").sample(3).numpy().shape == (3, 2)
    assert load_function("imported_recipe.py:mine") is module.mine
    assert pathlib.Path("ran").read_text() == "x"


def test_a_function_without_a_file_is_refused_in_words() -> None:
    with pytest.raises(UsageError, match=r'say recipe="mine\.py:'):
        feller.fit("example:moons", recipe=lambda data, size: None)
    with pytest.raises(UsageError, match="at the top level of a file"):
        place_of(feller.Draws(0).at, "recipe")


def test_a_run_of_own_code_says_how_to_open_it(here) -> None:
    path = write("late.py")
    path.write_text(path.read_text().replace("Straight", "Later"))
    assert fit(path) == 0
    script = (
        "import feller\ntry:\n    feller.load_model('runs/own')\nexcept feller.InputError as error:\n    print(error)\n"
    )
    script += "print(feller.load_model('runs/own', code='late.py').sample(2).numpy().shape)"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert "no Path is called 'Later'" in told
    assert "with --code, or import it first in Python" in told
    assert "@" not in told
    assert told.endswith("(2, 2)\n")


def test_a_cost_is_told_by_its_line() -> None:
    pathlib.Path("room.py").write_text("def walls(x, t):\n    return x[:, 9]\n")
    cost = Function(load_function("room.py:walls"))
    with pytest.raises(InputError, match=r"the cost 'walls' fails: room\.py line 2, in walls: IndexError"):
        cost(torch.zeros(3, 2), torch.zeros(3))
