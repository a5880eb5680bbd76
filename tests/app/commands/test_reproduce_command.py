"""feller reproduce, with the reproductions and without."""

import importlib.metadata
import pathlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, EntryPoints
from typing import Any

import pytest

from feller.app.cli import main
from feller.app.commands.flag_types import Choices
from feller.app.commands.reproduce import FAILS, GROUP, HOLDS, UNTESTABLE, summary
from feller.core.errors import UsageError
from tests.app.asked import refuse, run


@dataclass(frozen=True)
class Result:
    claim: str
    verdict: str
    paper: str = "1"
    ours: str = "2 m"
    spread: str = "1 seed"


@dataclass(frozen=True)
class Toy:
    title: str
    arxiv: str = "0000.00001"

    def claims(self, quick: bool, data: pathlib.Path | None, only: str) -> Iterator[Result]:
        if only not in "toy":
            raise UsageError(f"no test is called {only!r}")
        return iter((Result(f"{self.title} {quick} {data}", HOLDS), Result("b", FAILS)))


PAPERS = {"toy-flows": Toy("Toy flows"), "toy-jumps": Toy("Toy jumps")}
CLAIMS = (Result("a", HOLDS), Result("b", FAILS), Result("c", UNTESTABLE))


def declare(monkeypatch, *entries):
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **wanted: EntryPoints(entries).select(**wanted))


@pytest.fixture
def papers(monkeypatch):
    """Declare two distributions, one with reproductions."""
    other = EntryPoint("other", "nowhere:NOTHING", "other.group")
    declare(monkeypatch, EntryPoint("toys", f"{__name__}:PAPERS", GROUP), other)


@pytest.mark.parametrize("words", [(), ("gsbm",), ("all", "--quick"), ("--json",)])
def test_without_reproductions(words, monkeypatch):
    declare(monkeypatch)
    assert "pip install feller-papers" in str(refuse("reproduce", *words))


@pytest.mark.usefixtures("papers")
def test_list_of_papers(capsys):
    assert main(["reproduce"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [*PAPERS]
    assert run("reproduce") == {
        "papers": {name: f"{paper.title}, arXiv {paper.arxiv}" for name, paper in PAPERS.items()}
    }


@pytest.mark.usefixtures("papers")
def test_claims(tmp_path):
    found = run("reproduce", "toy-jumps", "--quick", "--data", tmp_path, "--only", "to")["claims"]
    first = {"claim": f"Toy jumps True {tmp_path}", "paper": "1", "ours": "2 m", "spread": "1 seed", "verdict": HOLDS}
    assert found == [first, first | {"claim": "b", "verdict": FAILS}]
    found = run("reproduce", "all")["claims"]
    assert [claim["claim"] for claim in found] == ["Toy flows False None", "b", "Toy jumps False None", "b"]


@pytest.mark.usefixtures("papers")
@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ("toy-flwos", {"argument": "paper", "remedy": "Did you mean 'toy-flows'?"}),
        ("nix --only=x", {"argument": "paper", "found": "'nix'"}),
        ("--quick", {"expected": "the name of a paper: toy-flows, toy-jumps; or all"}),
        ("all --only x", {"argument": "only"}),
        ("toy-flows --only x", {}),
        ("toy-flows --data nowhere", {"argument": "data", "found": "nowhere"}),
    ],
)
def test_refused_arguments(words, fields):
    refuse("reproduce", *words.split(), **fields)


def test_help_loads_no_reproduction(monkeypatch):
    declare(monkeypatch, EntryPoint("toys", "not_there:PAPERS", GROUP))
    with pytest.raises(SystemExit) as end:
        main(["reproduce", "--help"])
    assert end.value.code == 0
    assert "not_there" not in sys.modules


@pytest.mark.usefixtures("papers")
def test_completion_offers_the_names():
    offered: Any = Choices(("all",), ("feller.app.commands.reproduce:installed_papers",))
    assert offered.load_values() == ["all", *PAPERS]


def test_summary_counts_verdicts():
    assert summary(CLAIMS, quick=False) == "3 claims: 1 holds, 1 does not hold, 1 not testable here"
    assert summary(CLAIMS, quick=True) != summary(CLAIMS, quick=False)
    assert summary(CLAIMS[::2], quick=True) == summary(CLAIMS[::2], quick=False)
