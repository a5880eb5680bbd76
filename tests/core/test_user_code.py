"""Errors in user code name file, line, function and exception; errors of feller itself do not."""

import importlib
import pathlib
import re
import subprocess
import sys
from dataclasses import dataclass, replace

import pytest
import torch

import feller
from feller.app.cli import main
from feller.control.bridges.costs.custom_cost import CustomCost
from feller.control.rewards.named_rewards import code_reward
from feller.core.errors import InputError, UsageError
from feller.core.serialization import USER_FUNCTIONS, from_dict
from feller.core.user_code import choose_code, fingerprint, import_path, load_code, load_file, load_function, user_frame
from feller.models.families.path_process import PathProcess
from feller.sampling import Euler, Solver
from feller.sampling.solvers.solver import expand_time
from tests.errors import refuses

MINE = """
from dataclasses import dataclass

import torch

import feller
from feller.networks.mlp import MLP


@dataclass(frozen=True)
class Straight(feller.Path):
    def sample(self, x_0, x_1, t, rng=None):
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
    objective = feller.FlowMatching(Straight(), data.modality.space(), Cubic())
    train = feller.TrainConfig(batch_size=16)
    return feller.Recipe(architecture=MLP(width=8, depth=1), objective=objective, train=train)
"""
WHOLE = {
    "SAMPLE": "pass",
    "TARGET": "x_1 - x_0",
    "DECORATION": "@dataclass(frozen=True)",
    "ARGUMENTS": "data, size",
    "RECIPE": "pass",
}


FRAME = re.compile(r"(\w+\.py) line (\d+), in (\w+): (\w+)")
"""File, line, function and class of an exception, in an error message."""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> pathlib.Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("feller.app.workflows.fit.evaluate", lambda run, **others: {})
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
    ("changes", "words", "function", "exception"),
    [
        ({"RECIPE": "thing + 1"}, "thing + 1", "mine", "NameError"),
        ({"RECIPE": "feller.Path()"}, "feller.Path()", "mine", "TypeError"),
        ({"SAMPLE": "x_1[:, 7]"}, "x_1[:, 7]", "sample", "IndexError"),
        ({"velocity=prediction": "velocity=prediction[:, 9]"}, "velocity=", "characteristics", "IndexError"),
        ({"velocity=prediction": "velocity=prediction * t"}, "velocity=", "characteristics", "RuntimeError"),
        ({"SAMPLE": "torch.nn.functional.interpolate(x_1, 7)"}, "interpolate", "sample", "NotImplementedError"),
    ],
)
def test_errors_of_a_recipe_name_line_function_and_exception(
    capsys, changes: dict[str, str], words: str, function: str, exception: str
) -> None:
    path = write(f"a{abs(hash(words))}.py", **changes)
    assert fit(path) == 1
    told = capsys.readouterr().err
    assert FRAME.search(told).groups() == (path.name, str(line_of(path, words)), function, exception)
    assert "Traceback" not in told
    assert not pathlib.Path("runs/own/weights.safetensors").exists()


def test_the_traceback_is_shown_on_demand(capsys, monkeypatch) -> None:
    monkeypatch.setenv("FELLER_TRACEBACK", "1")
    for changes in ({"RECIPE": "thing + 1"}, {"TARGET": "None"}):
        assert fit(write(f"shown_{next(iter(changes))}.py".lower(), **changes)) == 1
        assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"ARGUMENTS": ""}, ["(data, size)", "()", "b.py line "]),
        ({"RECIPE": "return 3"}, ["int"]),
        ({"TARGET": "'a'"}, ["Straight.target", "b.py line 16"]),
        ({"DECORATION": ""}, ["Cubic"]),
    ],
)
def test_parts_of_a_recipe_with_wrong_types_are_named(capsys, changes: dict[str, str], named: list[str]) -> None:
    assert fit(write("b.py", **changes)) == 1
    told = capsys.readouterr().err
    assert [one for one in named if one not in told] == []
    assert "Traceback" not in told


@pytest.mark.slow
def test_a_target_of_another_shape_is_refused() -> None:
    """In a process of its own: here shapes are checked in all functions."""
    path = write("narrow.py", **{"TARGET": "(x_1 - x_0)[:, :1]", ", Cubic())": ")"})
    words = ("fit", "example:moons", "--recipe", f"{path}:mine", "--size", "tiny", "--steps", "2", "--out", "runs/own")
    found = subprocess.run([sys.executable, "-m", "feller", *words], capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert all(one in found.stderr for one in ("Straight.target", "narrow.py line 16", "[3, 2]", "[3, 1]"))
    assert not pathlib.Path("runs/own").exists()


def test_a_failing_first_step_leaves_no_run(capsys) -> None:
    path = write("fails_late.py", SAMPLE="assert len(x_1) < 16, 'too many'")
    assert fit(path) == 1
    assert FRAME.search(capsys.readouterr().err).groups()[2:] == ("sample", "AssertionError")
    assert not [one for one in pathlib.Path("runs/own").iterdir() if one.name != "lock"]
    assert fit(write("mended.py", Straight="Mended")) == 0


def test_a_solver_that_cannot_take_its_process_is_refused(capsys) -> None:
    assert fit(write("noisy.py", **{"velocity=prediction": "velocity=prediction, diffusion=torch.ones(7)"})) == 2
    assert "Euler()" in capsys.readouterr().err


def test_a_failing_report_keeps_the_training(capsys, monkeypatch) -> None:
    def fails(run, **more):
        raise InputError("samples became infinite")

    monkeypatch.setattr("feller.app.workflows.fit.evaluate", fails)
    assert fit(write("unjudged.py", Straight="Unjudged")) == 1
    told = capsys.readouterr().err
    assert "samples became infinite" in told
    assert "feller evaluate runs/own --code unjudged.py" in told
    assert pathlib.Path("runs/own/weights.safetensors").is_file()


@pytest.mark.parametrize(
    ("code", "line", "exception"),
    [("import beside", 1, "ModuleNotFoundError"), ("\nimport math\nmath.sqroot(2)", 3, "AttributeError")],
)
def test_a_file_that_fails_names_its_line(here, code: str, line: int, exception: str) -> None:
    """For a module in the same folder the error names PYTHONPATH."""
    pathlib.Path("beside.py").write_text("")
    file = pathlib.Path("fails.py")
    file.write_text(f"{code}\n")
    with refuses(InputError) as caught:
        load_file(file)
    assert pathlib.Path(caught.value.file).name == "fails.py"
    assert f"line {line}: {exception}" in caught.value.message
    assert ("PYTHONPATH=" in caught.value.message) == ("beside" in code)


@pytest.mark.parametrize(("kind", "arguments"), [("reward", "x"), ("cost", "x, t")])
def test_errors_of_rewards_and_costs_name_file_and_function(kind: str, arguments: str) -> None:
    file, fails = f"{kind}s.py", {"late": "x[:, 9]", "words": "['a']"} | ({"two": "x"} if kind == "reward" else {})
    pathlib.Path(file).write_text("".join(f"def {name}({arguments}): return {it}\n" for name, it in fails.items()))
    for name in fails:
        with refuses(InputError) as caught:
            if kind == "reward":
                code_reward(f"{file}:{name}")(torch.zeros(3, 2), {})
            else:
                CustomCost(load_function(f"{file}:{name}"))(torch.zeros(3, 2), torch.zeros(3))
        if name == "late":
            assert FRAME.search(str(caught.value)).groups() == (file, "1", "late", "IndexError")
        else:
            assert f"{kind} {name} ({file})" in str(caught.value)


@dataclass(frozen=True)
class Half(Solver):
    """Euler steps at half the velocity."""

    def step(self, process, x, t, s, rng):
        return x + (s - t) / 2 * process(x, expand_time(x, t)).velocity


def test_a_custom_solver_samples_a_model() -> None:
    model = feller.Model(lambda x, t: torch.ones_like(x), data=(2,))
    euler = feller.SamplerConfig("euler", nfe=4)
    start = model.sample(3, sampling=euler).numpy() - 1
    assert abs(model.sample(3, sampling=euler, solver=Half()).numpy() - start - 0.5).max() < 1e-6


def test_diverging_samples_name_the_custom_path() -> None:
    load_file(write("away.py", Straight="Away", **{"velocity=prediction": "velocity=prediction / 0"}))
    kind = USER_FUNCTIONS["Away"]
    model = feller.Model(lambda x, t: torch.ones_like(x), data=(2,))
    gone = feller.Model.from_spec(replace(model.spec, family=PathProcess(kind())), model.network)
    with refuses(InputError) as caught:
        gone.sample(2)
    assert "Away (away.py)" in str(caught.value)


def test_errors_of_feller_show_the_traceback(capsys, monkeypatch) -> None:
    def broken(*words, **more):
        raise IndexError("ours")

    path = write("right.py")
    monkeypatch.setattr("feller.app.workflows.fit.set_up_training", broken)
    assert fit(path) == 1
    assert "Traceback" in capsys.readouterr().err


def test_an_error_inside_feller_names_both_frames() -> None:
    pathlib.Path("calls.py").write_text("import feller\n\n\ndef asks():\n    feller.linear_grid(0)\n")
    with pytest.raises(ValueError, match="steps") as wrong:
        load_function("calls.py:asks")()
    told = user_frame(wrong.value) or ""
    assert FRAME.match(told).groups() == ("calls.py", "5", "asks", "UsageError")
    assert "feller.paths.time_distributions line " in told
    assert user_frame(KeyError("nowhere")) is None


def test_imported_functions_are_recipes_and_run_once(here, monkeypatch) -> None:
    path = write("imported_recipe.py")
    path.write_text(path.read_text() + "\n\nopen('ran', 'a').write('x')\n")
    monkeypatch.syspath_prepend(str(here))
    module = importlib.import_module("imported_recipe")
    run = feller.fit("example:moons", recipe=module.mine, size="tiny", steps=2, out="runs/called")
    assert run.folder.read_record(run.folder.recipe)["provenance"]["recipe"] == "imported_recipe.py:mine"
    assert feller.load_model("runs/called").sample(3).numpy().shape == (3, 2)
    assert load_function("imported_recipe.py:mine") is module.mine
    assert pathlib.Path("ran").read_text() == "x"


def test_functions_without_a_file_are_refused() -> None:
    with refuses(UsageError):
        feller.fit("example:moons", recipe=lambda data, size: None)
    with refuses(UsageError):
        import_path(feller.Rng(0).stream, "recipe")


def test_runs_of_custom_classes_open_with_their_code(here) -> None:
    path = write("late.py")
    path.write_text(path.read_text().replace("Straight", "Later"))
    assert fit(path) == 0
    script = "import feller\ntry:\n    feller.load_model('runs/own')\nexcept feller.InputError as error:\n"
    script += "    print(repr('Later') in str(error))\n"
    script += "print(feller.load_model('runs/own', code='late.py').sample(2).numpy().shape)"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert told == "True\n(2, 2)\n"


def test_imports_of_moved_modules_list_working_imports() -> None:
    """The message holds statements that work: each is executed."""
    file = pathlib.Path(__file__).parent.parent / "safety" / "old_imports.py"
    with refuses(InputError) as caught:
        load_file(file)
    statements = [part for part in str(caught.value).split("; ") if "from feller" in part]
    scope: dict[str, object] = {}
    for statement in statements:
        exec(statement[statement.index("from feller") :], scope)
    wanted = {"FlowMatching", "Characteristics", "SamplerConfig", "TrainConfig"}
    assert wanted <= scope.keys()
    assert scope["FlowMatching"] is feller.FlowMatching
    assert scope["TrainConfig"] is feller.TrainConfig


def test_unknown_imports_have_no_suggestion(tmp_path: pathlib.Path) -> None:
    (tmp_path / "mine.py").write_text("from feller.paths import NoSuchPath\n")
    with pytest.raises(InputError) as caught:
        load_file(tmp_path / "mine.py")
    assert "from feller" not in str(caught.value).partition("; ")[2]


def solver_file(name: str, factor: int) -> str:
    path = pathlib.Path(name)
    path.write_text(
        "from dataclasses import dataclass\n"
        "from feller.sampling import Solver\n"
        f"FACTOR = {factor}\n"
        "def twice(t):\n"
        f"    return {factor} * t\n"
        "@dataclass(frozen=True)\n"
        "class Twofold(Solver):\n"
        f"    factor: float = {factor}.0\n"
        "    def step(self, process, x, t, s, rng):\n"
        "        return self.factor * x\n"
    )
    return str(path)


def test_of_two_classes_of_one_name_the_chosen_file_counts(tmp_path) -> None:
    one, other = solver_file("rule_one.py", 3), solver_file("rule_other.py", 5)
    record = {"is": "Twofold"}
    for file, factor in ((one, 3.0), (other, 5.0), (one, 3.0)):
        load_file(pathlib.Path(file))
        assert from_dict(Solver, record).factor == factor
        assert USER_FUNCTIONS["twice"](1) == factor
    run, named = tmp_path / "run", tmp_path / "named"
    load_code(other, named)
    for folder, factor in ((run, 3.0), (named, 5.0), (run, 3.0)):
        choose_code(folder, fingerprint(pathlib.Path(one)))
        assert from_dict(Solver, record).factor == factor


def test_ambiguous_class_names_are_refused(monkeypatch) -> None:
    monkeypatch.setattr("feller.core.serialization.CHOSEN", [])
    for file, factor in (("rule_three.py", 7), ("rule_four.py", 8)):
        load_file(pathlib.Path(solver_file(file, factor)))
    monkeypatch.setattr("feller.core.serialization.CHOSEN", [])
    with refuses(InputError, argument="Twofold"):
        from_dict(Solver, {"is": "Twofold"})
    assert from_dict(Solver, {"is": "Euler"}) == Euler()
