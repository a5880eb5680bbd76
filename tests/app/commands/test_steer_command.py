"""feller steer, from the command line."""

import json
import pathlib

import numpy as np
import pytest

from feller.app.cli import main


def steered(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, float]:
    assert main(["steer", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_more_ink(digits: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "ink.npz"
    found = steered(capsys, digits, "--reward", "ink", "-n", 4, "--steps", 4, "--nfe", 4, "--out", out)
    with np.load(out) as arrays:
        assert arrays["samples"].shape == (4, 8, 8)
        assert arrays["samples"].mean() / 16 == pytest.approx(found["reward"], abs=1e-6)
    assert found["reward"] > found["reward_before"] + 0.05
    assert found["improved"] == 1.0
    again = steered(capsys, digits, "--reward", "ink", "-n", 2, "--steps", 4, "--nfe", 4, "--out", tmp_path / "b.npz")
    with np.load(out) as four, np.load(tmp_path / "b.npz") as two:
        assert np.abs(four["samples"][:2].astype(int) - two["samples"]).max() <= 1
    assert again["n"] == 2


def test_what_a_bound_is_about_is_told(digits, tmp_path, capsys):
    out = tmp_path / "ink.npz"
    words = ("-n", 3, "--steps", 3, "--nfe", 4, "--out", out)
    found = steered(capsys, digits, "--reward", "ink >= 0.5", *words)
    assert main(["sample", *map(str, (digits, "-n", 3, "--nfe", 4, "--out", tmp_path / "plain.npz"))]) == 0
    capsys.readouterr()
    with np.load(tmp_path / "plain.npz") as plain, np.load(out) as arrays:
        before, after = (pictures["samples"].mean((1, 2)) / 16 for pictures in (plain, arrays))
    assert found["bounded_before"] == pytest.approx(before.mean(), abs=1e-6)
    assert found["bounded"] == pytest.approx(after.mean(), abs=1e-6)
    assert found["bounded_before"] < found["bounded"] < found["bounded_target"] == 0.5
    missing, left = (np.maximum(0.5 - ink, 0) for ink in (before, after))  # ink above the bound makes up for no other
    assert found["bounded_progress"] == pytest.approx(1 - left.mean() / missing.mean(), abs=1e-6)
    assert found["reward"] == pytest.approx(-(left**2).mean(), abs=1e-6)
    assert "bounded" not in steered(capsys, digits, "--reward", "ink", *words[:6], "--out", tmp_path / "b.npz")


def test_no_step_gives_plain_samples(digits, tmp_path, capsys):
    """A wish that is met from the start moves nothing: the samples are those of `sample` with the same seed."""
    (tmp_path / "flat.py").write_text("def flat(values):\n    return 0 * values.flatten(1).sum(1)\n")
    words = ("-n", 3, "--nfe", 4, "--seed", 5)
    steered(capsys, digits, "--reward", f"{tmp_path}/flat.py:flat", *words, "--out", tmp_path / "a.npz")
    assert main(["sample", *map(str, (digits, *words, "--out", tmp_path / "b.npz"))]) == 0
    with np.load(tmp_path / "a.npz") as a, np.load(tmp_path / "b.npz") as b:
        assert np.array_equal(a["samples"], b["samples"])


def test_classes_and_own_functions(digits, tmp_path, capsys):
    (tmp_path / "r.py").write_text("def left(values):\n    return values[:, 0, :, :4].mean((1, 2))\n")
    wishes = ("class=7", f"0.1*{tmp_path}/r.py:left")
    found = steered(capsys, digits, "--reward", *wishes, "-n", 3, "--steps", 3, "--nfe", 4, "--out", tmp_path / "x")
    assert found["reward"] > found["reward_before"]
    assert (tmp_path / "x" / "grid.png").is_file()


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        ([], 2, "expected a target: --reward TEXT, or --observe FILE"),
        (["--reward", "class=x"], 2, "class: expected"),
        (["--reward", "ink", "--optimize", "sources"], 2, "one of source, condition, both"),
        (["--reward", "ink", "--optimize", "both", "--guidance", "2"], 2, "does not support guidance"),
        (["--reward", "ink", "--mask", "hole.png"], 2, "--mask needs --observe"),
        (["--reward", "ink", "--method", "pigdm"], 2, "--method needs --observe"),
        (["--observe", "x.png", "--operator", "blur", "--prior", "none"], 2, "--prior needs --reward"),
        (["--reward", "ink", "--nfe", "0"], 2, ": expected at least 1"),
        (["--reward", "class"], 2, "such as class=7"),
        (["--reward", "ink", "--observe", "half.png"], 2, "found both"),
        (["--observe", "half.png"], 2, "--observe: needs --operator"),
        (["--reward", "ink", "--solver", "dopri5"], 2, "use one of euler, midpoint"),
        (["--reward", "ink", "-n", "0"], 2, "-n: expected at least 1"),
        (["--reward", "ink", "--steps", "0"], 2, "--steps: expected at least 1"),
        (
            ["--observe", "half.png", "--operator", "grey", "--method", "pigdm", "--steps", "3"],
            2,
            "--steps: applies only to the optimisation",
        ),
        (["--reward", "ink", "--prior", "radius=-1"], 2, "--prior: expected shell, radius=WEIGHT with"),
        (["--observe", "nope.png", "--operator", "grey"], 1, "nope.png: expected a file; found none"),
        (["--reward", "nowhere.py:f"], 1, "nowhere.py: expected a Python file; found none"),
        (["--reward", "ink", "--reward", "ink"], 2, "--reward: expected"),
    ],
)
def test_what_is_refused(digits, tmp_path, capsys, words, status, told):
    assert main(["steer", str(digits), *words, "--out", str(tmp_path / "out.npz")]) == status
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "whole"),
    [
        (["--reward", "ink", "--seed", "3", "--reward", "class=7"], "--reward ink class=7"),
        (["--reward", "2 * ink", "-n", "4", "--reward=ink <= 3"], "--reward '2 * ink' 'ink <= 3'"),
    ],
)
def test_a_reward_that_stands_twice_is_shown_as_one(digits, capsys, words, whole):
    assert main(["steer", str(digits), *words]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"--reward: expected a single flag followed by all its values; found the flag twice. {whole}" in said


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("return values", "one value per sample"),
        ("return values.flatten(1).sum(1) / 0 * 0", "the reward is nan for 2 of 2 samples"),
        ("return (values.flatten(1).sum(1) * 0).sqrt()", "not finite for 16 of 16"),
        ("return {}['key']", "bad.py line 2, in bad: KeyError: 'key'"),
        ("return [1.0] * len(values)", "found a list"),
    ],
)
def test_wrong_rewards(digits, tmp_path, capsys, body, told):
    (tmp_path / "bad.py").write_text(f"def bad(values):\n    {body}\n")
    assert main(["steer", str(digits), "--reward", f"{tmp_path}/bad.py:bad", "--out", str(tmp_path / "o.npz")]) == 1
    said = capsys.readouterr().err
    assert told in said
    assert ("no bound" in said) == ("not finite" in told)  # all others fail before anything is printed


def test_rewards_without_a_gradient(digits, tmp_path, capsys):
    """They are followed by chance, which is said; which batch a sample is in does not matter."""
    (tmp_path / "r.py").write_text("def lit(values):\n    return (values > 8).flatten(1).double().mean(1)\n")
    words = ("--reward", f"{tmp_path}/r.py:lit", "--steps", 4, "--nfe", 4)
    found = steered(capsys, digits, *words, "-n", 3, "--out", tmp_path / "a.npz")
    assert found["reward"] > found["reward_before"] + 0.03
    assert found["solves"] == 1 + 4 * 16
    assert main(["steer", str(digits), *map(str, words), "-n", "1", "--out", str(tmp_path / "b.npz")]) == 0
    assert "no gradient" in capsys.readouterr().err
    with np.load(tmp_path / "a.npz") as a, np.load(tmp_path / "b.npz") as b:
        assert np.array_equal(a["samples"][:1], b["samples"])


@pytest.mark.parametrize("over", ["condition", "both"])
def test_conditions_are_searched_too(digits, tmp_path, capsys, over):
    words = ("--reward", "ink", "-n", 2, "--steps", 2, "--nfe", 4, "--optimize", over)
    found = steered(capsys, digits, *words, "--out", tmp_path / "a.npz")
    assert found["reward"] > found["reward_before"]
    assert ("source_size" in found) == (over == "both")
    assert f"--optimize {over}" in json.loads((digits / "report-steered.json").read_text())["command"]


@pytest.mark.slow
def test_symbols_cannot_be_steered(molecules, tmp_path, capsys):
    (tmp_path / "r.py").write_text("def wide(values):\n    return values['place'].square().mean((1, 2))\n")
    words = ["steer", str(molecules), "--reward", f"{tmp_path}/r.py:wide", "-n", "2", "--steps", "2", "--nfe", "4"]
    assert main([*words, "--out", str(tmp_path / "a.xyz")]) == 2
    message = capsys.readouterr().err
    assert "element" in message
    assert "--given" in message
    assert main([*words, "--given", "element=C4H8O2", "--out", str(tmp_path / "a.xyz"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["reward"] > found["reward_before"]
    sane = [accepted(one) for one in (tmp_path / "a.xyz").read_text().split("\n14\n")]
    assert found["validity"] == sum(sane) / 2
    assert found["improved_valid"] <= found["validity"]
    assert found["improved"] == 1
    assert found["sketch"]
    page = json.loads((molecules / "report-steered.json").read_text())
    assert page["sketch"] == found["sketch"]
    assert page["verdict"].startswith("Not yet trained")
    assert {"validity", "validity_before"} <= page["numbers"].keys()


def accepted(block: str) -> bool:
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
    ("wish", "told"),
    [
        ("{}:left", 'no bound, so it is optimised without limit; `--reward "{}:left >= NUMBER"`'),
        ("-2 * {}:left", 'no bound, so it is optimised without limit; `--reward "{}:left <= NUMBER"`'),
        ("{}:left >= 0.4", None),
        ("ink", None),
    ],
)
def test_a_reward_of_ones_own_without_a_bound_is_told(wish, told, digits, tmp_path, capsys):
    file = tmp_path / "r.py"
    file.write_text("def left(values):\n    return values[:, 0, :, :4].mean((1, 2)) / 16\n")
    words = ("-n", "2", "--steps", "1", "--nfe", "2", "--out", str(tmp_path / "x.npz"))
    assert main(["steer", str(digits), "--reward", wish.format(file), *words]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert ("no bound" in said) == (told is not None)
    assert told is None or told.format(file) in said
    page = (digits / "report-steered.html").read_text()
    assert "each sample is optimised for at most 1 steps; each solve takes 2 network calls" in page
