"""One config for each command: words, keyword arguments and the config itself say the same."""

import inspect
import subprocess
import sys
import typing
from dataclasses import fields

import pytest

import feller
from feller.app import config as configs
from feller.app.cli import COMMANDS, command_named
from feller.app.commands.arguments import config_of, flag_names, flags_of, parse
from feller.core.errors import UsageError

FORMS = {
    "fit": (
        ["example:moons", "--steps", "3", "--epsilon", "4", "--delta", "1e-6", "--target", "a", "b", "--longest", "9"],
        {"steps": 3, "epsilon": 4.0, "delta": "1e-6", "target": ("a", "b"), "longest": 9},
    ),
    "sample": (
        ["-n", "1e2", "--given", "a=x", "b=y", "--top-k", "3", "--shard", "10", "--guidance", "2"],
        {"n": 100, "given": {"a": "x", "b": "y"}, "top_k": 3, "shard": 10, "guidance": 2.0},
    ),
    "evaluate": (["--samples", "s.npz", "-n", "7"], {"samples": "s.npz", "n": 7}),
    "steer": (
        ["--reward", "ink", "class=7", "--calls", "4", "--prior", "none", "--seed", "3"],
        {"reward": ("ink", "class=7"), "calls": 4, "prior": "none", "seed": 3},
    ),
    "tune": (
        ["--reward", "ink", "--rank", "2", "--given", "label=7"],
        {"reward": "ink", "rank": 2, "given": {"label": "7"}},
    ),
    "bridge": (
        ["--cost", "congestion", "--noise", "0.5", "--times", "0", "24", "--pairs", "64"],
        {"cost": "congestion", "noise": 0.5, "times": (0.0, 24.0), "pairs": 64},
    ),
    "audit": (["--show", "3", "--canaries", "5"], {"show": 3, "canaries": 5}),
    "export": (["--to", "onnx", "--guidance", "input"], {"to": "onnx", "guidance": "input"}),
}


@pytest.fixture(autouse=True)
def _runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feller.app.commands.arguments.marks", lambda *words: [])  # nothing is there to be looked at


@pytest.mark.parametrize("name", FORMS)
def test_words_arguments_and_groups_give_equal_configs(name: str) -> None:
    words, given = FORMS[name]
    kind, deep, _ = command_named(name)
    parsed, rest = parse(kind, name, words, deep=bool(deep))
    assert rest == []
    flat = config_of(kind, {**given, **({"data": "example:moons"} if name == "fit" else {})})
    inside = {one.name for one in fields(kind)}
    groups = {one.name: one for one in fields(kind) if one.name not in flags_of(kind)}
    nested = {key: value for key, value in given.items() if key in inside}
    for group in groups:
        own = {one.name for one in fields(getattr(flat, group))}
        nested[group] = type(getattr(flat, group))(**{key: value for key, value in given.items() if key in own})
    assert parsed == flat == config_of(kind, {**nested, **({"data": "example:moons"} if name == "fit" else {})})


@pytest.mark.parametrize("name", FORMS)
def test_functions_take_fields_or_the_config(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = command_named(name)[0]
    found: list[object] = []

    def hear(first: object, config: object) -> None:
        found.append(config)

    from feller.app.python import configured

    function = configured(kind)(hear)
    given = FORMS[name][1]
    function(None, **given)
    function(None, config=config_of(kind, given))
    assert found[0] == found[1]
    parameters = inspect.signature(getattr(feller, name)).parameters
    assert {one.name for one in fields(kind)} - {"data", "folder"} <= {*parameters}


@pytest.mark.parametrize("name", FORMS)
def test_at_most_twelve_plain_options(name: str) -> None:
    """Besides what the command is about, and what Python alone takes; the rest is grouped by subject."""
    kind = command_named(name)[0]
    flags = flags_of(kind)
    plain = [one.name for one in fields(kind) if one.name in flags and flag_names(kind, one.name)]
    assert len(plain) <= 12


def test_each_command_of_a_config_is_a_function_of_the_same_name() -> None:
    known = [name for name, (kind, _) in COMMANDS.items() if kind.endswith("Config")]
    assert known == [name for name in COMMANDS if name in FORMS]
    assert all(COMMANDS[name][0] in dir(configs) for name in known)
    assert all("return" in typing.get_type_hints(getattr(feller, name)) for name in known)


def test_wrong_names_and_configs_are_refused() -> None:
    with pytest.raises(UsageError, match="stepps"):
        feller.fit("example:moons", stepps=3)
    with pytest.raises(UsageError, match="FitConfig"):
        feller.fit("example:moons", config=feller.SampleConfig())
    with pytest.raises(UsageError, match="recipe"):
        feller.fit("example:moons", recipe=lambda data, size: None)


def test_configs_load_no_torch() -> None:
    code = "import sys, feller.app.config; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
