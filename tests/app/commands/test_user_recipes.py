"""Recipes of a user's file, and recipes that do not fit the data."""

import pathlib

import numpy as np
import pytest

from feller.core.errors import InputError
from tests.app.asked import refuse, run

pytestmark = pytest.mark.usefixtures("here")

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


def test_file_without_a_function():
    fit = ("fit", "example:moons", *TINY, "--recipe")
    pathlib.Path("mine.py").write_text(OWN)
    refuse(*fit, "mine.py", argument="recipe", expected="mine.py:FUNCTION; available: simple, pairs")
    assert not pathlib.Path("ran").exists()
    refuse(*fit, "gone.py", kind=InputError, file="gone.py")
    pathlib.Path("broken.py").write_text("def f(:")
    refuse(*fit, "broken.py", kind=InputError, file="broken.py")


def test_run_of_user_code_names_its_file():
    pathlib.Path("own_code.py").write_text(OWN)
    run("fit", "example:moons", "--recipe", "own_code.py:simple", "--sampling.nfe", 2, "--out", "r")
    record = pathlib.Path("r/model.json")
    record.write_text(record.read_text().replace('"Own"', '"Gone"'))  # as in a process that has not run the code
    for command in ("sample", "evaluate"):
        refuse(command, "r", remedy="Name the file with --code own_code.py")


def test_wrong_name_in_a_recipe_leaves_nothing_behind():
    words = ("--recipe", "image-label", *TINY, "--out", "r", "--objective.leaf-times.conditionable", "lable")
    refuse("fit", "example:digits", *words, found="'lable'", remedy="Did you mean 'label'?")
    assert not pathlib.Path("r").exists()


def test_recipe_of_another_space():
    pathlib.Path("states.py").write_text(OWN)
    text = str(refuse("fit", "example:digits", "--recipe", "states.py:pairs", "--out", "r"))
    assert "image [1, 8, 8] and label []" in text
    assert not pathlib.Path("r").exists()


def test_few_examples_are_noted_before_training(capsys):
    np.save("two.npy", np.array([[0.0, 1.0], [2.0, 3.0]]))
    run("fit", "two.npy", *TINY, "--out", "r")
    note = "examples to learn from: 2"
    assert note in capsys.readouterr().err.partition("training ...")[0]
    assert note in pathlib.Path("r/report.html").read_text()


@pytest.mark.slow
def test_resumed_fit_of_no_more_steps():
    run("fit", "example:moons", *TINY, "--out", "r")
    weights = pathlib.Path("r/weights.safetensors")
    before = weights.read_bytes()
    assert run("fit", "--resume", "--out", "r", "--steps", 1)["steps"] == 2
    assert weights.read_bytes() == before
    assert run("fit", "--resume", "--out", "r", "--steps", 3)["steps"] == 3
