"""What the argument parser refuses is said in one line, as all else is."""

import pathlib
from dataclasses import fields

import pytest

from feller.app.cli import main
from feller.app.commands.flag_types import field_names
from feller.models.recipes.recipe import DocumentAuxNetworks, Recipe, SpeechAuxNetworks

WRONG = [
    ("fit example:digits --epsilon four", "--epsilon: expected a number; found 'four'. See feller fit --help"),
    ("sample --nfe 1.5", "--nfe: expected a whole number; found '1.5'. See feller sample --help"),
    ("fit --seed", "--seed: expected a value; found none. See feller fit --help"),
    ("sample -n", "-n: expected a value; found none. See feller sample --help"),
    ("evaluate a b", "expected no further argument; found b. See feller evaluate --help"),
    (
        "evaluate a counts.csv",
        "found counts.csv. Quote paths that contain spaces. See feller evaluate --help",
    ),
    (
        "fit example:moons --train.lrr 3 --steps 2",
        "found --train.lrr. Did you mean --train.lr? See feller fit DATA --help",
    ),
    ("fit example:moons --train.lr x", "--train.lr: expected a number; found 'x'. See feller fit DATA --help"),
    ("fit example:moons --sampling.solver nix", "found 'nix'"),
    ("fit example:moons --objective.cond-dropout -1 --train.lr 0", "--objective.cond-dropout: expected"),
    ("fit example:moons --steps 0", "--steps: expected at least 1; found 0"),
    (
        "fit example:moons --train.lr inf",
        "--train.lr: expected above 0 and finite; found inf. See feller fit DATA --help",
    ),
    (
        "fit example:moons --train.lr nan",
        "--train.lr: expected above 0 and finite; found nan. See feller fit DATA --help",
    ),
    ("fit example:moons --minutes inf", "--minutes: expected above 0 and finite; found inf"),
    ("fit example:moons --minutes nan", "--minutes: expected above 0 and finite; found nan"),
    ("fit example:moons --longest -3", "--longest: expected at least 1; found -3"),
    ("fit example:moons --size=", "--size: expected a value; found an empty one"),
    ("fit example:moons --out=", "--out: expected a value; found an empty one"),
    ("fit example:moons --start-from=", "--start-from: expected a value; found an empty one"),
    (
        "fit example:moons --epsilon 1 --audit fisher=0",
        "--audit: expected fisher=ROWS, for example fisher=64; found fisher=0",
    ),
    ("tune --reward r --rank 0", "--rank: expected at least 1; found 0"),
    ("bridge example:moons example:moons --pairs 1", "--pairs: expected at least 2; found 1"),
    ("bridge example:moons example:moons --growth 0", "--growth: expected above 0 and finite; found 0"),
    ("bridge example:moons example:moons --max-memory inf", "--max-memory: expected above 0 and finite; found inf"),
    ("audit calculator --noise 1e300 --rate 0.1 --steps 10", "--noise: expected at most 1e+06; found 1e+300"),
]


@pytest.mark.parametrize(("words", "said"), WRONG)
def test_what_is_wrong_is_told_in_one_line_before_anything_is_written(
    words: str, said: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words.split()) == 2
    err = capsys.readouterr().err
    assert err.startswith("feller: ")
    assert said in err
    assert err.count("\n") == 1
    assert not [*tmp_path.iterdir()]


def test_help_is_no_fault(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["fit", "--help"])
    assert end.value.code == 0
    assert "--epsilon" in capsys.readouterr().out


@pytest.mark.parametrize("kind", [Recipe, DocumentAuxNetworks, SpeechAuxNetworks])
def test_fields_are_known_without_loading_them(kind: type) -> None:
    assert field_names(f"{kind.__module__}:{kind.__name__}") == [field.name for field in fields(kind)]
