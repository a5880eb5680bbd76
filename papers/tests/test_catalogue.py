"""The papers as `feller reproduce` finds them, and the gallery that shows them."""

import importlib.util
import json
import pathlib
import pkgutil

import matplotlib
import pytest

from feller.app.cli import main
from feller.app.commands.reproduce import heading
from feller_papers import PAPERS

DOCS = pathlib.Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", PAPERS)
def test_each_paper_has_tests_and_a_section_of_its_own(name: str) -> None:
    paper = PAPERS[name]
    assert callable(pkgutil.resolve_name(paper.tests))
    assert f"\n## {heading(paper)}\n" in (DOCS / "reference" / "reproductions.md").read_text()


@pytest.mark.usefixtures("installed")
def test_the_entry_point_lists_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out.splitlines()[-1])["papers"]
    assert listed == {name: heading(paper) for name, paper in PAPERS.items()}
    assert len(listed) == 11


@pytest.mark.usefixtures("installed")
def test_tests_that_are_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "gsbm", "--only", "xyz"]) == 2
    out, err = capsys.readouterr()
    assert "'xyz'" in err
    assert err.count("\n") == 1
    assert not out


def test_the_gallery_shows_every_paper_and_what_its_files_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS / "pictures"))
    look = matplotlib.rcParams["figure.facecolor"], matplotlib.rcParams["text.color"]
    spec = importlib.util.spec_from_file_location("gallery", DOCS / "pictures/gallery.py")
    assert spec is not None
    assert spec.loader is not None
    gallery = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(gallery)
    assert (matplotlib.rcParams["figure.facecolor"], matplotlib.rcParams["text.color"]) == look
    assert (DOCS / "gallery.md").read_text() == gallery.page()
    assert {file.stem for file in (DOCS / "pictures/gallery").glob("*.json")} == {
        name for name, paper in PAPERS.items() if paper.arxiv
    }
    for file in (DOCS / "pictures/gallery").glob("*.json"):
        assert json.loads(file.read_text())["arxiv"] == PAPERS[file.stem].arxiv
