"""What says nothing to a model of some kind is refused, and not passed over."""

import pathlib
from typing import Any

import pytest

from feller.app.cli import main
from feller.app.config import SampleConfig
from feller.app.options import config_of
from feller.app.workflows.sample import sample
from feller.core.errors import UsageError
from feller.core.run_folder import Run
from tests.models.export.untrained import as_run, untrained


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Run:
    place = tmp_path_factory.mktemp("says")
    (place / "t.csv").write_text(
        "job,age\n" + "".join(f"{'clerk' if i % 2 else 'nurse'},{20 + i}\n" for i in range(30))
    )
    return as_run(place / "run", *untrained(str(place / "t.csv"), "table"), str(place / "t.csv"))


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"template": "abc"}, "template: fills in text; this model's data are a table"),
        ({"guidance": 3.0}, "guidance: expected"),
        ({"nfe": 5}, "nfe: applies to continuous-time processes only"),
        ({"superpose": "jump=0.5"}, "superpose: applies to continuous-time processes only"),
        ({"solver": "rk4"}, "Leave out order"),
    ],
)
def test_a_table(table: Run, tmp_path: pathlib.Path, asked: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        sample(table, config_of(SampleConfig, n=3, out=str(tmp_path / "x.csv"), **asked))
    assert not (tmp_path / "x.csv").exists()


@pytest.mark.parametrize("words", [("-n", "3"), ("--template", "a")])
def test_gaps_are_of_their_own_rows(table: Run, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", str(table.path), "--complete", "partial.csv", *words]) == 2
    assert f"Leave {words[0]} out" in capsys.readouterr().err


def test_points_know_no_words(tmp_path: pathlib.Path) -> None:
    run = as_run(tmp_path / "run", *untrained("example:moons", "points"), "example:moons")
    with pytest.raises(UsageError, match="this model's data are rows of numbers"):
        sample(run, config_of(SampleConfig, n=3, template="abc"))


@pytest.mark.parametrize("words", [("--template", "picture.png", "--mask", "m.png"), ("--mask", "m.png")])
def test_holes_of_pictures_are_filled_by_another_command(
    tmp_path: pathlib.Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    run = as_run(tmp_path / "run", *untrained("example:digits", "images"), "example:digits")
    assert main(["sample", str(run.path), *words]) == 2
    said = capsys.readouterr().err
    assert f"{words[0]} does not apply to image models. Use `feller steer RUN --observe" in said
