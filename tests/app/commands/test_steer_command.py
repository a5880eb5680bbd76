"""feller steer with rewards."""

import functools
import json
import shlex

import numpy as np
import pytest

from feller.core.errors import InputError
from tests.app.asked import refuse, run

steer = functools.partial(run, "steer")
LEFT = "def left(values):\n    return values[:, 0, :, :4].mean((1, 2)) / 16\n"


def samples(file):
    with np.load(file) as arrays:
        return arrays["samples"].astype(float)


def test_samples_have_the_reward(digits, tmp_path):
    words = (digits, "--reward", "ink", "--steps", 4, "--nfe", 4, "--out")
    found, again = steer(*words, tmp_path / "a.npz", "-n", 4), steer(*words, tmp_path / "b.npz", "-n", 2)
    four, two = samples(tmp_path / "a.npz"), samples(tmp_path / "b.npz")
    assert four.shape == (4, 8, 8)
    assert four.mean() / 16 == pytest.approx(found["reward"], abs=1e-6)
    assert found["reward"] > found["reward_before"] + 0.05
    assert (found["improved"], again["n"]) == (1.0, 2)
    assert np.abs(four[:2] - two).max() <= 1


def test_reward_with_a_bound(digits, tmp_path):
    words = ("-n", 3, "--steps", 3, "--nfe", 4)
    found = steer(digits, "--reward", "ink >= 0.5", *words, "--out", tmp_path / "ink.npz")
    run("sample", digits, "-n", 3, "--nfe", 4, "--out", tmp_path / "plain.npz")
    before, after = (samples(tmp_path / f"{name}.npz").mean((1, 2)) / 16 for name in ("plain", "ink"))
    assert found["bounded_before"] == pytest.approx(before.mean(), abs=1e-6)
    assert found["bounded"] == pytest.approx(after.mean(), abs=1e-6)
    assert found["bounded_before"] < found["bounded"] < found["bounded_target"] == 0.5
    missing, left = (np.maximum(0.5 - ink, 0) for ink in (before, after))  # ink above the bound makes up for no other
    assert found["bounded_progress"] == pytest.approx(1 - left.mean() / missing.mean(), abs=1e-6)
    assert found["reward"] == pytest.approx(-(left**2).mean(), abs=1e-6)
    assert "bounded" not in steer(digits, "--reward", "ink", *words, "--out", tmp_path / "b.npz")


def test_particles_of_a_reward(digits, tmp_path):
    words = ("--method", "smc", "--particles", 12, "--steps", 8, "-n", 6, "--out", tmp_path / "a.npz")
    found = steer(digits, "--reward", "60 * ink", *words)
    assert samples(tmp_path / "a.npz").shape == (6, 8, 8)
    assert samples(tmp_path / "a.npz").mean() / 16 * 60 == pytest.approx(found["reward"], abs=1e-4)
    assert found["reward"] > found["reward_before"]
    assert len(found["ess_steps"]) == 8
    assert 1 <= found["ess_least"] <= found["ess_end"] <= 12
    refuse("steer", digits, "--reward", "ink", "--method", "smc", "--prior", "none")
    refuse("steer", digits, "--reward", "ink", "--method", "smc", "--noise", 1)
    refuse("steer", digits, "--reward", "ink", "--method", "smc", "-n", 65, argument="n", found="65")


def test_constant_reward_gives_unsteered_samples(digits, tmp_path):
    (tmp_path / "flat.py").write_text("def flat(values):\n    return 0 * values.flatten(1).sum(1)\n")
    words = ("-n", 3, "--nfe", 4, "--seed", 5)
    steer(digits, "--reward", f"{tmp_path}/flat.py:flat", *words, "--out", tmp_path / "a.npz")
    run("sample", digits, *words, "--out", tmp_path / "b.npz")
    assert np.array_equal(samples(tmp_path / "a.npz"), samples(tmp_path / "b.npz"))


def test_rewards_are_summed(digits, tmp_path):
    (tmp_path / "r.py").write_text(LEFT)
    rewards = ("class=7", f"0.1*{tmp_path}/r.py:left")
    found = steer(digits, "--reward", *rewards, "-n", 3, "--steps", 3, "--nfe", 4, "--out", tmp_path / "x")
    assert found["reward"] > found["reward_before"]
    assert (tmp_path / "x" / "grid.png").is_file()


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ("", {"expected": "a target: --reward TEXT, or --observe FILE with --operator NAME"}),
        ("--reward class=x", {"argument": "class", "found": "'x'"}),
        ("--reward ink --optimize sources", {"argument": "optimize", "found": "'sources'"}),
        ("--reward ink --optimize both --guidance 2", {"remedy": "Leave out --guidance"}),
        ("--reward ink --mask hole.png", {"remedy": "Remove --mask"}),
        ("--reward ink --method pigdm", {"remedy": "Remove --method"}),
        ("--observe x.png --operator blur --prior none", {"remedy": "Remove --prior"}),
        ("--reward ink --nfe 0", {"argument": "nfe", "found": "0"}),
        ("--reward class", {"argument": "reward", "found": "class without a value"}),
        ("--reward ink --observe half.png", {"argument": "rewards", "found": "both"}),
        ("--observe half.png", {"argument": "observe"}),
        ("--reward ink --solver dopri5", {}),
        ("--reward ink -n 0", {"argument": "n", "found": "0"}),
        ("--reward ink --steps 0", {"argument": "steps", "found": "0"}),
        ("--observe half.png --operator grey --method pigdm --steps 3", {"argument": "steps"}),
        ("--reward ink --prior radius=-1", {"argument": "prior", "found": "'radius=-1'"}),
        ("--observe nope.png --operator grey", {"kind": InputError, "file": "nope.png", "found": "none"}),
        ("--reward nowhere.py:f", {"kind": InputError, "expected": "a Python file", "found": "none"}),
        ("--reward ink --seed 3 --reward class=7", {"argument": "reward", "remedy": "--reward ink class=7"}),
        ("--reward '2 * ink' -n 4 '--reward=ink <= 3'", {"remedy": "--reward '2 * ink' 'ink <= 3'"}),
    ],
)
def test_refused_arguments(digits, tmp_path, words, fields):
    refuse("steer", digits, *shlex.split(words), "--out", tmp_path / "out.npz", **fields)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("return values", "one value per sample"),
        ("return values.flatten(1).sum(1) / 0 * 0", "nan for 2 of 2"),
        ("return (values.flatten(1).sum(1) * 0).sqrt()", "16 of 16"),
        ("return {}['key']", "bad.py line 2, in bad: KeyError: 'key'"),
        ("return [1.0] * len(values)", "found a list"),
    ],
)
def test_rewards_that_fail(digits, tmp_path, body, reason):
    (tmp_path / "bad.py").write_text(f"def bad(values):\n    {body}\n")
    words = ("--reward", f"{tmp_path}/bad.py:bad", "--out", tmp_path / "o.npz")
    assert reason in str(refuse("steer", digits, *words, kind=InputError))


def test_reward_without_a_gradient(digits, tmp_path, capsys):
    """Searched at random; samples do not depend on the batch."""
    (tmp_path / "r.py").write_text("def lit(values):\n    return (values > 8).flatten(1).double().mean(1)\n")
    words = (digits, "--reward", f"{tmp_path}/r.py:lit", "--steps", 4, "--nfe", 4)
    found = steer(*words, "-n", 3, "--out", tmp_path / "a.npz")
    assert "no gradient" in capsys.readouterr().err
    assert found["reward"] > found["reward_before"] + 0.03
    assert found["solves"] == 1 + 4 * 16
    steer(*words, "-n", 1, "--out", tmp_path / "b.npz")
    assert np.array_equal(samples(tmp_path / "a.npz")[:1], samples(tmp_path / "b.npz"))


@pytest.mark.parametrize("over", ["condition", "both"])
def test_search_over_conditions(digits, tmp_path, over):
    words = ("--reward", "ink", "-n", 2, "--steps", 2, "--nfe", 4, "--optimize", over)
    found = steer(digits, *words, "--out", tmp_path / "a.npz")
    assert found["reward"] > found["reward_before"]
    assert ("source_size" in found) == (over == "both")
    assert f"--optimize {over}" in json.loads((digits / "report-steered.json").read_text())["command"]


@pytest.mark.slow
def test_elements_of_molecules_must_be_given(molecules, tmp_path):
    (tmp_path / "r.py").write_text("def wide(values):\n    return values['place'].square().mean((1, 2))\n")
    words = (molecules, "--reward", f"{tmp_path}/r.py:wide", "-n", 2, "--steps", 2, "--nfe", 4)
    words += ("--out", tmp_path / "a.xyz")
    assert "element" in str(refuse("steer", *words))
    found = steer(*words, "--given", "element=C4H8O2")
    assert found["reward"] > found["reward_before"]
    valid = [accepted(one) for one in (tmp_path / "a.xyz").read_text().split("\n14\n")]
    assert found["validity"] == sum(valid) / 2
    assert found["improved_valid"] <= found["validity"]
    assert found["improved"] == 1
    page = json.loads((molecules / "report-steered.json").read_text())
    assert page["sketch"] == found["sketch"] != ""
    assert page["verdict"].startswith("Undertrained")
    assert {"validity", "validity_before"} <= page["numbers"].keys()


def accepted(block):
    """Return whether rdkit finds bonds of a molecule of 14 atoms in an XYZ file."""
    chem, bonds = pytest.importorskip("rdkit.Chem"), pytest.importorskip("rdkit.Chem.rdDetermineBonds")
    rows = block.strip().splitlines()[-14:]
    made = chem.MolFromXYZBlock("\n".join(["14", "", *(" ".join(row.split()[:4]) for row in rows), ""]))
    try:
        bonds.DetermineBonds(made, charge=0, maxIterations=1000)
        chem.SanitizeMol(made)
    except (ValueError, RuntimeError):
        return False
    return len(chem.GetMolFrags(made)) == 1


@pytest.mark.parametrize(
    ("reward", "bound"),
    [("{}:left", ">="), ("-2 * {}:left", "<="), ("{}:left >= 0.4", None), ("ink", None)],
)
def test_user_reward_without_a_bound_is_noted(reward, bound, digits, tmp_path, capsys):
    file = tmp_path / "r.py"
    file.write_text(LEFT)
    words = ("-n", 2, "--steps", 1, "--nfe", 2, "--out", tmp_path / "x.npz")
    steer(digits, "--reward", reward.format(file), *words)
    text = " ".join(capsys.readouterr().err.split())
    assert ("no bound" in text) == (bound is not None)
    assert bound is None or f'--reward "{file}:left {bound} NUMBER"' in text
