"""What the argument parser refuses is said in one line, as all else is."""

import pathlib

import pytest

from feller.cli import main


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
            "fit example:moons --train.lrr 3 --steps 2",
            "no flag is called --train.lrr: did you mean --train.lr? (see feller fit DATA --help)",
        ),
        ("fit example:moons --train.lr x", "--train.lr takes a number, got 'x' (see feller fit DATA --help)"),
        ("fit example:moons --sampling.solver nix", "sampling: no solver is called 'nix'"),
        ("fit example:moons --objective.drop -1 --train.lr 0", "lr of the training must be"),
    ],
)
def test_one_line(
    words: str, said: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words.split()) == 2
    err = capsys.readouterr().err
    assert err.startswith("feller: ")
    assert said in err
    assert err.count("\n") == 1


def test_help_is_no_fault(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["fit", "--help"])
    assert end.value.code == 0
    assert "Protect each row" in capsys.readouterr().out
