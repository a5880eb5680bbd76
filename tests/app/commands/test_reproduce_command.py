"""feller reproduce, with the reproductions and without."""

import importlib.metadata
import json
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


def declare(monkeypatch: pytest.MonkeyPatch, *entries: EntryPoint) -> None:
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **wanted: EntryPoints(entries).select(**wanted))


@pytest.fixture
def papers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Declare two distributions, of which one has reproductions and the other something else."""
    other = EntryPoint("other", "nowhere:NOTHING", "other.group")
    declare(monkeypatch, EntryPoint("toys", f"{__name__}:PAPERS", GROUP), other)


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["reproduce", *words]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize("words", [(), ("gsbm",), ("all", "--quick"), ("--json",)])
def test_without_reproductions_one_line_says_what_to_install(words, monkeypatch, capsys):
    declare(monkeypatch)
    assert "pip install feller-papers" in refused(capsys, *words)


@pytest.mark.usefixtures("papers")
def test_papers_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [*PAPERS]
    assert main(["reproduce", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "papers": {"toy-flows": "Toy flows, arXiv 0000.00001", "toy-jumps": "Toy jumps, arXiv 0000.00001"}
    }


@pytest.mark.usefixtures("papers")
def test_claims_are_tested(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "toy-jumps", "--quick", "--data", str(tmp_path), "--only", "to", "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])["claims"]
    first = {"claim": f"Toy jumps True {tmp_path}", "paper": "1", "ours": "2 m", "spread": "1 seed", "verdict": HOLDS}
    assert told == [first, first | {"claim": "b", "verdict": FAILS}]
    assert main(["reproduce", "all", "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])["claims"]
    assert [claim["claim"] for claim in told] == ["Toy flows False None", "b", "Toy jumps False None", "b"]


@pytest.mark.usefixtures("papers")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("toy-flwos",), "Did you mean 'toy-flows'"),
        (("nix", "--only=x"), "'nix'"),
        (("--quick",), "toy-flows, toy-jumps"),
        (("all", "--only", "x"), "--only"),
        (("toy-flows", "--only", "x"), "'x'"),
        (("toy-flows", "--data", "nowhere"), "--data"),
    ],
)
def test_wrong_use(words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said in refused(capsys, *words)


def test_help_loads_no_reproduction(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    declare(monkeypatch, EntryPoint("toys", "not_there:PAPERS", GROUP))
    with pytest.raises(SystemExit) as end:
        main(["reproduce", "--help"])
    assert end.value.code == 0
    assert "pip install feller-papers" in capsys.readouterr().out
    assert "not_there" not in sys.modules


@pytest.mark.usefixtures("papers")
def test_a_shell_offers_the_names() -> None:
    offered: Any = Choices(("all",), ("feller.app.commands.reproduce:installed_papers",))
    assert offered.load_values() == ["all", *PAPERS]


def test_verdicts_are_counted() -> None:
    assert summary(CLAIMS, quick=False) == "3 claims: 1 holds, 1 does not hold, 1 not testable here"
    assert "full run" in summary(CLAIMS, quick=True)
    assert "full run" not in summary(CLAIMS[::2], quick=True)
