"""Configs of commands: words, keyword arguments and the config itself are equivalent."""

import inspect
import json
import pathlib
import subprocess
import sys
import typing
from dataclasses import MISSING, fields

import numpy as np
import pytest

import feller
from feller.app import config as configs
from feller.app.cli import COMMANDS, find_command
from feller.app.commands.arguments import parse
from feller.app.options import accepts_options, config_of, flags_of, group, python_options, python_words
from feller.core.errors import UsageError
from tests.errors import refuses

FORMS = {
    "fit": (
        ["example:moons", "--steps", "3", "--epsilon", "4", "--delta", "1e-6", "--target", "a", "b", "--longest", "9"],
        {"steps": 3, "epsilon": 4.0, "delta": "1e-6", "target": ("a", "b"), "longest": 9},
    ),
    "sample": (
        ["-n", "1e2", "--given", "a=x", "b=y", "--top-k", "3", "--shard-size", "10", "--guidance", "2"],
        {"n": 100, "given": {"a": "x", "b": "y"}, "top_k": 3, "shard_size": 10, "guidance": 2.0},
    ),
    "evaluate": (["--samples", "s.npz", "-n", "7"], {"samples": "s.npz", "n": 7}),
    "steer": (
        ["--reward", "ink", "class=7", "--nfe", "4", "--prior", "none", "--seed", "3"],
        {"reward": ("ink", "class=7"), "nfe": 4, "prior": "none", "seed": 3},
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
def _runs(monkeypatch):
    monkeypatch.setattr("feller.app.options.annotations_of", lambda *words: [])  # nothing is there to be looked at


def config_named(name):
    """Return the class of a config, and options of it."""
    return find_command(name)[0], {**FORMS[name][1], **({"data": "example:moons"} if name == "fit" else {})}


@pytest.mark.parametrize("name", FORMS)
def test_words_options_and_groups_give_equal_configs(name):
    kind, given = config_named(name)
    parsed, rest = parse(kind, name, FORMS[name][0], allow_nested=bool(find_command(name)[1]))
    assert rest == []
    flat = config_of(kind, **given)
    groups = {one.name: inner for one in fields(kind) if (inner := group(one)) is not None}
    nested = {
        key: value for key, value in given.items() if key not in groups and key in {one.name for one in fields(kind)}
    }
    for outer, inner in groups.items():
        nested[outer] = inner(**{key: value for key, value in given.items() if key in flags_of(inner)})
    assert parsed == flat == kind(**nested)
    assert config_of(kind, flat) == flat


@pytest.mark.parametrize("name", FORMS)
def test_functions_take_options_groups_or_the_config(name):
    kind, given = find_command(name)[0], FORMS[name][1]
    found: list[object] = []

    def hear(first: object = None, *, config: object) -> None:
        found.append(config)

    function = accepts_options(kind)(hear)
    function(None, **given)
    function(None, config=config_of(kind, **given))
    function(first=None, config=config_of(kind, **dict([*given.items()][:-1])), **dict([*given.items()][-1:]))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("name", FORMS)
def test_functions_show_every_option(name):
    kind = find_command(name)[0]
    parameters = inspect.signature(getattr(feller, name)).parameters
    assert {*python_options(kind), "config"} <= {*parameters}
    for option, one in flags_of(kind).items():
        if option in python_options(kind) and one.default is not MISSING:
            assert parameters[option].default == one.default


@pytest.mark.parametrize("name", FORMS)
def test_at_most_twelve_fields_and_no_name_twice(name):
    kind = find_command(name)[0]
    inner = [group(one) for one in fields(kind)]
    names = [one.name for one in fields(kind)] + [
        option for one in inner if one is not None for option in flags_of(one)
    ]
    assert len(fields(kind)) <= 12
    assert len(names) == len({*names})


def test_stubs_are_current():
    script = pathlib.Path(__file__).parents[2] / "scripts" / "write_stubs.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_commands_are_functions():
    known = [name for name, (kind, _) in COMMANDS.items() if kind.endswith("Config") and name != "import"]
    assert known == [name for name in COMMANDS if name in FORMS]
    assert all(COMMANDS[name][0] in dir(configs) for name in known)
    assert all("return" in typing.get_type_hints(getattr(feller, name)) for name in known)


@pytest.mark.parametrize(
    "given",
    [
        {"stepps": 3},
        {"json": True},
        {"folder": "runs/a"},
        {"config": feller.SampleConfig()},
        {"privacy": True},
        {"recipe": lambda data, size: None},
        {"steps": 0},
    ],
)
def test_refused_options(given):
    with refuses(UsageError):
        feller.fit("example:moons", **given)


def test_configs_load_no_torch():
    code = "import sys, feller.app.config; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("batch_size", "'train.batch_size'"),
        ("learning_rate", "'train.lr'"),
        ("train.batch_size", "'train.batch_size'"),
        ("objective", '"objective.NAME"'),
        ("epochs", "'steps'"),
        ("max_grad_norm", "'clip'"),
        ("noise_multiplier", "'noise'"),
        ("epsilom", "'epsilon'"),
    ],
)
def test_names_of_other_libraries_are_corrected(name, remedy):
    with refuses(UsageError, argument=name, found=repr(name)) as caught:
        feller.fit("example:moons", **{name: 3})
    assert remedy in caught.value.remedy


def test_options_are_keyword_only():
    with refuses(UsageError, argument="fit", found="2"):
        feller.fit("example:moons", "target")


def test_fields_of_the_recipe(tmp_path):
    fields = {"train.batch_size": 32, "objective.cond_dropout": 0.5, "train.betas": (0.8, 0.9), "train.compile": False}
    run = feller.fit("example:moons", fields=fields, steps=1, size="tiny", report=False, out=str(tmp_path / "run"))
    record = json.loads((run.path / "recipe.json").read_text())
    assert (record["recipe"]["train"]["batch_size"], record["recipe"]["train"]["betas"]) == (32, [0.8, 0.9])
    assert record["recipe"]["objective"]["cond_dropout"] == 0.5
    assert record["provenance"]["fields"][:2] == ["--train.batch-size", "32"]
    for wrong in ("train.batchs", "batch_size"):
        with refuses(UsageError, argument="fields", found=repr(wrong), remedy="Did you mean 'train.batch_size'?"):
            feller.fit("example:moons", fields={wrong: 3}, out=str(tmp_path / "none"))
    with refuses(UsageError, argument="fields['train.batch_size']", expected="a whole number", found="'a'"):
        feller.fit("example:moons", fields={"train.batch_size": "a"}, out=str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("fields", "argument", "found"),
    [
        ({"train.batch_size": -1}, "fields['train.batch_size']", "-1"),
        ({"train": {"batch": 3}}, "fields['train']", "a dict"),
        ({"train.batch_size": "32 --train.lr 5"}, "fields['train.batch_size']", "'32 --train.lr 5'"),
        ({"train.weight_decay": 1, "train.weight-decay": 2}, "fields['train.weight_decay']", None),
        ({"train.steps": 7}, "steps", 'steps and the field "train.steps"'),
        ({"train.minutes": 7}, "steps", 'steps and the field "train.minutes"'),
    ],
)
def test_refused_fields(tmp_path, fields, argument, found):
    with refuses(UsageError, argument=argument) as caught:
        feller.fit("example:moons", fields=fields, steps=5, size="tiny", report=False, out=str(tmp_path / "none"))
    assert str(caught.value).count("expected") == str(caught.value).count("found") == 1
    assert found is None or found in str(caught.value)


def test_fields_of_a_tuning_and_of_a_bridge(tmp_path, monkeypatch):
    run = feller.fit("example:moons", steps=2, size="tiny", report=False, out=str(tmp_path / "run"))
    (tmp_path / "far.py").write_text("def far(x):\n    return x.sum(1)\n")
    for name, remedy in (("train.lrr", "Did you mean 'train.lr'?"), ("nothing", None)):
        with refuses(UsageError, argument="fields", found=repr(name)) as caught:
            where = {"reward": (f"{tmp_path}/far.py:far",), "out": str(tmp_path / "tuned")}
            feller.tune(run, fields={name: 1}, steps=1, report=False, **where)
        assert remedy is None or caught.value.remedy == remedy
    ends = [np.random.default_rng(k).normal(size=(40, 2)) for k in (0, 1)]
    with refuses(UsageError, argument="fields", found="'nothing'"):
        feller.bridge(*ends, fields={"nothing": 1}, rounds=1, out=str(tmp_path / "bridge"))
    with refuses(UsageError, argument="fields['train.batch_size']", found="-1"):
        feller.bridge(*ends, fields={"train.batch_size": -1}, rounds=1, out=str(tmp_path / "bridge"))
    with refuses(UsageError, argument="rounds", found="--rounds and --minutes"):
        feller.bridge(*ends, rounds=1, minutes=1.0, out=str(tmp_path / "bridge"))
    with refuses(UsageError, argument="steps", found="--steps and --minutes"):
        feller.tune(run, steps=1, minutes=1.0, report=False, **where)
    monkeypatch.setattr("feller.app.workflows.bridge.report_bridge", lambda *_: {})
    deep = {"train.batch_size": 17, "train.steps": 2, "control.steps": 2}
    bridged = feller.bridge(*ends, fields=deep, rounds=1, pairs=32, out=str(tmp_path / "bridge"))
    assert '"batch_size": 17' in (bridged.path / "recipe.json").read_text()


HELP = """
import inspect, json, pydoc, feller
from feller.app.options import python_options
shown = [pydoc.plain(pydoc.render_doc(one)) for one in (feller.fit, feller.FitConfig)]
usual = [one.default is ... for one in inspect.signature(feller.fit).parameters.values()]
print(json.dumps([shown, [*python_options(feller.FitConfig)], any(usual)]))
"""


def test_help_of_functions():
    """In a process of its own: here the types of all arguments are checked before."""
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=True)
    shown, options, has_unknown = json.loads(done.stdout)
    assert not has_unknown
    for text in shown:
        assert not [word for word in ("_ArgConfig", "Ellipsis", "lambda", "tyro", " at 0x", "= ...") if word in text]
        lines = [line.strip(" |") for line in text.splitlines()]
        for name in options:
            (line,) = (line for line in lines if line.startswith(f"{name}: "))
            assert len(line.partition(". ")[2]) > 5, name


def test_config_takes_options_of_its_groups():
    config = feller.FitConfig(epsilon=2.0, steps=3, privacy=None)
    assert (config.privacy.epsilon, config.training.steps) == (2.0, 3)
    assert config == config_of(feller.FitConfig, epsilon=2.0, steps=3)
    with refuses(UsageError, argument="epsilom", remedy="Did you mean 'epsilon'?"):
        feller.FitConfig(epsilom=2.0)


def test_errors_in_python_name_options_without_dashes(tmp_path):
    with refuses(UsageError, argument="steps") as caught:
        feller.fit("example:moons", steps=3, minutes=1.0, out=str(tmp_path / "run"))
    assert "--" not in str(caught.value)
    assert python_words("Leave --stop-at-epsilon, -n or --objective.shuffle_prob 1 out: `feller audit --data x`") == (
        'Leave stop_at_epsilon, n or fields={"objective.shuffle_prob": 1} out: `feller audit --data x`'
    )
