"""What wrong words and wishes lead to: one line that helps, and nothing written."""

import pathlib

import numpy as np
import pytest

from feller.app.cli import main

TINY = ("--size", "tiny", "--steps", "2", "--sampling.nfe", "2")
OWN = """
from dataclasses import dataclass
from feller import Affine, FlowMatching, Recipe, TrainConfig
from feller.training.losses import CrossEntropy, PerLeafLoss, SquaredError
from feller.networks import RealCodec, TokenCodec, JointMLP
from feller.networks.mlp import MLP
from feller.paths import Mixture, ProductPath
from feller.spaces import Euclidean, MaskSource, Tokens
from feller.spaces import Product as ProductSpace

open("ran", "w").close()

@dataclass(frozen=True)
class Own(MLP.__bases__[0]):
    width: int = 8

    def build(self, shape, conditions, draws):
        return MLP(width=self.width, depth=1).build(shape, conditions, draws)

def simple(data, size):
    objective = FlowMatching(Affine(), data.modality.space())
    return Recipe(architecture=Own(), objective=objective, train=TrainConfig(batch_size=16, steps=2))

def pairs(data, size):
    space = ProductSpace({"image": Euclidean((1, 8, 8)), "label": Tokens(10, (), MaskSource())})
    path = ProductPath({"image": Affine(), "label": Mixture(source=MaskSource())})
    criterion = PerLeafLoss({"image": SquaredError(), "label": CrossEntropy()})
    network = JointMLP({"image": RealCodec(), "label": TokenCodec(10)}, width=16, depth=1)
    return Recipe(architecture=network, objective=FlowMatching(path, space, criterion), train=TrainConfig(steps=2))

def _hidden(data, size):
    pass
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    try:
        status = main(list(words))
    except SystemExit as end:
        status = int(end.code or 0)
    out, err = capsys.readouterr()
    return status, out, err


@pytest.mark.parametrize("command", ["fit", "sample", "evaluate", "data", "reproduce"])
def test_help_has_no_words_of_python(capsys: pytest.CaptureFixture[str], command: str) -> None:
    status, out, _ = run(capsys, command, "--help")
    assert status == 0
    assert "None" not in out


def test_help_names_all_kinds_and_forms(capsys: pytest.CaptureFixture[str]) -> None:
    _, fit, _ = run(capsys, "fit", "--help")
    _, sample, _ = run(capsys, "sample", "--help")
    assert [word for word in ("crystals", "molecules", ".cif", ".xyz", ".sdf", "atoms") if word not in fit] == []
    assert [ending for ending in (".cif", ".xyz", ".sdf", ".pdb", ".tsv") if ending not in sample] == []


def test_flags_are_named_as_they_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys, "fit", "example:moons", "--start-form", "x")
    assert status == 2
    assert "Did you mean --start-from" in err
    assert "--start_from" not in err


def test_a_file_without_its_function(capsys: pytest.CaptureFixture[str]) -> None:
    pathlib.Path("mine.py").write_text(OWN)
    status, _, err = run(capsys, "fit", "example:moons", "--recipe", "mine.py", *TINY)
    assert status == 2
    assert "expected mine.py:FUNCTION; available: simple, pairs" in err
    assert not pathlib.Path("ran").exists()
    assert run(capsys, "fit", "example:moons", "--recipe", "gone.py", *TINY)[0] == 1
    pathlib.Path("broken.py").write_text("def f(:")
    assert run(capsys, "fit", "example:moons", "--recipe", "broken.py", *TINY)[0] == 1


def test_a_run_of_own_code_names_its_file(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pathlib.Path("own_code.py").write_text(OWN)
    words = ("fit", "example:moons", "--recipe", "own_code.py:simple", "--sampling.nfe", "2", "--out", "r")
    assert run(capsys, *words)[0] == 0
    record = pathlib.Path("r/model.json")
    record.write_text(record.read_text().replace('"Own"', '"Gone"'))  # as in a process that has not run the code
    for command in ("sample", "evaluate"):
        status, _, err = run(capsys, command, "r")
        assert status == 2
        assert err.endswith("Name the file with --code own_code.py\n")


@pytest.mark.parametrize(
    ("data", "recipe", "told"),
    [
        ("molecules", "crystals", "needs crystals, but"),
        ("perovskites", "molecules", "needs molecules, but"),
        ("digits", "text", "needs text, but"),
    ],
)
def test_recipes_for_other_data(capsys: pytest.CaptureFixture[str], data: str, recipe: str, told: str) -> None:
    status, _, err = run(capsys, "fit", f"example:{data}", "--recipe", recipe, *TINY)
    assert status == 2
    assert told in err


def test_a_wrong_value_of_a_recipe_leaves_nothing_behind(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("fit", "example:digits", "--recipe", "image-label", *TINY, "--out", "r")
    status, _, err = run(capsys, *words, "--objective.leaf-times.conditionable", "lable")
    assert status == 2
    assert "Did you mean 'label'" in err
    assert not pathlib.Path("r").exists()


def test_a_recipe_for_other_states_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    pathlib.Path("states.py").write_text(OWN)
    status, _, err = run(capsys, "fit", "example:digits", "--recipe", "states.py:pairs", "--out", "r")
    assert status == 2
    assert "states of image [1, 8, 8] and label []" in err
    assert "have states of [1, 8, 8]" in err
    assert not pathlib.Path("r").exists()


def test_few_examples_are_said_before_training(capsys: pytest.CaptureFixture[str]) -> None:
    np.save("two.npy", np.array([[0.0, 1.0], [2.0, 3.0]]))
    assert run(capsys, "fit", "two.npy", *TINY, "--out", "r")[0] == 0
    _, _, err = run(capsys, "fit", "two.npy", *TINY, "--out", "r", "--overwrite")
    told = "examples to learn from: 2, fewer than 10"
    assert told in err.partition("training ...")[0]
    assert told in pathlib.Path("r/report.html").read_text()


@pytest.mark.slow
def test_a_budget_that_is_spent_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "fit", "example:moons", *TINY, "--out", "r")[0] == 0
    status, _, err = run(capsys, "fit", "--resume", "--out", "r", "--steps", "1")
    assert status == 0
    assert "nothing left to train" in err.replace("\n", " ")
    _, _, err = run(capsys, "fit", "--resume", "--out", "r", "--steps", "3")
    assert "resuming after step 2" in err


def test_a_flag_that_stands_twice_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Or the first would count for nothing, without a word."""
    assert main(["sample", "--given", "element=CaTiO3", "--given", "lattice=4,4,4,90,90,90"]) == 2
    assert "--given: expected a single flag" in capsys.readouterr().err


def test_help_breaks_lines_where_the_terminal_ends(capsys, monkeypatch):
    """The source breaks this sentence, and its indentation would stay in it."""
    monkeypatch.setenv("COLUMNS", "4000")
    assert "possible values. `feller data schema` writes a draft." in run(capsys, "fit", "--help")[1]
    assert (
        "FOLDER/samples-00000.npz, ... for --out FOLDER, and FOLDER/NAME-00000.csv"
        in run(capsys, "sample", "--help")[1]
    )
