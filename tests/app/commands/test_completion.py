"""Shell completion: the scripts are sound, and know all commands, their flags, and what flags take."""

import pathlib
import shutil
import subprocess
from dataclasses import fields

import pytest

from feller.app.cli import COMMANDS, main
from feller.app.commands.completion import SHELLS, commands, script
from feller.app.commands.flag_types import field_names
from feller.data.examples.registry import SHIPPED
from feller.models.recipes.recipe import DocumentParts, Recipe, SpeechParts
from feller.models.recipes.registry import RECIPES
from feller.sampling.sampler_config import SOLVERS

needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
SCRIPT = script("bash")


def test_all_commands_and_their_flags_are_known():
    found = commands()
    assert found.keys() == COMMANDS.keys()
    assert {"--out", "-n", "--guidance", "--given", "--help"} <= {*found["sample"].names()}
    assert "--folder" not in found["sample"].names()
    assert {"--epsilon", "--stop-at-epsilon", "--start-from"} <= {*found["fit"].names()}
    assert not next(flag for flag in found["fit"].flags if flag.names == ("--resume",)).takes


@pytest.mark.parametrize("kind", [Recipe, DocumentParts, SpeechParts])
def test_fields_are_known_without_loading_them(kind):
    assert field_names(f"{kind.__module__}:{kind.__name__}") == [field.name for field in fields(kind)]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_names_all_commands(shell, capsys):
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert text == script(shell)
    assert all(name in text for name in (*COMMANDS, *RECIPES, *SOLVERS, "example:digits", "torch-export", "calculator"))
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=text, text=True, check=True)


def completed(*words):
    """Press the key in bash, and return what it offers."""
    line = " ".join(f"'{word}'" for word in words)
    lines = [
        SCRIPT,
        f"COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _feller",
        'printf "%s\\n" "${COMPREPLY[@]}"',
    ]
    ran = subprocess.run(["bash"], input="\n".join(lines), text=True, capture_output=True, check=True)
    return ran.stdout.splitlines() if ran.stdout.strip() else []


@needs_bash
def test_bash_completes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert completed("feller", "ex") == ["export"]
    assert completed("feller", "sample", "runs/a", "--guid") == ["--guidance"]
    assert completed("feller", "sample", "runs") == []  # files, by the shell itself
    assert set(completed("feller", "")) >= COMMANDS.keys()


@needs_bash
def test_bash_completes_values():
    assert completed("feller", "fit", "a.csv", "--size", "") == ["tiny", "small", "base"]
    assert completed("feller", "fit", "a.csv", "--size", "=", "t") == ["tiny"]
    assert completed("feller", "fit", "a.csv", "--size", "=") == ["tiny", "small", "base"]
    assert completed("feller", "fit", "a.csv", "--recipe", "levels-m") == ["levels-mask", "levels-metric"]
    assert completed("feller", "export", "r", "--to", "o") == ["onnx"]
    assert completed("feller", "bridge", "a", "b", "--cost", "su") == ["surface="]
    assert completed("feller", "fit", "--out", "exa") == []
    assert completed("feller", "audit", "calc") == ["calculator"]


@needs_bash
def test_bash_completes_examples_behind_the_colon():
    """Bash takes a colon for a word of its own, and puts in only what stands behind it."""
    assert completed("feller", "fit", "exam") == [f"example:{name}" for name in SHIPPED]
    assert completed("feller", "fit", "example", ":") == [*SHIPPED]
    assert completed("feller", "fit", "example", ":", "di") == ["digits"]
    assert completed("feller", "evaluate", "r", "--data", "example", ":", "mo") == ["moons", "molecules"]
    assert completed("feller", "evaluate", "r", "--data", "=", "example", ":", "dig") == ["digits"]


@needs_bash
def test_bash_finds_complete_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("runs/moons-1", "runs/my moons", "other"):
        pathlib.Path(name).mkdir(parents=True)
        pathlib.Path(name, "model.json").touch()
    pathlib.Path("runs/half").mkdir()
    assert sorted(completed("feller", "sample", "")) == ["other", "runs/moons-1", "runs/my moons"]
    assert sorted(completed("feller", "sample", "runs/m")) == ["runs/moons-1", "runs/my moons"]
    assert completed("feller", "fit", "a.csv", "--start-from", "oth") == ["other"]
    assert completed("feller", "fit", "oth") == []


@needs_bash
@pytest.mark.skipif(shutil.which("script") is None, reason="nothing here that plays a terminal")
def test_a_key_that_is_pressed_completes(tmp_path):
    """Through readline, which splits words and puts in what is missing."""
    (tmp_path / "runs" / "moons-1").mkdir(parents=True)
    (tmp_path / "runs" / "moons-1" / "model.json").touch()
    (tmp_path / "script").write_text(SCRIPT)
    lines = ("source ./script", "feller() { printf '<%s>' \"$@\"; echo; }", "feller fit example:dig\t--size t\t")
    typed = "\n".join((*lines, "feller sample ru\t", "exit", ""))
    shell = ["script", "-qec", "bash --norc --noprofile -i", "/dev/null"]
    ran = subprocess.run(shell, input=typed, text=True, capture_output=True, cwd=tmp_path)
    assert "<fit><example:digits><--size><tiny>" in ran.stdout
    assert "<sample><runs/moons-1/>" in ran.stdout


def test_other_shells_are_refused(capsys):
    assert main(["completion", "tcsh"]) == 2
    assert "bash, zsh, fish" in capsys.readouterr().err
