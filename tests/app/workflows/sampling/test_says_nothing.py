"""What says nothing to a model of some kind is refused, and not passed over."""

import re

import pytest

from feller.app.cli import main
from feller.app.config import SampleConfig
from feller.app.options import config_of
from feller.app.workflows.sample import applicable_options, sample
from feller.core.errors import UsageError
from tests.errors import refuses
from tests.models.export.untrained import as_run, untrained


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    place = tmp_path_factory.mktemp("says")
    (place / "t.csv").write_text(
        "job,age\n" + "".join(f"{'clerk' if i % 2 else 'nurse'},{20 + i}\n" for i in range(30))
    )
    return as_run(place / "run", *untrained(str(place / "t.csv"), "table"), str(place / "t.csv"))


@pytest.mark.parametrize(
    ("asked", "argument"),
    [
        ({"template": "abc"}, "template"),
        ({"guidance": 3.0}, "guidance"),
        ({"nfe": 5}, "nfe"),
        ({"superpose": "jump=0.5"}, "superpose"),
        ({"solver": "rk4"}, None),
    ],
)
def test_a_table(table, tmp_path, asked, argument):
    with refuses(UsageError, argument=argument):
        sample(table, config_of(SampleConfig, n=3, out=str(tmp_path / "x.csv"), **asked))
    assert not (tmp_path / "x.csv").exists()
    assert {"guidance", "complete"} < applicable_options(table)
    assert applicable_options(table).isdisjoint({*asked} - {"guidance"})


SAMPLER = {"nfe", "solver", "superpose", "compile", "precision", "temperature", "top_k", "top_p", "order", "rates"}


@pytest.mark.parametrize(
    ("data", "recipe", "expected"),
    [
        ("example:digits", "images", {"nfe", "solver", "compile", "precision"}),
        ("example:digits", "levels-mask", SAMPLER - {"superpose"}),
        ("example:torsions", "manifold", {"nfe", "solver", "compile", "precision"}),
    ],
)
def test_help_of_a_run_shows_the_options_of_its_model(tmp_path, data, recipe, expected, capsys):
    run = as_run(tmp_path / "run", *untrained(data, recipe), data)
    assert applicable_options(run) & SAMPLER == expected
    with pytest.raises(SystemExit) as end:
        main(["sample", str(run.path), "--help"])
    assert end.value.code == 0
    shown = set(re.findall(r"--([a-z-]+)", capsys.readouterr().out))
    assert {name for name in SAMPLER if name.replace("_", "-") in shown} == expected
    assert shown.isdisjoint({"prompt", "voice", "from", "complete"})


@pytest.mark.parametrize("words", [("-n", "3"), ("--template", "a")])
def test_gaps_are_of_their_own_rows(table, words, capsys):
    assert main(["sample", str(table.path), "--complete", "partial.csv", *words]) == 2
    assert f"Leave {words[0]} out" in capsys.readouterr().err


def test_points_know_no_words(tmp_path):
    run = as_run(tmp_path / "run", *untrained("example:moons", "points"), "example:moons")
    with refuses(UsageError, argument="template"):
        sample(run, config_of(SampleConfig, n=3, template="abc"))


@pytest.mark.parametrize("words", [("--template", "picture.png", "--mask", "m.png"), ("--mask", "m.png")])
def test_holes_of_pictures_are_filled_by_another_command(tmp_path, words, capsys):
    run = as_run(tmp_path / "run", *untrained("example:digits", "images"), "example:digits")
    assert main(["sample", str(run.path), *words]) == 2
    said = capsys.readouterr().err
    assert f"{words[0]} does not apply to image models. Use `feller steer RUN --observe" in said
