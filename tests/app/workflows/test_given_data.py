"""Data in memory: fitted like files, and samples as arrays, frames and images."""

import html
import io

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import feller
from feller.core.errors import InputError, UsageError
from feller.core.run_folder import Run
from feller.data.loading.in_memory import save
from tests.errors import refuses

pytestmark = pytest.mark.usefixtures("here")


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape)


@pytest.mark.slow
def test_array():
    x = normal(120, 3)
    run = feller.fit(x, size="tiny", steps=3)
    assert run.path.name == "data-1"
    assert "energy" in run.report.metrics  # the report read the data again
    drawn = run.model.sample(5)
    assert drawn.numpy().shape == (5, 3)
    np.testing.assert_allclose(drawn.frame().to_numpy(), drawn.numpy(), rtol=1e-6)
    second = feller.fit(x, size="tiny", steps=3)
    assert second.path.name == "data-2"


@pytest.mark.parametrize("kind", ["array", "tensor", "dict"])
def test_images_keep_their_values_and_labels(here, kind):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 6, 6), dtype=np.uint8)
    data = {"array": pixels, "tensor": torch.from_numpy(pixels), "dict": {"samples": pixels, "labels": ["a", "b"] * 10}}
    found = feller.read(str(save(data[kind], here / "kept")))
    assert np.array_equal(found.numpy(), pixels)
    assert ("label" in found.given) == (kind == "dict")


def test_frame_becomes_a_table(unreported):
    frame = pd.DataFrame({"age": [20, 31, 44, 70] * 20, "school": ["x", "y", "y", "z"] * 20})
    run = feller.fit(frame, size="tiny", steps=2, out="people")
    drawn = run.sample(6)
    assert dict(drawn.dtypes) == dict(frame.dtypes)
    assert set(drawn["school"]) <= {"x", "y", "z"}
    assert pd.read_csv("people/data.csv").equals(frame)


def test_floats_of_a_frame_are_exact(here):
    values = normal(50, 2)
    found = feller.read(str(save(pd.DataFrame(values, columns=["a", "b"]), here / "kept")))
    assert np.array_equal(found.numpy(), values)


def test_strings_become_texts(here):
    lines = ["to be or\nnot to be", 'that "is"', "the question"] * 4
    found = feller.read(str(save(lines, here / "kept")))
    assert found.modality.display_name == feller.read("example:shakespeare").modality.display_name
    assert len(found) == len(lines)


def test_refused_data(here):
    for data, found in (
        (np.array([object()] * 2), "Python objects, such as object"),
        (pd.DataFrame({0: [1.0]}), "int 0"),
    ):
        with refuses(UsageError, argument="data", found=found):
            save(data, here / "kept")
    frame = pd.DataFrame({"a": [1.0, 2.0]})
    with refuses(InputError, found="none"):
        feller.fit(frame, resume=True)
    assert not (here / "runs").exists()


def test_samples_are_shown_in_notebooks():
    picture = Image.open(io.BytesIO(feller.read("example:moons")._repr_png_()))
    assert picture.format == "PNG"
    assert min(picture.size) > 100
    digits = feller.read("example:digits").subset(torch.arange(4))
    assert Image.open(io.BytesIO(digits._repr_png_())).size == digits.modality.show(digits.values, {}).size


def test_report_in_a_notebook_is_sandboxed(here):
    folder = here / "a<b>&'\""
    folder.mkdir()
    empty = Run(folder)._repr_html_()
    assert "<b>" not in empty
    assert "iframe" not in empty
    page = '<html><script>alert("x")</script><h1>Report & more</h1></html>'
    (folder / "report.html").write_text(page)
    shown = Run(folder)._repr_html_()
    assert "<script" not in shown
    assert "iframe sandbox srcdoc" in shown
    inside = shown.split('srcdoc="')[1].split('"')[0]
    policy, _, rest = html.unescape(inside).partition(">")
    assert policy.startswith('<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; ')
    assert rest == page
    (folder / "report.html").rename(folder / "other.html")
    (folder / "report.html").symlink_to("other.html")
    assert Run(folder)._repr_html_() == empty


def test_refused_data_leave_nothing_behind(here):
    holes = normal(40, 2)
    holes[3, 1] = np.nan
    with refuses(InputError, file="your array [40, 2]", row=4, column=2):
        feller.fit(holes, steps=2, size="tiny", out="runs/holes")
    assert not (here / "runs/holes").exists()
    (here / "mine").mkdir()
    with refuses(UsageError, argument="recipe", found="'pionts'"):
        feller.fit(np.zeros((40, 2)) + np.arange(40)[:, None], recipe="pionts", out="mine")
    assert list((here / "mine").iterdir()) == []  # a folder that was there stays


@pytest.mark.parametrize(
    ("data", "found"),
    [
        ({"sampels": np.zeros((9, 2))}, "'sampels'"),
        ({}, "''"),
        ({"samples": np.zeros((9, 2)), "labls": ["a"] * 9}, "'labls'"),
    ],
)
def test_unknown_names_of_a_dict(here, data, found):
    with refuses(UsageError, argument="data", found=found):
        feller.fit(data, steps=2, size="tiny")
    assert not (here / "runs").exists()


def test_data_in_memory_are_read_like_files(here):
    values = normal(30, 2)
    frame = pd.DataFrame(values, columns=["a", "b"])
    assert np.array_equal(feller.read(values).numpy(), values)
    assert np.array_equal(feller.read(torch.from_numpy(values)).numpy(), values)
    assert feller.read(frame).modality.columns == ("a", "b")
    with refuses(InputError, file="your array [30, 2]", row=1, column=1):
        feller.read(values * np.inf)
    with pytest.raises((UsageError, TypeError)):  # here types are checked before
        feller.read(5)  # type: ignore[arg-type]
    assert list(here.iterdir()) == []


def test_log_prob_of_arrays_frames_and_datasets():
    model = feller.Model(lambda x, t: -x, data=(2,))
    data = model.sample(4)
    wanted = model.log_prob(data)
    for same in (data.numpy(), torch.from_numpy(data.numpy()), data.frame()):
        torch.testing.assert_close(model.log_prob(same), wanted, rtol=1e-9, atol=1e-9)
    with refuses(InputError, file="your array [4, 3]", expected="the columns x1, x2"):
        model.log_prob(np.zeros((4, 3)))


def test_given_classes(unreported):
    feller.fit({"samples": normal(60, 2), "labels": ["a", "b"] * 30}, size="tiny", steps=2, out="two")
    model = feller.load_model("two")
    named = model.sample(5, given={"label": "b"})
    assert named.given["label"].tolist() == [1] * 5
    numbered = model.sample(5, given={"label": torch.ones(5, dtype=torch.long)})
    assert torch.equal(named.values, numbered.values)
    for given, argument, found in (
        ({"lable": "b"}, "given", "'lable'"),
        ({"lable": torch.ones(5, dtype=torch.long)}, "given", None),
        ({"label": "c"}, "label", "'c'"),
        ({"label": 2}, "label", "'2'"),
        ({"label": 1.5}, "label", "1.5"),
        ({"label": torch.ones(3, dtype=torch.long)}, "label", "torch.int64 [3]"),
    ):
        with refuses(UsageError, argument=argument, found=found):
            model.sample(5, given=given)
    assert repr(model).startswith("<Model of Points ")
    assert len(repr(feller.velocity("two"))) < 120


def test_functions_take_a_run_or_its_folder(here, unreported):
    run = feller.fit(normal(60, 2), size="tiny", steps=2, out="one")
    for of in (run, run.folder, "one", here / "one"):
        assert feller.sample(of, n=3, out="three.csv", overwrite=True).numpy().shape == (3, 2)
        assert feller.load_model(of).sample(2).numpy().shape == (2, 2)
        assert feller.velocity(of)(np.zeros((3, 2)), 0.5).shape == (3, 2)
        assert "lipman2024" in feller.cite(of)
        assert feller.export(of, to="huggingface", out="folder").is_dir()
    again = feller.fit(here / "one" / "data.npz", size="tiny", steps=2, start_from=run, out="again")
    assert again.folder.read_record(again.folder.recipe)["config"]["start_from"] == "one"


def test_few_rows_are_warned_of(unreported):
    with pytest.warns(UserWarning, match="examples to learn from: 2,"):
        feller.fit(pd.DataFrame({"x": [1.0, 3.0], "y": [2.0, 2.0]}), size="tiny", steps=1)
    with refuses(UsageError, found=None):
        feller.fit(None)


def test_existing_folder(unreported):
    fit = {"size": "tiny", "steps": 1, "out": "again"}
    feller.fit(normal(60, 2), **fit)
    with refuses(UsageError) as caught:
        feller.fit(normal(60, 2), **fit)
    assert "resume=True or overwrite=True" in str(caught.value)
    feller.fit(normal(60, 2), **fit, overwrite=True)
