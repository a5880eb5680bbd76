"""What the argument parser refuses is said in one line, as all else is."""

import pathlib
from dataclasses import fields

import pytest

from feller.app.cli import main
from feller.app.commands.flag_types import field_names
from feller.models.recipes.recipe import DocumentParts, Recipe, SpeechParts


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("fit example:digits --epsilon four", "--epsilon takes a number, got 'four' (see feller fit --help)"),
        ("sample --calls 1.5", "--calls takes a whole number, got '1.5' (see feller sample --help)"),
        ("fit --seed", "--seed needs a value (see feller fit --help)"),
        ("sample -n", "-n needs a value (see feller sample --help)"),
        ("sample --cals 3", "no flag is called --cals: did you mean --calls? (see feller sample --help)"),
        ("evaluate a b", "no place is left for b (see feller evaluate --help)"),
        (
            "evaluate a counts.csv",
            "no place is left for counts.csv; a name with a space needs quotes (see feller evaluate --help)",
        ),
        (
            "fit example:moons --train.lrr 3 --steps 2",
            "no flag is called --train.lrr: did you mean --train.lr? (see feller fit DATA --help)",
        ),
        ("fit example:moons --train.lr x", "--train.lr takes a number, got 'x' (see feller fit DATA --help)"),
        ("fit example:moons --sampling.solver nix", "no solver is called 'nix'"),
        ("fit example:moons --objective.cond-dropout -1 --train.lr 0", "cond_dropout: expected a probability"),
    ],
)
def test_one_line(
    words: str, said: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    check_refused(words, said, capsys)


def check_refused(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == 2
    err = capsys.readouterr().err
    assert err.startswith("feller: ")
    assert said in err
    assert err.count("\n") == 1


WRONG_VALUES = [
    ("fit example:moons --steps 0", "--steps must be at least 1, got 0"),
    ("fit example:moons --minutes inf", "--minutes must be above 0 and finite, got inf"),
    ("fit example:moons --minutes nan", "--minutes must be above 0 and finite, got nan"),
    ("fit example:moons --longest -3", "--longest must be at least 1, got -3"),
    ("fit example:moons --size=", "--size needs a value, got an empty one"),
    ("fit example:moons --out=", "--out needs a value, got an empty one"),
    ("fit example:moons --start-from=", "--start-from needs a value, got an empty one"),
    ("fit example:moons --epsilon 1 --audit fisher=0", "--audit takes fisher=ROWS, such as fisher=64, got fisher=0"),
    ("tune --reward r --rank 0", "--rank must be at least 1, got 0"),
    ("bridge example:moons example:moons --pairs 1", "--pairs must be at least 2, got 1"),
    ("bridge example:moons example:moons --growth 0", "--growth must be above 0 and finite, got 0"),
    ("bridge example:moons example:moons --max-memory inf", "--max-memory must be above 0 and finite, got inf"),
    ("audit calculator --noise 1e300 --rate 0.1 --steps 10", "--noise 1e+300 hides all that there is; plan with"),
]


@pytest.mark.parametrize(("words", "said"), WRONG_VALUES)
def test_values_that_are_wrong_are_told_with_their_flag(
    words: str, said: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    check_refused(words, said, capsys)
    assert not [*tmp_path.iterdir()]


def test_help_is_no_fault(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["fit", "--help"])
    assert end.value.code == 0
    assert "Protect each row" in capsys.readouterr().out


@pytest.mark.parametrize("kind", [Recipe, DocumentParts, SpeechParts])
def test_fields_are_known_without_loading_them(kind: type) -> None:
    assert field_names(f"{kind.__module__}:{kind.__name__}") == [field.name for field in fields(kind)]
