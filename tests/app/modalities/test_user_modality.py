"""A modality in a user's file: commands, the page, and errors of its methods."""

import importlib
import json
import os
import pathlib
import re
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest
import torch

import feller
from feller.app.config import SampleConfig
from feller.app.modalities.registration import registration_of
from feller.app.options import config_of
from feller.app.webui.loaded_run import load_runs
from feller.app.webui.sample_views import sample_path, tab_result
from feller.app.workflows.run_config import read_fit_record
from feller.app.workflows.sample import sample
from feller.core.errors import InputError, UsageError
from feller.core.user_code import load_file
from feller.data.all_modalities import MODALITIES
from feller.data.loading.dataset_reader import read
from feller.data.modality import Modality
from tests.app.asked import refuse
from tests.app.asked import run as command
from tests.errors import refuses

DOCS = pathlib.Path(__file__).parents[3] / "docs" / "guides" / "extend.md"
(SOURCE,) = re.findall(r"```python\n(# series\.py\n.*?)```", DOCS.read_text(), re.DOTALL)
N, LENGTH = 320, 12
CODE = ["--code", "series.py"]


def write(file, n=N):
    """Write noisy waves."""
    draw = np.random.default_rng(0)
    waves = np.sin(np.arange(LENGTH) / 2 + draw.uniform(0, 6, (n, 1))) + draw.normal(0, 0.1, (n, LENGTH))
    rows = {"id": np.repeat(range(n), LENGTH), "t": np.tile(range(LENGTH), n), "value": waves.ravel()}
    pd.DataFrame(rows).to_csv(file, index=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Fit a run with the example of the documentation."""
    place = tmp_path_factory.mktemp("series")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        (place / "series.py").write_text(SOURCE)
        write(place / "series.csv")
        words = ("--modality", "series.py:Series", "--size", "tiny", "--steps", 60, "--held-out", 0.2)
        command("fit", "series.csv", *words, "--out", "run")
        yield place


def test_the_example_is_short():
    assert len(SOURCE.splitlines()) <= 80


def test_report_has_the_metrics_of_the_modality(folder):
    report = json.loads((folder / "run" / "report.json").read_text())
    numbers = report["numbers"]
    assert numbers["autocorrelation"] > numbers["autocorrelation_floor"] > 0
    assert "autocorrelation" in report["explanations"]
    assert "nll" not in numbers  # whose unit nobody knows, as the class says no log_scale
    assert (folder / "run" / "report.html").read_text().count("<img") >= 2
    asked = read_fit_record(feller.open_run("run"))
    assert (asked.modality, asked.provenance.recipe) == ("series.py:Series", "series.py:flow")


@pytest.mark.parametrize("name", ["new.csv", "new.npz", "new.parquet", "new"])
def test_samples_are_written_and_read_again(folder, name):
    command("sample", "run", *CODE, "-n", 20, "--out", name, "--seed", 3)
    if name == "new.parquet":
        assert [*pd.read_parquet(name).columns] == ["id", "t", "value"]
        return
    command("evaluate", "run", *CODE, "--samples", name, "--data", "series.csv")
    like = feller.load_model("run", code="series.py").spec.modality
    assert read(name, like=like).values.shape == (20, LENGTH)


def test_steer_and_resume(folder, capsys):
    numbers = command("steer", "run", *CODE, "--reward", "series.py:high", "-n", 4, "--out", "high.csv")
    assert numbers["reward"] > numbers["reward_before"]
    resume = ("fit", "--resume", "--out", "run", "--steps", 61, "--report", "none")
    refuse(*resume)
    command(*resume, "--modality", "series.py:Series")


def test_code_of_a_run_is_executed_only_if_named(folder, tmp_path, monkeypatch):
    """In a process of its own, which has not loaded the file before."""
    (tmp_path / "series.py").write_text("import pathlib\npathlib.Path('executed').touch()\n")
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-m", "feller", "sample", str(folder / "run"), "--out", "new.csv"]
    env = {**os.environ, "PYTHONPATH": str(pathlib.Path(feller.__file__).parents[1])}
    for more in ([], ["--code", str(tmp_path / "series.py")]):
        done = subprocess.run([*command, *more], check=False, capture_output=True, env=env)
        assert done.returncode == 2
        assert (tmp_path / "executed").exists() == bool(more)
    assert not (tmp_path / "new.csv").exists()


def test_page_shows_samples(folder, tmp_path):
    load_file(pathlib.Path("series.py"))
    (run,) = load_runs([feller.open_run("run")])
    assert run.is_sampled
    file = sample_path(tmp_path, run.modality)
    shown = tab_result(run, sample(run.run, config_of(SampleConfig, n=3, out=str(file))).dataset, file)
    assert len(pd.read_csv(file)) == 3 * LENGTH
    assert len(shown.pictures) == 1


def test_data_in_memory_and_the_class_itself(folder):
    series = load_file(pathlib.Path("series.py")).Series
    run = feller.fit(pd.read_csv("series.csv"), modality=series, size="tiny", steps=2, out="memory", report="none")
    assert read_fit_record(run.folder).modality == "series.py:Series"
    assert feller.load_model("memory").sample(5).frame().shape == (5 * LENGTH, 3)
    feller.testing.check_modality(series, "series.csv")


def test_refused_sources(folder):
    series = load_file(pathlib.Path("series.py")).Series
    with refuses(UsageError):
        read("series.csv", modality=series, space="sphere")
    for source in ("series.py", "none.csv"):
        with refuses(InputError, file=source):
            read(source, modality=series)


BASE = """
import torch
import feller

@feller.register_modality
class Bad(feller.Modality):
    name, suffixes, recipe = "bad", (".csv",), "points"
    figure = print
    def load(self, source):
        return feller.RawData(torch.arange(24.0).reshape(8, 3))
    def space(self):
        return feller.Euclidean((3,))
    def encode(self, values):
        return values / 10
    def decode(self, state):
        return state * 10
"""
BAD = {
    "no encode": ("    def encode(self, values):\n        return values / 10\n", "", "Bad"),
    "no load": ("    def load(self, source):", "    def loads_it(self, source):", "Bad"),
    "no figure": ("    figure = print\n", "", "Bad"),
    "no dataclass": ("@feller.register_modality", "", "Bad"),
    "no class": ("class Bad(feller.Modality)", "class Bad(object)", "Bad"),
    "field without a value": ("    figure = print\n", "    figure = print\n    length: int\n", "Bad"),
    "load raises": (
        "        return feller.RawData",
        '        raise KeyError("id")\n        return feller.RawData',
        "load",
    ),
    "load returns a tensor": ("feller.RawData(torch.arange(24.0).reshape(8, 3))", "torch.zeros(8, 3)", "load"),
    "load finds nothing": ("torch.arange(24.0).reshape(8, 3)", "torch.zeros(0, 3)", "load"),
    "load returns NaN": ("torch.arange(24.0).reshape(8, 3)", "torch.full((8, 3), torch.nan)", "load"),
    "a class that is not there": (".reshape(8, 3))", '.reshape(8, 3), {"label": torch.zeros(8).long()})', "conditions"),
    "encode returns another shape": ("values / 10", "values[:, :2] / 10", "encode"),
    "encode returns another type": ("values / 10", "values.double() / 10", "encode"),
    "encode returns NaN": ("values / 10", "values * torch.nan", "encode"),
    "encode raises": ("values / 10", "values / self.width", "encode"),
    "decode returns another shape": ("state * 10", "state[:, :2]", "decode"),
    "space returns another": ("feller.Euclidean((3,))", "feller.Euclidean((4,))", "encode"),
    "load returns an array": ("torch.arange(24.0).reshape(8, 3)", "torch.zeros(8, 3).numpy()", "load"),
    "space is a shape": ("feller.Euclidean((3,))", "(3,)", "space"),
    "suffixes without a comma": ('(".csv",)', '".csv"', "Bad"),
    "metrics without a comma": ("    figure = print\n", "    figure = print\n    metrics = print\n", "Bad"),
    "a metric without a name": (
        "    figure = print\n",
        "    figure = print\n    metrics = (lambda samples, real: 0.0,)\n",
        "Bad",
    ),
    "two metrics of one name": ("    figure = print\n", "    figure = print\n    metrics = (print, print)\n", "Bad"),
    "frame returns a dict": (
        "    def space",
        "    def frame(self, values, given):\n        return {'x': values}\n    def space",
        "frame",
    ),
    "fit returns nothing": ("    def space", "    def fit(self, raw):\n        return None\n    def space", "fit"),
}


def written(folder, code, name="bad.py"):
    """Write a modality and data of it, and return its file."""
    (folder / "a.csv").write_text("x\n1\n")
    (folder / name).write_text(code)
    return folder / name


@pytest.mark.parametrize("name", BAD)
def test_errors_of_methods_have_four_fields(name, tmp_path):
    old, new, where = BAD[name]
    assert old in BASE
    file = written(tmp_path, f"from dataclasses import dataclass\n{textwrap.dedent(BASE).replace(old, new)}")
    with refuses(InputError) as caught:
        feller.fit(str(tmp_path / "a.csv"), modality=f"{file}:Bad", steps=1, out=str(tmp_path / "run"))
    error = caught.value
    assert where in str(error)
    assert all((error.argument, error.expected, error.found, error.remedy))
    assert not (tmp_path / "run").exists()


def test_modality_of_the_command_line(tmp_path):
    """A method of the user's is no flag, and the name of the class is needed."""
    file = written(tmp_path, BASE.replace("state * 10", "state[:, :2]"))
    fit = ("fit", tmp_path / "a.csv", "--steps", 1, "--out", tmp_path / "run", "--modality")
    refuse(*fit, f"{file}:Bad", kind=InputError)
    assert "one of Bad" in str(refuse(*fit, f"{file}:Nope"))
    refuse(*fit, file)


RECIPES = {
    "a recipe that returns nothing": ("    return None", InputError),
    "a recipe that fails": ("    return data.nope", InputError),
    "a recipe of another space": ("    return made(feller.Euclidean((4,)), feller.MLP())", UsageError),
}


@pytest.mark.parametrize("name", RECIPES)
def test_refused_recipes(name, tmp_path):
    body, kind = RECIPES[name]
    code = "def made(space, network):\n    return feller.Recipe(architecture=network, objective=feller.FlowMatching("
    code += f"feller.Affine(), space))\n\ndef flow(data, size):\n{body}\n\n@feller"
    file = written(tmp_path, BASE.replace("@feller", code, 1).replace('"points"', "flow"), "recipe.py")
    with refuses(kind):
        feller.testing.check_modality(load_file(file).Bad, str(tmp_path / "a.csv"))


def test_error_of_frame(folder, tmp_path):
    file = tmp_path / "twice.py"
    file.write_text(SOURCE.replace("for i in range(n) for _", "for i in [0] * n for _"))
    with refuses(InputError) as caught:
        feller.testing.check_modality(load_file(file).Series, "series.csv")
    assert caught.value.argument.startswith("Series.frame (")


def test_error_of_an_imported_class_names_its_line(folder, tmp_path, monkeypatch):
    written(tmp_path, BASE.replace("values / 10", "values / self.width"), "imported_kind.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    with refuses(InputError) as caught:
        feller.testing.check_modality(importlib.import_module("imported_kind").Bad, str(tmp_path / "a.csv"))
    assert "imported_kind.py line 14, in encode" in caught.value.found


def test_refused_fits(folder, tmp_path):
    (tmp_path / "recipe.py").write_text(SOURCE)
    for words in (["--recipe", f"{tmp_path / 'recipe.py'}:flow"], ["--epsilon", "3"]):
        refuse("fit", "series.csv", "--modality", "series.py:Series", "--steps", 1, "--out", "refused", *words)
        assert not pathlib.Path("refused").exists()


def test_built_in_modalities_are_registered():
    for kind in MODALITIES:
        assert registration_of(object.__new__(kind)).output in ("samples", "documents", "speech")


def test_classes_are_conditions(tmp_path):
    classed = BASE.replace("reshape(8, 3))", 'reshape(8, 3), {"label": torch.arange(8) % 2})')
    conditions = '    @property\n    def conditions(self):\n        return {"label": ("a", "b")}\n'
    kind = load_file(written(tmp_path, classed + conditions, "classed.py")).Bad
    data = read(str(tmp_path / "a.csv"), modality=kind)
    data.modality.write(data.values, data.given, tmp_path / "b.npz")
    back = read(str(tmp_path / "b.npz"), like=data.modality)
    assert torch.equal(back.given["label"], data.given["label"])
    assert issubclass(kind, Modality)
