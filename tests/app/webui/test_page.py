"""What runs of each kind of data can do, and samples of each, asked as a client asks; no page is needed."""

import json
import shutil
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from PIL import Image

from feller.app.webui.page import tabs_of
from feller.app.webui.tab import UNCONDITIONED
from feller.core.errors import UsageError
from tests.app.webui.asking import OnPage, ask, options, tab_of

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
def test_runs_have_the_tabs_of_what_they_can_do(on_page: OnPage, name: str) -> None:
    one, place = on_page(name)
    assert tuple(tab.name for tab in tabs_of(one, place)) == ABLE[name]


@pytest.mark.parametrize("name", KINDS)
def test_samples_are_shown_and_can_be_downloaded_and_the_run_stays_as_it_is(on_page: OnPage, name: str) -> None:
    page = on_page(name)
    before = {path: path.stat().st_mtime_ns for path in page[0].run.path.rglob("*")}
    found = ask(tab_of(page, "Sample"))
    assert [file.parent.parent for file in found.files] == [page[1].folder]
    assert all(file.stat().st_size for file in found.files)
    shown = [Image.open(picture.path).size for picture in found.pictures]
    if name == "people":
        assert found.table is not None
        assert found.table.columns == ("age", "education", "married")
        assert len(found.table.cells) == 3
    elif name == "book":
        assert found.words.count("---") == 3
    else:
        assert len(shown) == 1
    assert {path: path.stat().st_mtime_ns for path in page[0].run.path.rglob("*")} == before


def test_samples_are_those_of_the_command(on_page, fitted, tmp_path):
    from feller.app.cli import main

    file = ask(tab_of(on_page("digits"), "Sample"), **{"given:label": "7", "guidance": 2.0, "seed": 5}).files[0]
    words = ("--nfe", "4", "--given", "label=7", "--guidance", "2", "--seed", "5", "-n", "3")
    assert main(["sample", str(fitted("digits")), *words, "--out", str(tmp_path / "own.npz")]) == 0
    ours, theirs = np.load(file), np.load(tmp_path / "own.npz")
    assert (ours["samples"] == theirs["samples"]).all()
    assert ours["labels"].tolist() == [7, 7, 7]


def test_conditions_and_guidance_are_offered_where_the_model_knows_them(on_page: OnPage) -> None:
    tab = tab_of(on_page("digits"), "Sample")
    assert options(tab, "given:label") == (UNCONDITIONED, *map(str, range(10)))
    assert "guidance" in tab.controls
    assert not {"guidance", "given:label"} & tab_of(on_page("book"), "Sample").controls.keys()


def test_columns_are_given_by_typing(on_page: OnPage) -> None:
    tab = tab_of(on_page("people"), "Sample")
    table = ask(tab, given="education=Masters\n\n married = yes ").table
    assert table is not None
    assert {row[1:] for row in table.cells} == {("Masters", "yes")}
    for typed, why in (("education", "NAME=VALUE"), ("a=1", "'a'"), ("married=yes\nmarried=no", "twice")):
        with pytest.raises(UsageError, match=why):
            ask(tab, given=typed)


@pytest.mark.slow
def test_what_a_file_gives_is_never_read_from_a_name_that_a_client_types(on_page: OnPage) -> None:
    tab = tab_of(on_page("proteins"), "Sample")
    if "given" in tab.controls:
        with pytest.raises(UsageError, match="given by a file"):
            ask(tab, given="structure=/etc/passwd")


@pytest.mark.parametrize(
    ("name", "wrong"), [("n", 257), ("n", 0), ("nfe", 100_000), ("solver", "x.py:own"), ("given:label", "77")]
)
def test_more_than_the_limits_is_refused(on_page: OnPage, name: str, wrong: Any) -> None:
    with pytest.raises(gradio.Error):
        ask(tab_of(on_page("digits"), "Sample"), **{name: wrong})


def test_a_page_says_how_many_are_shown_where_not_all_are(on_page: OnPage) -> None:
    assert ask(tab_of(on_page("digits"), "Sample"), n=101, nfe=2).message == (
        "the first 100 of 101 are shown; all are in samples.npz"
    )
    assert ask(tab_of(on_page("digits"), "Compare"), n=101).message == "the first 100 of 101 are shown"
    assert ask(tab_of(on_page("digits"), "Sample"), n=100, nfe=2).message == ""
    assert ask(tab_of(on_page("moons"), "Sample"), n=300, nfe=2).message == ""  # all points are in one plot
    people = ask(tab_of(on_page("people"), "Sample"), n=120)
    assert people.table is not None
    assert len(people.table.cells) == 100
    assert people.message == "the first 100 of 120 are shown; all are in samples.csv"


def test_a_run_says_what_it_was_tuned_to_and_what_it_keeps_back(on_page, fitted, tmp_path):
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
