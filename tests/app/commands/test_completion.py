"""Shell completion of commands, flags and their values."""

import shutil
import subprocess

import pytest

from feller.app.cli import COMMANDS, main
from feller.app.commands.completion import SHELLS
from feller.models.recipes.registry import RECIPES
from feller.sampling.sampler_config import SOLVERS


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    found = {}
    for shell in SHELLS:
        with pytest.MonkeyPatch.context() as patch, (tmp_path_factory.mktemp(shell) / "out").open("w+") as out:
            patch.setattr("sys.stdout", out)
            assert main(["completion", shell]) == 0
            out.seek(0)
            found[shell] = out.read()
    return found


@pytest.mark.parametrize("shell", SHELLS)
def test_scripts_name_all_commands(shell, scripts):
    text = scripts[shell]
    assert all(f"'{name}'" in text for name in (*COMMANDS, *RECIPES, *SOLVERS, "torch-export", "--stop-at-epsilon"))
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=text, text=True, check=True)


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_completes(scripts, tmp_path):
    def completed(*words):
        line = " ".join(f"'{word}'" for word in words)
        press = f"COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _tyro_feller"
        lines = [scripts["bash"], press, 'printf "%s\\n" "${COMPREPLY[@]}"']
        ran = subprocess.run(["bash"], input="\n".join(lines), text=True, capture_output=True, check=True, cwd=tmp_path)
        return ran.stdout.split()

    (tmp_path / "run").mkdir()
    assert completed("feller", "ex") == ["export"]
    assert completed("feller", "sample", "run", "--superp") == ["--superpose"]
    assert completed("feller", "sample", "ru") == []  # files, by the shell itself
    assert completed("feller", "fit", "--out", "ru") == ["run"]
    assert {*completed("feller", "")} >= COMMANDS.keys()
    assert {*completed("feller", "fit", "a.csv", "--size", "")} == {"tiny", "small", "base", "large", "xl"}
    assert {*completed("feller", "fit", "a.csv", "--recipe", "levels-m")} == {"levels-mask", "levels-metric"}
    assert completed("feller", "export", "r", "--to", "o") == ["onnx"]
