"""A modality in a file of the user's: every command works, its file is asked for, and what is wrong with it is told."""

import importlib
import json
import os
import pathlib
import re
import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import feller
from feller.app.cli import main
from feller.app.config import SampleConfig
from feller.app.modalities.registration import registration_of
from feller.app.options import config_of
from feller.app.webui.loaded_run import load_runs
from feller.app.webui.sample_views import sample_path, tab_result
from feller.app.workflows.run_config import read_fit_record
from feller.app.workflows.sample import sample
from feller.core.errors import InputError, UsageError
from feller.core.user_code import load_file
from feller.data.loading.dataset_reader import read
from feller.data.modality import Modality

DOCS = pathlib.Path(__file__).parents[3] / "docs" / "guides" / "extend.md"
(SOURCE,) = re.findall(r"```python\n(# series\.py\n.*?)```", DOCS.read_text(), re.DOTALL)
N, LENGTH = 320, 12
CODE = ["--code", "series.py"]


def write(file: pathlib.Path, n: int = N) -> None:
    """Write waves that have one of two levels."""
    draw = np.random.default_rng(0)
    waves = np.sin(np.arange(LENGTH) / 2 + draw.uniform(0, 6, (n, 1))) + draw.normal(0, 0.1, (n, LENGTH))
    rows = {"id": np.repeat(range(n), LENGTH), "t": np.tile(range(LENGTH), n), "value": waves.ravel()}
    pd.DataFrame(rows).to_csv(file, index=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Fit a run of such data, by the file of the page in the documentation."""
    place = tmp_path_factory.mktemp("series")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        (place / "series.py").write_text(SOURCE)
        write(place / "series.csv")
        words = ["--modality", "series.py:Series", "--size", "tiny", "--steps", "60", "--held-out", "0.2"]
        assert main(["fit", "series.csv", *words, "--out", "run"]) == 0
        yield place


def test_the_example_is_short() -> None:
    assert len(SOURCE.splitlines()) <= 80


def test_the_report_judges_by_its_metrics_beside_real_data(folder: pathlib.Path) -> None:
    report = json.loads((folder / "run" / "report.json").read_text())
    numbers = report["numbers"]
    assert numbers["autocorrelation"] > numbers["autocorrelation_floor"] > 0
    assert "autocorrelation" in report["explanations"]
    assert "nll" not in numbers  # whose unit nobody knows, as the class says no log_scale
    assert (folder / "run" / "report.html").read_text().count("<img") >= 2
    asked = read_fit_record(feller.open_run("run"))
    assert (asked.modality, asked.provenance.recipe) == ("series.py:Series", "series.py:flow")


@pytest.mark.parametrize("name", ["new.csv", "new.npz", "new.parquet", "new"])
def test_samples_are_written_and_read_again(folder: pathlib.Path, name: str) -> None:
    assert main(["sample", "run", *CODE, "-n", "20", "--out", name, "--seed", "3"]) == 0
    if name == "new.parquet":
        assert [*pd.read_parquet(name).columns] == ["id", "t", "value"]
        return
    assert main(["evaluate", "run", *CODE, "--samples", name, "--data", "series.csv"]) == 0
    like = feller.load_model("run", code="series.py").spec.modality
    assert read(name, like=like).values.shape == (20, LENGTH)


def test_rewards_see_values_and_a_run_goes_on(folder: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--reward", "series.py:high", "-n", "4", "--out", "high.csv", "--json"]
    assert main(["steer", "run", *CODE, *words]) == 0
    numbers = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert numbers["reward"] > numbers["reward_before"]
    resume = ["fit", "--resume", "--out", "run", "--steps", "61", "--report", "none"]
    assert main(resume) == 2
    assert main([*resume, "--modality", "series.py:Series"]) == 0


def test_nothing_of_a_run_is_executed_before_its_file_is_named(folder, tmp_path, monkeypatch):
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


def test_the_page_shows_samples_and_their_table(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    load_file(pathlib.Path("series.py"))
    (run,) = load_runs([feller.open_run("run")])
    assert run.is_sampled
    assert run.modality is not None
    file = sample_path(tmp_path, run.modality)
    shown = tab_result(run, sample(run.run, config_of(SampleConfig, n=3, out=str(file))).dataset, file)
    assert len(pd.read_csv(file)) == 3 * LENGTH
    assert len(shown.pictures) == 1


def test_data_in_memory_and_the_class_itself(folder: pathlib.Path) -> None:
    series = load_file(pathlib.Path("series.py")).Series
    run = feller.fit(pd.read_csv("series.csv"), modality=series, size="tiny", steps=2, out="memory", report="none")
    assert read_fit_record(run.folder).modality == "series.py:Series"
    assert feller.load_model("memory").sample(5).frame().shape == (5 * LENGTH, 3)
    feller.testing.check_modality(series, "series.csv")


def test_other_ways_of_reading_do_not_go_with_it(folder: pathlib.Path) -> None:
    series = load_file(pathlib.Path("series.py")).Series
    with pytest.raises(UsageError):
        read("series.csv", modality=series, space="sphere")
    for source in ("series.py", "none.csv"):
        with pytest.raises(InputError) as error:
            read(source, modality=series)
        assert error.value.file == source
        assert error.value.expected


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
    "no dataclass": ("@feller.register_modality", "@dataclass\n", "Bad"),
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


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_told_in_four_fields(name: str, tmp_path: pathlib.Path) -> None:
    old, new, where = BAD[name]
    assert old in BASE
    file = tmp_path / "bad.py"
    file.write_text(f"from dataclasses import dataclass\n{textwrap.dedent(BASE).replace(old, new)}")
    (tmp_path / "a.csv").write_text("x\n1\n")
    with pytest.raises(InputError) as error:
        feller.fit(str(tmp_path / "a.csv"), modality=f"{file}:Bad", steps=1, out=str(tmp_path / "run"))
    told = error.value
    assert where in str(told)
    assert all((told.argument, told.expected, told.found, told.remedy))
    assert not (tmp_path / "run").exists()


def test_the_words_of_the_command_line(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A method of the user's is no flag, and classes are asked for."""
    (tmp_path / "a.csv").write_text("x\n1\n")
    (tmp_path / "bad.py").write_text(BASE.replace("state * 10", "state[:, :2]"))

    def told(place: str, status: int) -> str:
        fit = ["fit", str(tmp_path / "a.csv"), "--modality", str(tmp_path / place), "--steps", "1"]
        assert main([*fit, "--out", str(tmp_path / "run")]) == status
        return capsys.readouterr().err.splitlines()[-1]

    assert "--Bad" not in told("bad.py:Bad", 1)
    assert "one of Bad;" in told("bad.py:Nope", 2)
    assert "file.py:Class" in told("bad.py", 2)


RECIPES = {
    "a recipe that returns nothing": ("    return None", InputError),
    "a recipe that fails": ("    return data.nope", InputError),
    "a recipe of another space": ("    return made(feller.Euclidean((4,)), feller.MLP())", UsageError),
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_tried(name: str, tmp_path: pathlib.Path) -> None:
    body, kind = RECIPES[name]
    code = "def made(space, network):\n    return feller.Recipe(architecture=network, objective=feller.FlowMatching("
    code += f"feller.Affine(), space))\n\ndef flow(data, size):\n{body}\n\n@feller"
    file = tmp_path / "recipe.py"
    file.write_text(BASE.replace("@feller", code, 1).replace('"points"', "flow"))
    (tmp_path / "a.csv").write_text("x\n1\n")
    with pytest.raises(kind) as error:
        feller.testing.check_modality(load_file(file).Bad, str(tmp_path / "a.csv"))
    assert error.value.found or error.value.message


def test_rows_that_cannot_be_read_again_are_of_frame(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "twice.py"
    file.write_text(SOURCE.replace("for i in range(n) for _", "for i in [0] * n for _"))
    with pytest.raises(InputError) as error:
        feller.testing.check_modality(load_file(file).Series, "series.csv")
    assert str(error.value.argument).startswith("Series.frame (")


def test_a_class_that_was_imported_is_blamed_by_its_line(folder, tmp_path, monkeypatch):
    (tmp_path / "imported_kind.py").write_text(BASE.replace("values / 10", "values / self.width"))
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "a.csv").write_text("x\n1\n")
    with pytest.raises(InputError) as error:
        feller.testing.check_modality(importlib.import_module("imported_kind").Bad, str(tmp_path / "a.csv"))
    assert "imported_kind.py line 14, in encode" in str(error.value.found)


def test_one_file_is_remembered_and_private_fits_are_refused(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "recipe.py").write_text(SOURCE)
    for words in (["--recipe", f"{tmp_path / 'recipe.py'}:flow"], ["--epsilon", "3"]):
        fit = ["fit", "series.csv", "--modality", "series.py:Series", "--steps", "1", "--out", "refused"]
        assert main([*fit, *words]) == 2
        assert not pathlib.Path("refused").exists()


def test_each_modality_of_ours_has_its_file() -> None:
    from feller.data.all_modalities import MODALITIES

    for kind in MODALITIES:
        assert registration_of(object.__new__(kind)).output in ("samples", "documents", "speech")


def test_classes_are_conditions(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "classed.py"
    classed = BASE.replace("reshape(8, 3))", 'reshape(8, 3), {"label": torch.arange(8) % 2})')
    file.write_text(classed + '    @property\n    def conditions(self):\n        return {"label": ("a", "b")}\n')
    (tmp_path / "a.csv").write_text("x\n1\n")
    kind = load_file(file).Bad
    data = read(str(tmp_path / "a.csv"), modality=kind)
    data.modality.write(data.values, data.given, tmp_path / "b.npz")
    back = read(str(tmp_path / "b.npz"), like=data.modality)
    assert torch.equal(back.given["label"], data.given["label"])
    assert issubclass(kind, Modality)
