"""Mistakes in code of the user's own are told by its line, and those of feller's are not blamed on it."""

import importlib
import pathlib
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
    assert "a bug in feller" not in told
    assert "Traceback" not in told
    assert not pathlib.Path("runs/own/weights.safetensors").exists()


def test_the_calls_are_shown_on_demand(capsys, monkeypatch) -> None:
    monkeypatch.setenv("FELLER_TRACEBACK", "1")
    assert fit(write("shown.py", RECIPE="thing + 1")) == 1
    assert "Traceback" in capsys.readouterr().err
    assert fit(write("shown_too.py", TARGET="None")) == 1
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert "Straight.target (shown_too.py line 16) must return" in told


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ARGUMENTS": ""}, "is called with (data, size), but its signature is () (b.py line "),
        ({"RECIPE": "return 3"}, "a function that returns a Recipe; found int"),
        ({"TARGET": "'a'"}, "Straight.target (b.py line 16) must return the regression target"),
        ({"velocity=prediction": "velocity=prediction * t"}, ", in characteristics: RuntimeError: The size of"),
        ({"DECORATION": ""}, "Cubic: expected a dataclass"),
    ],
)
def test_what_fits_nothing_is_refused_in_words(capsys, changes: dict[str, str], said: str) -> None:
    assert fit(write("b.py", **changes)) == 1
    told = capsys.readouterr().err
    assert said in told
    assert "Traceback" not in told


@pytest.mark.slow
def test_a_target_of_another_shape_is_refused() -> None:
    """In a process of its own: here shapes are checked in all functions."""
    path = write("narrow.py", **{"TARGET": "(x_1 - x_0)[:, :1]", ", Cubic())": ")"})
    words = ("fit", "example:moons", "--recipe", f"{path}:mine", "--size", "tiny", "--steps", "2", "--out", "runs/own")
    found = subprocess.run([sys.executable, "-m", "feller", *words], capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert "Straight.target (narrow.py line 16) must return" in found.stderr
    assert "[3, 2] here; found [3, 1]" in found.stderr
    assert not pathlib.Path("runs/own").exists()


def test_a_first_step_that_fails_leaves_no_run(capsys) -> None:
    path = write("fails_late.py", SAMPLE="assert len(x_1) < 16, 'too many'")
    assert fit(path) == 1
    assert "in sample: AssertionError: too many" in capsys.readouterr().err
    assert not [one for one in pathlib.Path("runs/own").iterdir() if one.name != "lock"]
    assert fit(write("mended.py", Straight="Mended")) == 0


def test_a_solver_that_cannot_take_its_process_is_refused(capsys) -> None:
    assert fit(write("noisy.py", **{"velocity=prediction": "velocity=prediction, diffusion=torch.ones(7)"})) == 2
    assert "solver: expected Euler()" in capsys.readouterr().err


def test_a_report_that_fails_leaves_the_training(capsys, monkeypatch) -> None:
    def fails(run, **more):
        raise InputError("samples became infinite")

    monkeypatch.setattr("feller.app.workflows.fit.evaluate", fails)
    assert fit(write("unjudged.py", Straight="Unjudged")) == 1
    told = capsys.readouterr().err
    assert "samples became infinite; the training is saved in runs/own" in told
    assert "feller evaluate runs/own --code unjudged.py" in told
    assert pathlib.Path("runs/own/weights.safetensors").is_file()


def test_a_neighbour_that_is_not_found_is_explained(here) -> None:
    pathlib.Path("beside.py").write_text("")
    pathlib.Path("needs.py").write_text("import beside\n")
    with pytest.raises(InputError, match=r"line 1: ModuleNotFound.* folder of needs\.py.* PYTHONPATH="):
        load_file(pathlib.Path("needs.py"))
    pathlib.Path("wants.py").write_text("import nowhere_at_all\n")
    with pytest.raises(InputError, match=r"nowhere_at_all'$"):
        load_file(pathlib.Path("wants.py"))


def test_which_reward_returns_something_else_is_told() -> None:
    pathlib.Path("rewards.py").write_text("def strings(x):\n    return ['a']\n\n\ndef two(x):\n    return x\n")
    with pytest.raises(InputError, match=r"the reward strings \(rewards\.py\) must return .* \[3\]; found a list"):
        code_reward("rewards.py:strings")(torch.zeros(3, 2), {})
    with pytest.raises(InputError, match=r"the reward two \(rewards\.py\) must return .*found a tensor \[3, 2\]"):
        code_reward("rewards.py:two")(torch.zeros(3, 2), {})


def test_a_cost_that_returns_no_numbers_is_told_by_its_file() -> None:
    pathlib.Path("costs.py").write_text("def words(x, t):\n    return ['a']\n")
    cost = CustomCost(load_function("costs.py:words"))
    with pytest.raises(InputError, match=r"the cost words \(costs\.py\).*found a list"):
        cost(torch.zeros(3, 2), torch.zeros(3))


@dataclass(frozen=True)
class Half(Solver):
    """Euler's rule, at half the speed."""

    def step(self, process, x, t, s, rng):
        return x + (s - t) / 2 * process(x, expand_time(x, t)).velocity


def test_a_model_follows_a_solver_of_ones_own() -> None:
    model = feller.Model(lambda x, t: torch.ones_like(x), data=(2,))
    euler = feller.SamplerConfig("euler", nfe=4)
    start = model.sample(3, sampling=euler).numpy() - 1
    assert abs(model.sample(3, sampling=euler, solver=Half()).numpy() - start - 0.5).max() < 1e-6


def test_samples_that_run_away_name_ones_own_path() -> None:
    load_file(write("away.py", Straight="Away", **{"velocity=prediction": "velocity=prediction / 0"}))
    kind = USER_FUNCTIONS["Away"]
    model = feller.Model(lambda x, t: torch.ones_like(x), data=(2,))
    gone = feller.Model.from_spec(replace(model.spec, family=PathProcess(kind())), model.network)
    with pytest.raises(InputError, match=r"or the process of Away \(away\.py\)"):
        gone.sample(2)


def test_a_mistake_of_ours_stays_ours(capsys, monkeypatch) -> None:
    def broken(*words, **more):
        raise IndexError("ours")

    path = write("right.py")
    monkeypatch.setattr("feller.app.workflows.fit.set_up_training", broken)
    assert fit(path) == 1
    told = capsys.readouterr().err
    assert "a bug in feller" in told
    assert "Traceback" in told


def test_where_it_calls_us_both_places_are_named() -> None:
    pathlib.Path("calls.py").write_text("import feller\n\n\ndef asks():\n    feller.linear_grid(0)\n")
    with pytest.raises(ValueError, match="steps") as wrong:
        load_function("calls.py:asks")()
    told = user_frame(wrong.value) or ""
    assert told.startswith("calls.py line 5, in asks: UsageError: ")
    assert "(in feller.paths.time_distributions line " in told
    assert user_frame(KeyError("nowhere")) is None


def test_a_file_that_does_not_run_is_told_by_its_line() -> None:
    pathlib.Path("halts.py").write_text("import math\n\nmath.sqroot(2)\n")
    with pytest.raises(InputError, match=r"halts\.py: fails to run: line 3: AttributeError: module 'math' has no"):
        load_file(pathlib.Path("halts.py"))


def test_a_reward_is_told_by_its_line() -> None:
    pathlib.Path("wish.py").write_text("def warm(x):\n    return x[:, 9]\n")
    wish = code_reward("wish.py:warm")
    assert wish is not None
    with pytest.raises(InputError, match=r"the reward warm raised an error: wish\.py line 2, in warm: IndexError"):
        wish(torch.zeros(3, 2), {})


def test_an_imported_function_is_a_recipe_and_its_file_runs_once(here, monkeypatch) -> None:
    path = write("imported_recipe.py")
    path.write_text(path.read_text() + "\n\nopen('ran', 'a').write('x')\n")
    monkeypatch.syspath_prepend(str(here))
    module = importlib.import_module("imported_recipe")
    run = feller.fit("example:moons", recipe=module.mine, size="tiny", steps=2, out="runs/called")
    assert run.folder.read_record(run.folder.recipe)["provenance"]["recipe"] == "imported_recipe.py:mine"
    assert feller.load_model("runs/called").sample(3).numpy().shape == (3, 2)
    assert load_function("imported_recipe.py:mine") is module.mine
    assert pathlib.Path("ran").read_text() == "x"


def test_a_function_without_a_file_is_refused_in_words() -> None:
    with pytest.raises(UsageError, match=r'pass recipe="mine\.py:'):
        feller.fit("example:moons", recipe=lambda data, size: None)
    with pytest.raises(UsageError, match="at the top level of a file"):
        import_path(feller.Rng(0).stream, "recipe")


def test_a_run_of_own_code_says_how_to_open_it(here) -> None:
    path = write("late.py")
    path.write_text(path.read_text().replace("Straight", "Later"))
    assert fit(path) == 0
    script = (
        "import feller\ntry:\n    feller.load_model('runs/own')\nexcept feller.InputError as error:\n    print(error)\n"
    )
    script += "print(feller.load_model('runs/own', code='late.py').sample(2).numpy().shape)"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert "found 'Later'" in told
    assert "--code" in told
    assert "@" not in told
    assert told.endswith("(2, 2)\n")


def test_a_cost_is_told_by_its_line() -> None:
    pathlib.Path("room.py").write_text("def walls(x, t):\n    return x[:, 9]\n")
    cost = CustomCost(load_function("room.py:walls"))
    with pytest.raises(
        InputError, match=r"the cost walls \(room\.py\) raised an error: room\.py line 2, in walls: IndexError"
    ):
        cost(torch.zeros(3, 2), torch.zeros(3))


def test_imports_of_modules_that_moved_are_named() -> None:
    """The message holds statements that work: each is executed."""
    file = pathlib.Path(__file__).parent.parent / "safety" / "old_imports.py"
    with pytest.raises(InputError) as caught:
        load_file(file)
    message = str(caught.value)
    assert "\n" not in message
    statements = [part for part in message.split("; ") if "from feller" in part]
    scope: dict[str, object] = {}
    for statement in statements:
        exec(statement[statement.index("from feller") :], scope)
    wanted = {"FlowMatching", "Characteristics", "SamplerConfig", "TrainConfig"}
    assert wanted <= scope.keys()
    assert scope["FlowMatching"] is feller.FlowMatching
    assert scope["TrainConfig"] is feller.TrainConfig


def test_an_import_that_never_was_is_told_without_a_guess(tmp_path: pathlib.Path) -> None:
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


def test_of_two_files_with_one_name_the_one_that_is_named_counts(tmp_path) -> None:
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


def test_a_name_of_two_files_of_which_none_is_named_is_refused(monkeypatch) -> None:
    monkeypatch.setattr("feller.core.serialization.CHOSEN", [])
    for file, factor in (("rule_three.py", 7), ("rule_four.py", 8)):
        load_file(pathlib.Path(solver_file(file, factor)))
    monkeypatch.setattr("feller.core.serialization.CHOSEN", [])
    with pytest.raises(InputError) as error:
        from_dict(Solver, {"is": "Twofold"})
    assert error.value.argument == "Twofold"
    assert from_dict(Solver, {"is": "Euler"}) == Euler()
