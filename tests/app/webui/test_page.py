"""Tabs and samples of runs of each modality, asked as a client asks."""

import json
import shutil
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from feller.app.webui.condition_controls import OPEN, UNCONDITIONED
from feller.app.webui.page import tabs_of
from feller.core.errors import UsageError
from tests.app.asked import run
from tests.app.webui.asking import ask, options, tab_of
from tests.errors import refuses

gradio = pytest.importorskip("gradio", reason="the page needs Gradio: pip install 'feller[serve]'")

ALWAYS = ("Compare", "Reports", "Training")
ABLE = {
    "digits": ("Sample", "Guidance", "Fill in", "Restore", "Watch", "Steer", *ALWAYS),
    "moons": ("Sample", "Watch", *ALWAYS),
    "people": ("Sample", "Fill in", *ALWAYS),
    "book": ("Sample", "Fill in", "Watch", *ALWAYS),
    "quakes": ("Sample", "Watch", *ALWAYS),
    "molecules": ("Sample", *(("Steer",) if find_spec("rdkit") else ()), *ALWAYS),
    "crystals": ("Sample", *(("Steer",) if find_spec("chgnet") else ()), *ALWAYS),
    "proteins": ("Sample", *ALWAYS),
}
SLOW = ("molecules", "crystals", "proteins")
KINDS = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in ABLE]


@pytest.mark.parametrize("name", KINDS)
def test_tabs_of_runs(on_page, name):
    one, place = on_page(name)
    assert tuple(tab.name for tab in tabs_of(one, place)) == ABLE[name]


@pytest.mark.parametrize("name", KINDS)
def test_samples_are_shown_and_the_run_is_unchanged(on_page, name):
    page = on_page(name)
    before = {path: path.stat().st_mtime_ns for path in page[0].run.path.rglob("*")}
    found = ask(tab_of(page, "Sample"))
    assert [file.parent.parent for file in found.files] == [page[1].folder]
    assert all(file.stat().st_size for file in found.files)
    shown = [Image.open(picture.path).size for picture in found.pictures]
    if name == "people":
        assert found.table.columns == ("age", "education", "married")
        assert len(found.table.cells) == 3
    elif name == "book":
        assert found.words.count("---") == 3
    else:
        assert len(shown) == 1
    assert {path: path.stat().st_mtime_ns for path in page[0].run.path.rglob("*")} == before


def test_samples_are_those_of_the_command(on_page, fitted, tmp_path):
    file = ask(tab_of(on_page("digits"), "Sample"), **{"given:label": "7", "guidance": 2.0, "seed": 5}).files[0]
    words = ("--nfe", 4, "--given", "label=7", "--guidance", 2, "--seed", 5, "-n", 3, "--out", tmp_path / "own.npz")
    run("sample", fitted("digits"), *words)
    ours, theirs = np.load(file), np.load(tmp_path / "own.npz")
    assert (ours["samples"] == theirs["samples"]).all()
    assert ours["labels"].tolist() == [7, 7, 7]


def test_conditions_and_guidance_of_conditional_models(on_page):
    tab = tab_of(on_page("digits"), "Sample")
    assert options(tab, "given:label") == (UNCONDITIONED, *map(str, range(10)))
    assert "guidance" in tab.controls
    assert not {"guidance", "given:label"} & tab_of(on_page("book"), "Sample").controls.keys()


def test_selected_conditions_have_fields_and_own_guidance(on_page):
    """A number shows its range, categories are choices, and an empty field leaves the condition open."""
    page = on_page("clocks")
    tab = tab_of(page, "Sample")
    assert tab.controls["given:length"].placeholder == "0.5 to 4.5"
    assert options(tab, "given:clock") == (OPEN, "sensor", "stopwatch")
    assert {"guidance:length", "guidance:clock"} <= tab.controls.keys()
    assert "guidance" not in tab.controls
    assert [*pd.read_csv(ask(tab).files[0])] == ["period"]
    sent = {"given:length": "1.5", "given:clock": "sensor", "guidance:length": 2.0}
    assert [*pd.read_csv(ask(tab, **sent).files[0])] == ["period", "length", "clock"]
    with refuses(UsageError, argument="length"):
        ask(tab, **{"given:length": "long"})
    ask(tab_of(page, "Compare"), **{"given:length": "1.5"})


def test_typed_conditions_of_columns(on_page):
    tab = tab_of(on_page("people"), "Sample")
    table = ask(tab, given="education=Masters\n\n married = yes ").table
    assert {row[1:] for row in table.cells} == {("Masters", "yes")}
    for typed in ("education", "a=1", "married=yes\nmarried=no"):
        with refuses(UsageError):
            ask(tab, given=typed)


@pytest.mark.slow
def test_typed_file_names_are_not_read(on_page):
    tab = tab_of(on_page("proteins"), "Sample")
    if "given" in tab.controls:
        with refuses(UsageError):
            ask(tab, given="structure=/etc/passwd")


@pytest.mark.parametrize(
    ("name", "wrong"), [("n", 257), ("n", 0), ("nfe", 100_000), ("solver", "x.py:own"), ("given:label", "77")]
)
def test_values_beyond_the_limits(on_page, name, wrong):
    with pytest.raises(gradio.Error):
        ask(tab_of(on_page("digits"), "Sample"), **{name: wrong})


def test_number_of_shown_samples(on_page):
    for name, tab, n, shown in (
        ("digits", "Sample", 101, 100),
        ("digits", "Compare", 101, 100),
        ("digits", "Sample", 100, None),
        ("moons", "Sample", 300, None),  # all points are in one plot
        ("people", "Sample", 120, 100),
    ):
        found = ask(tab_of(on_page(name), tab), n=n)
        assert found.message.startswith(f"the first {shown} of {n} are shown" if shown else "")
        assert bool(found.message) == bool(shown)
    assert len(found.table.cells) == 100


def test_summaries_of_tuned_and_private_runs(on_page, fitted, tmp_path):
    for name, key, value in (
        ("tuned", "tuned", {"base": "runs/digits", "rewards": ["ink", "/srv/own.py:warm"], "method": "x"}),
        ("private", None, {"epsilon": 4.0, "delta": 1e-5, "n": 9, "sigma": 1.0, "clip": 1.0, "batch": 3, "steps": 3}),
    ):
        shutil.copytree(fitted("digits"), tmp_path / name)
        record = json.loads((tmp_path / name / "recipe.json").read_text())
        if key:
            record[key] = value
        else:
            record["provenance"]["private"] = value
        (tmp_path / name / "recipe.json").write_text(json.dumps(record))
    page = on_page("digits", tmp_path / "tuned", tmp_path / "private")
    plain, tuned, private = (one.summary for one in page[1].runs)
    assert plain == "example:digits, fitted with the recipe images"
    assert tuned == f"{plain}, fine-tuned on ink and own.py:warm"
    assert private == f"{plain}, private, epsilon 4"
