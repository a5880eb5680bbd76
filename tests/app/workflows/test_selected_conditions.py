"""Conditions selected at a fit: candidates, suggestions, samples that keep them, and refusals."""

import pathlib

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import feller
from feller.app.webui.condition_controls import conditions_from
from feller.app.workflows.next_steps import condition_examples
from feller.core.errors import InputError, UsageError
from feller.core.run_folder import Run
from feller.data.loading.dataset_reader import read
from feller.models.spec import load_spec
from tests.app.asked import refuse, run
from tests.errors import refuses

SHORT = ("--size", "tiny", "--steps", "2", "--sampling.nfe", "4")


@pytest.fixture(scope="module")
def clocks(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Table of a period, two numbers and a category."""
    rng = np.random.default_rng(0)
    n, path = 120, tmp_path_factory.mktemp("clocks") / "clocks.csv"
    columns = {
        "period": rng.normal(size=n),
        "length": np.linspace(0.5, 4.5, n).round(3),
        "clock": np.where(np.arange(n) % 2, "sensor", "stopwatch"),
        "constant": np.ones(n),
        "site": np.where(np.arange(n) % 3, "indoors", "outdoors"),
    }
    pd.DataFrame(columns).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def fitted(clocks: pathlib.Path) -> pathlib.Path:
    """Run of the period given length and clock."""
    table, out = clocks.with_name("some.csv"), clocks.with_name("run")
    pd.read_csv(clocks)[["period", "length", "clock"]].to_csv(table, index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("feller.app.workflows.fit.evaluate", lambda run, **others: {})
        run("fit", table, "--condition", "length", "clock", *SHORT, "--out", out)
    return out


def test_candidates_and_values_are_listed(clocks: pathlib.Path, fitted: pathlib.Path) -> None:
    numbers = clocks.with_name("numbers.csv")
    pd.read_csv(clocks)[["period", "length"]].to_csv(numbers, index=False)
    assert run("data", numbers)["condition_candidates"] == "period, length"
    described = run("data", fitted)
    assert described["length"] == "0.5 to 4.5"
    assert described["clock"] == "sensor, stopwatch"


def test_suggested_values_are_inside_the_training_range(clocks: pathlib.Path, fitted: pathlib.Path) -> None:
    spec = load_spec(Run(fitted))
    examples = dict(word.split("=") for word, _ in condition_examples(spec, read(clocks.with_name("some.csv"))))
    assert 0.5 <= float(examples["length"]) <= 4.5
    assert examples["clock"] == "sensor"


@pytest.mark.parametrize("site", ["--condition length", "--condition length clock"])
def test_tables_with_other_texts_are_refused(clocks: pathlib.Path, site: str, tmp_path: pathlib.Path) -> None:
    error = refuse("fit", clocks, *site.split(), *SHORT, "--out", tmp_path / "run", argument="condition")
    assert "--given" in error.remedy


@pytest.mark.parametrize(
    ("words", "kind", "argument"),
    [
        (("lenght",), None, "condition"),
        (("constant", "clock", "site"), InputError, "constant"),
    ],
)
def test_wrong_conditions_are_refused(clocks, words, kind, argument, tmp_path) -> None:
    more = {} if kind is None else {"kind": kind}
    error = refuse("fit", clocks, "--condition", *words, *SHORT, "--out", tmp_path / "run", argument=argument, **more)
    assert kind is not None or "length" in str(error)


@pytest.mark.parametrize(
    ("given", "argument"), [("length=long", "length"), ("clock=sensr", "clock"), ("lenght=1", "given")]
)
def test_wrong_values_are_refused(fitted: pathlib.Path, tmp_path: pathlib.Path, given: str, argument: str) -> None:
    refuse("sample", fitted, "-n", 2, "--given", given, "--out", tmp_path / "a.csv", argument=argument)


def test_wrong_guidance_is_refused(fitted: pathlib.Path, tmp_path: pathlib.Path) -> None:
    words = ("sample", fitted, "-n", 2, "--given", "length=1", "--out", tmp_path / "a.csv")
    refuse(*words, "--guidance", "lenght=2", argument="guidance")


def test_values_outside_the_training_range_warn(fitted: pathlib.Path, tmp_path: pathlib.Path, capsys) -> None:
    run("sample", fitted, "-n", 2, "--given", "length=100", "--out", tmp_path / "a.csv")
    assert "0.5 to 4.5" in capsys.readouterr().err


def test_more_conditions_than_rows_are_refused(tmp_path: pathlib.Path) -> None:
    table = tmp_path / "few.csv"
    table.write_text("x,a,b,c\n1,1,2,3\n2,4,6,5\n")
    refuse("fit", table, "--condition", "a", "b", "c", *SHORT, "--out", tmp_path / "run", kind=InputError)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Run of images given captions and gray images, next to the folder of the gray images."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for name in ("photos", "gray"):
        (folder / name).mkdir()
    for i in range(60):
        pixels = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"{('red car', 'bike')[i % 2]}-{i}.png")
        Image.fromarray(pixels).convert("L").save(folder / "gray" / f"{('red car', 'bike')[i % 2]}-{i}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("feller.app.workflows.fit.evaluate", lambda run, **others: {})
        run("fit", folder / "photos", "--condition", "caption", "gray", *SHORT, "--out", folder / "run")
    return folder / "run"


def test_images_from_captions_and_images(drawn: pathlib.Path, tmp_path: pathlib.Path) -> None:
    gray = drawn.parent / "gray" / "bike-1.png"
    words = ("sample", drawn, "-n", 3, "--guidance", 2, "--given", "caption=red bike", f"gray={gray}")
    run(*words, "--out", tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as arrays:
        assert arrays["caption"].tolist() == ["red bike"] * 3
        assert (arrays["gray"][..., 0] == np.asarray(Image.open(gray))).all()
    run("sample", drawn, "-n", 3, "--given", "caption=bike", "--out", tmp_path / "folder")
    assert pd.read_csv(tmp_path / "folder" / "captions.csv")["caption"].tolist() == ["bike"] * 3
    guided = ("export", drawn, "--to", "torch-export", "--guidance", 2)
    assert run(*guided, "--out", tmp_path / "a.pt2")


@pytest.mark.parametrize("given", ["caption=a bus", "caption=red cars and bikes", "gray=none.png"])
def test_wrong_captions_and_images_are_refused(drawn: pathlib.Path, tmp_path: pathlib.Path, given: str) -> None:
    refuse("sample", drawn, "-n", 2, "--given", given, "--out", tmp_path / "a.npz", argument=given.partition("=")[0])


def test_velocity_takes_selected_conditions(drawn: pathlib.Path, fitted: pathlib.Path) -> None:
    x, t = torch.zeros(2, 1), torch.full((2,), 0.5)
    velocity = feller.velocity(fitted)
    assert velocity(x, t, length=1.5, clock="sensor").shape == (2, 1)
    torch.testing.assert_close(velocity(x, t), velocity(x, t, length=float("nan")))
    with refuses(UsageError, argument="clock"):
        velocity(x, t, clock="sensr")
    images = torch.zeros(2, 3, 4, 4)
    assert feller.velocity(drawn)(images, t, caption=["red car", "bike"]).shape == images.shape


def test_networks_of_users_are_refused(clocks: pathlib.Path, fitted: pathlib.Path) -> None:
    data = read(clocks.with_name("some.csv"), condition=("length", "clock"))
    with refuses(UsageError, argument="data"):
        feller.Model(lambda x, t: -x, data=data)


def test_page_reads_no_files(drawn: pathlib.Path) -> None:
    modality = load_spec(Run(drawn)).modality
    with refuses(UsageError):
        conditions_from({"given": "gray=/etc/passwd"}, modality)
    assert conditions_from({"given:caption": "bike", "given": ""}, modality) == {"caption": "bike"}
