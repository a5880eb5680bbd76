"""Data in memory: fitted like files, and samples given back as arrays, frames and pictures."""

import html
import io

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import feller
from feller.data.given import keep
from feller.errors import UsageError
from feller.journeys.private.guard import Wish
from feller.run import Run


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def quietly(monkeypatch):
    monkeypatch.setattr("feller.journeys.fit.evaluate", lambda run, tell: {})


@pytest.mark.slow
def test_an_array_is_fitted_and_its_run_knows_it_again(here):
    x = np.random.default_rng(0).normal(size=(120, 3))
    run, numbers = feller.fit(x, size="tiny", steps=3)
    assert run.path.name == "data-1"
    assert "energy" in numbers  # the report read the data again
    drawn = feller.load_model(run).sample(5)
    assert drawn.numpy().shape == (5, 3)
    np.testing.assert_allclose(drawn.frame().to_numpy(), drawn.numpy(), rtol=1e-6)
    second, _ = feller.fit(x, size="tiny", steps=3)
    assert second.path.name == "data-2"


@pytest.mark.parametrize("kind", ["array", "tensor", "dict"])
def test_pictures_keep_their_values_and_labels(here, kind):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 6, 6), dtype=np.uint8)
    data = {"array": pixels, "tensor": torch.from_numpy(pixels), "dict": {"samples": pixels, "labels": ["a", "b"] * 10}}
    found = feller.read(str(keep(data[kind], here / "kept")))
    assert np.array_equal(found.numpy(), pixels)
    assert ("label" in found.given) == (kind == "dict")


def test_a_frame_becomes_a_table_with_the_same_cells(here, monkeypatch):
    quietly(monkeypatch)
    frame = pd.DataFrame({"age": [20, 31, 44, 70] * 20, "school": ["x", "y", "y", "z"] * 20})
    run, _ = feller.fit(frame, size="tiny", steps=2, out="people")
    drawn = feller.load_model(run).sample(6)
    assert list(drawn.frame().columns) == ["age", "school"]
    assert set(drawn.frame()["school"]) <= {"x", "y", "z"}
    assert pd.read_csv("people/data.csv").equals(frame)


def test_floats_of_a_frame_lose_no_digit(here):
    values = np.random.default_rng(0).normal(size=(50, 2))
    found = feller.read(str(keep(pd.DataFrame(values, columns=["a", "b"]), here / "kept")))
    assert np.array_equal(found.numpy(), values)


def test_words_become_texts(here):
    lines = ["to be or\nnot to be", 'that "is"', "the question"] * 4
    found = feller.read(str(keep(lines, here / "kept")))
    assert found.modality.called == feller.read("example:shakespeare").modality.called
    assert len(found) == len(lines)


def test_what_cannot_be_kept_is_refused(here):
    for data, said in (
        (np.array([object(), object()]), "Python objects"),
        (pd.DataFrame({0: [1.0]}), "whose columns have names"),
    ):
        with pytest.raises(UsageError, match=said):
            keep(data, here / "kept")
    frame = pd.DataFrame({"a": [1.0, 2.0]})
    with pytest.raises(UsageError, match="a private fit reads its rows from a file"):
        feller.fit(frame, wish=Wish(epsilon=1.0))
    with pytest.raises(UsageError, match="knows its data"):
        feller.fit(frame, resume=True)
    assert not (here / "runs").exists()


def test_samples_show_as_a_picture_of_their_kind(here):
    picture = Image.open(io.BytesIO(feller.read("example:moons")._repr_png_()))
    assert picture.format == "PNG"
    assert min(picture.size) > 100
    digits = feller.read("example:digits").subset(torch.arange(4))
    assert Image.open(io.BytesIO(digits._repr_png_())).size == digits.modality.show(digits.values, {}).size


def test_a_run_shows_its_report_which_can_do_nothing_there(here):
    folder = here / "a<b>&'\""
    folder.mkdir()
    assert "<b>" not in Run(folder)._repr_html_()
    assert "without a report" in Run(folder)._repr_html_()
    page = '<html><script>alert("x")</script><h1>Report & more</h1></html>'
    (folder / "report.html").write_text(page)
    shown = Run(folder)._repr_html_()
    assert "<script" not in shown
    assert "iframe sandbox srcdoc" in shown
    inside = shown.split('srcdoc="')[1].split('"')[0]
    assert html.unescape(inside) == page
