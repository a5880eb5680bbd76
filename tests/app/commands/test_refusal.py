"""Errors of the argument parser and of config fields: one line, exit status 2, nothing written."""

from dataclasses import fields

import pytest

from feller.app.cli import main
from feller.app.commands.flag_types import field_names
from feller.core.errors import InputError
from feller.models.recipes.recipe import DocumentAuxNetworks, Recipe, SpeechAuxNetworks
from tests.app.asked import refuse

LINES = {
    "fit example:digits --epsilon four": "--epsilon: expected a number; found 'four'. See feller fit --help",
    "sample -n": "-n: expected a value; found none. See feller sample --help",
    "evaluate a b": "expected no further argument; found b. See feller evaluate --help",
    "fit example:moons --train.lr x": "--train.lr: expected a number; found 'x'. See feller fit DATA --help",
    "fit example:moons --train.lr inf": "--train.lr: expected above 0 and finite; found inf. "
    "See feller fit DATA --help",
    "fit example:moons --steps 0": "--steps: expected at least 1; found 0",
    "fit example:moons --minutes inf": "--minutes: expected above 0 and finite; found inf",
    "fit --steps 1 --minutes 1 example:moons": "--steps: expected --steps or --minutes; found --steps and --minutes. "
    "Choose one",
}
"""Snapshot of the text of errors, by command."""


@pytest.mark.parametrize("words", LINES)
def test_text_of_errors(words, here, capsys):
    assert main(words.split()) == 2
    assert capsys.readouterr() == ("", f"feller: {LINES[words]}\n")
    assert not [*here.iterdir()]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("sample --nfe 1.5", {"argument": "nfe", "found": "'1.5'"}),
        (
            "sample --given a=b --given c=d",
            {"argument": "given", "expected": "a single flag followed by all its values"},
        ),
        ("fit --seed", {"argument": "seed", "found": "none"}),
        ("evaluate a counts.csv", {"remedy": "Quote paths that contain spaces. See feller evaluate --help"}),
        ("fit example:moons --train.lrr 3", {"remedy": "Did you mean --train.lr? See feller fit DATA --help"}),
        ("fit example:moons --start-form x", {"remedy": "Did you mean --start-from? See feller fit --help"}),
        ("fit example:moons --sampling.solver nix", {"argument": "sampling.solver", "found": "'nix'"}),
        ("fit example:moons --objective.cond-dropout -1", {"argument": "objective.cond_dropout", "found": "-1"}),
        ("fit example:moons --longest -3", {"argument": "longest", "found": "-3"}),
        ("fit example:moons --size=", {"argument": "size", "found": "an empty one"}),
        ("fit example:moons --start-from=", {"argument": "start_from", "found": "an empty one"}),
        ("fit example:moons --epsilon 1 --audit fisher=0", {"argument": "audit", "found": "fisher=0"}),
        ("tune --reward r --rank 0", {"argument": "rank", "found": "0"}),
        ("bridge example:moons example:moons --pairs 1", {"argument": "pairs", "found": "1"}),
        ("bridge example:moons example:moons --max-memory inf", {"argument": "max_memory", "found": "inf"}),
        ("fti x", {"argument": "command", "remedy": "Did you mean 'fit'?"}),
        ("fit example:moons --recipe imagse", {"argument": "recipe", "remedy": "Did you mean 'images'?"}),
        ("fit example:moons --recipe images", {"remedy": "Use --recipe auto"}),
        ("fit example:molecules --recipe crystals", {"remedy": "Use --recipe auto"}),
        ("fit example:moons --size huge", {"argument": "size", "found": "'huge'"}),
        ("fit --resume --out nothing", {"kind": InputError, "file": "nothing", "found": "none"}),
        ("completion tcsh", {"argument": "shell", "found": "'tcsh'"}),
    ],
)
def test_refused_arguments(words, found, here):
    refuse(*words.split(), **found)
    assert not [*here.iterdir()]


@pytest.mark.parametrize("kind", [Recipe, DocumentAuxNetworks, SpeechAuxNetworks])
def test_names_of_fields_are_read_without_importing(kind):
    assert field_names(f"{kind.__module__}:{kind.__name__}") == [field.name for field in fields(kind)]
