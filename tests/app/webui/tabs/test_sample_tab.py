"""Samples on arrival, and samples at several guidance scales."""

import csv
import os
import pathlib
import shutil
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from feller.app.cli import main
from feller.app.webui.tabs.restoration_tab import OPERATORS
from feller.app.webui.tabs.sample_tab import FIRST_N, SCALES, parse_scales, why_not_drawn
from feller.app.workflows.steering.measurements import OPERATOR_USES
from feller.app.workflows.steering.measurements import OPERATORS as ALL_OPERATORS
from feller.core.errors import UsageError
from feller.core.run_folder import Run
from feller.evaluation.report.report_page import RunReport, write_report
from feller.sampling.sampler_config import SOLVERS
from tests.app.webui.asking import ask, options, tab_of
from tests.errors import refuses

DOCS = pathlib.Path(__file__).parents[4] / "docs" / "guides"
Fitted = Callable[[str], pathlib.Path]


def first(page):
    view = tab_of(page, "Sample").first_view
    return view()


@pytest.fixture
def digits(fitted, tmp_path):
    return shutil.copytree(fitted("digits"), tmp_path / "digits")


@pytest.mark.parametrize("name", ["digits", "moons", "people", "book"])
def test_samples_on_arrival(on_page, name):
    page = on_page(name)
    view = first(page)
    if name == "digits":
        with np.load(view.files[0]) as drawn:
            assert len(drawn["samples"]) == FIRST_N
    assert view.pictures or view.table or view.words
    assert view.message
    assert view.files
    assert first(page) is view  # drawn once for all visitors
    os.utime(page[0].run.ema_weights)
    assert first(page) is not view  # of other weights


def test_existing_samples_are_shown(on_page, digits, monkeypatch):
    monkeypatch.setattr("feller.app.webui.tabs.sample_tab.drawn_view", lambda *_: pytest.fail("drawn"))
    picture = Image.new("L", (8, 8), 255)
    report = RunReport(title="a", pictures=[("Samples", picture), ("Real", picture)], numbers={"steps": 3})
    write_report(digits, report)
    page = on_page(digits)
    shown = Image.open(first(page).pictures[0].path)
    assert np.asarray(shown.convert("L")).min() == 255
    assert main(["sample", str(digits), "-n", "4", "--nfe", "2"]) == 0
    assert first(page).pictures[0].path.read_bytes() == (digits / "samples" / "grid.png").read_bytes()


def test_existing_rows_are_shown(on_page, fitted, tmp_path):
    people = shutil.copytree(fitted("people"), tmp_path / "people")
    assert main(["sample", str(people), "-n", "4"]) == 0
    table = first(on_page(people)).table
    with (people / "samples" / "samples.csv").open() as file:
        assert [*csv.reader(file)] == [[*table.columns], *map(list, table.cells)]


@pytest.mark.parametrize("kind", ["link", "damaged"])
def test_links_and_damaged_images_are_not_shown(on_page, digits, tmp_path, kind):
    (digits / "samples").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "secret.png")
    if kind == "link":
        (digits / "samples" / "grid.png").symlink_to(tmp_path / "secret.png")
    else:
        (digits / "samples" / "grid.png").write_bytes(b"no picture")
    assert first(on_page(digits)).files  # drawn instead


def test_no_samples_of_private_or_running_fits(on_page, digits, tmp_path):
    page = on_page(digits)
    assert why_not_drawn(*page) == ""
    (digits / "ledger.json").write_text("{}")
    assert why_not_drawn(*page)
    (digits / "ledger.json").unlink()
    other = Run(tmp_path / "other")
    other.path.mkdir()
    with other.lock():
        assert why_not_drawn(*page) == ""  # something else than a fit
        other.recipe.write_text("{}")
        assert why_not_drawn(*page)
        assert not first(page).files
    assert why_not_drawn(*page) == ""
    (digits / "average.safetensors").unlink()
    assert why_not_drawn(*page)


def test_guidance_scales_share_the_noise(on_page):
    page = on_page("digits")
    tab = tab_of(page, "Guidance")
    found = ask(tab, scales="1, 1 3", **{"given:label": "7"})
    one, same, other = (np.asarray(Image.open(picture.path)) for picture in found.pictures)
    assert (one == same).all()
    assert (one != other).any()
    assert "guidance" not in tab.controls


def test_classes_of_each_guidance_scale(on_page, digits):
    assert main(["evaluate", str(digits), "-n", "16"]) == 0
    found = ask(tab_of(on_page(digits), "Guidance"), scales="0 2")
    assert len(found.numbers.cells) == 2
    assert all(row[2] for row in found.numbers.cells)


@pytest.mark.parametrize("words", ["", "a", "1 -1", "1e9", "nan", "1 2 3 4 5 6 7"])
def test_refused_guidance_scales(words):
    assert parse_scales(SCALES) == [0, 1, 2, 4]
    with refuses(UsageError, argument="scales"):
        parse_scales(words)


def rows(page, heading):
    """Return the first and last cells of the first table below a heading of a guide."""
    below = (DOCS / page).read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    table = [line.strip("|").split(" | ") for line in below.splitlines() if line.startswith("| `")]
    return {cells[0].split("`")[1].partition("=")[0]: cells[-1].strip() for cells in table}


def test_documented_uses_of_solvers(on_page):
    documented = rows("choose.md", "Solver and NFE")
    assert {name: documented[name] for name in SOLVERS} == SOLVERS
    labels = dict(map(reversed, tab_of(on_page("digits"), "Sample").controls["solver"].choices))
    assert all(labels[name].endswith(use) for name, use in SOLVERS.items() if name in labels)


def test_documented_uses_of_operators(on_page):
    documented = rows("inverse-problems.md", "Operators")
    assert OPERATOR_USES.keys() == ALL_OPERATORS.keys()
    assert {name: documented[name] for name in OPERATOR_USES} == OPERATOR_USES
    tab = tab_of(on_page("digits"), "Restore")
    labels = dict(map(reversed, tab.controls["operator"].choices))
    for name in options(tab, "operator"):
        assert labels[name].endswith(OPERATOR_USES[OPERATORS[name].partition("=")[0]])
