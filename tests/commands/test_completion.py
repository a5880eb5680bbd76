"""Shell completion: the scripts are sound, and know all commands and their flags."""

import shutil
import subprocess

import pytest

from feller.cli import COMMANDS, main
from feller.commands.shells import SHELLS, commands, script


def test_all_commands_and_their_flags_are_known():
    found = commands()
    assert found.keys() == COMMANDS.keys()
    assert {"--out", "-n", "--guidance", "--given", "--help"} <= {*found["sample"][1]}
    assert "--folder" not in found["sample"][1]
    assert {"--epsilon", "--stop-at-epsilon", "--start-from"} <= {*found["fit"][1]}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_names_all_commands(shell, capsys):
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert text == script(shell)
    assert all(name in text for name in COMMANDS)
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=text, text=True, check=True)


def completed(*words):
    """Press the key in bash, and return what it offers."""
    line = " ".join(f"'{word}'" for word in words)
    lines = [
        script("bash"),
        f"COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _feller",
        'printf "%s\\n" "${COMPREPLY[@]}"',
    ]
    ran = subprocess.run(["bash"], input="\n".join(lines), text=True, capture_output=True, check=True)
    return ran.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_completes():
    assert completed("feller", "ex") == ["export"]
    assert completed("feller", "sample", "runs/a", "--guid") == ["--guidance"]
    assert completed("feller", "sample", "runs") == []  # files, by the shell itself
    assert set(completed("feller", "")) >= COMMANDS.keys()


def test_other_shells_are_refused(capsys):
    assert main(["completion", "tcsh"]) == 2
    assert "bash, zsh, fish" in capsys.readouterr().err
