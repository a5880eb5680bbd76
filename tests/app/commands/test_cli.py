"""The command line, in this process: what it prints, where it writes, and how it fails."""

import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from feller.app.cli import COMMANDS, main
from feller.core.migrations import current_format
from tests.app.commands.asked import run

pytestmark = pytest.mark.usefixtures("here")

TINY = ("--size", "tiny", "--steps", "3", "--sampling.nfe", "4")


@pytest.fixture(scope="module")
def digits(digits, tmp_path_factory):
    """Return a copy of our own of the run that other commands are tried on."""
    return shutil.copytree(digits, tmp_path_factory.mktemp("digits") / "run")


@pytest.fixture(scope="module")
def moons(tmp_path_factory):
    folder = tmp_path_factory.mktemp("moons") / "run"
    assert main(["fit", "example:moons", *TINY, "--out", str(folder)]) == 0
    return folder


@pytest.mark.slow
def test_run_folder_holds_what_the_docs_say(digits):
    names = {path.name for path in digits.iterdir()}
    assert names >= {
        "recipe.json",
        "model.json",
        "weights.safetensors",
        "average.safetensors",
        "state.safetensors",
        "state.json",
        "metrics.jsonl",
        "judge.safetensors",
        "report.html",
        "report.json",
        "lock",
    }
    record = json.loads((digits / "model.json").read_text())
    assert record["format"] == current_format()
    assert record["modality"]["is"] == "Images"


def test_json_is_last_and_equals_the_report(digits, capsys):
    status, out, _ = run(capsys, "evaluate", digits, "-n", 64, "--json")
    numbers = json.loads(out.splitlines()[-1])
    report = json.loads((digits / "report.json").read_text())["numbers"]
    assert status == 0
    assert {name: numbers[name] for name in report} == report
    assert numbers["judge_accuracy"] >= 0.95
    assert numbers["steps"] == 30


@pytest.mark.slow
def test_fit_says_what_it_chose(capsys):
    status, _, err = run(capsys, "fit", "example:digits", *TINY)
    assert status == 0
    assert "recipe images" in err.replace("\n", " ")
    assert pathlib.Path("runs/digits-1/report.html").is_file()


def test_newest_run_is_taken_and_named(capsys):
    run(capsys, "fit", "example:moons", *TINY)
    status, out, err = run(capsys, "sample", "-n", 5, "--json")
    assert status == 0
    assert "runs/moons-1" in err
    assert json.loads(out.splitlines()[-1])["n"] == 5


@pytest.mark.parametrize("solver", ["euler", "midpoint", "heun", "rk4", "dopri5", "euler-maruyama", "ancestral"])
def test_every_solver_samples(moons, capsys, solver):
    calls = () if solver == "dopri5" else ("--nfe", 8)
    status, _, err = run(capsys, "sample", moons, "-n", 7, "--solver", solver, *calls, "--out", "new.npz")
    assert status == 0, err
    assert np.load("new.npz")["samples"].shape == (7, 2)


def test_samples_of_images_in_the_units_of_the_data(digits, capsys):
    words = ("sample", digits, "-n", 12, "--nfe", 4, "--given", "label=7", "--guidance", 1.5, "--out")
    assert run(capsys, *words, "new.npz")[0] == 0
    file = np.load("new.npz")
    assert file["samples"].dtype == np.uint8
    assert file["samples"].shape == (12, 8, 8)
    assert file["samples"].max() <= 16
    assert set(file["labels"]) == {7}
    assert run(capsys, *words, "new")[0] == 0
    assert len(list(pathlib.Path("new/7").glob("*.png"))) == 12
    assert pathlib.Path("new/grid.png").is_file()


def test_sample_number_k_does_not_depend_on_how_many_are_drawn(digits, capsys):
    for n in (10, 300):
        run(capsys, "sample", digits, "-n", n, "--nfe", 2, "--out", f"{n}.npz")
    few, many = np.load("10.npz"), np.load("300.npz")
    assert (few["samples"] == many["samples"][:10]).mean() > 0.999  # the network's rounding depends on the batch
    assert (few["labels"] == many["labels"][:10]).all()


def test_samples_can_be_judged_from_a_file(digits, capsys):
    run(capsys, "sample", digits, "-n", 40, "--nfe", 2, "--out", "new.npz")
    status, out, _ = run(capsys, "evaluate", digits, "--samples", "new.npz", "--json")
    assert status == 0
    assert json.loads(out.splitlines()[-1])["fd_cnn"] > 0


def test_deeper_fields_reach_the_recipe(capsys):
    deeper = ["--train.lr", "5e-4", "--objective.cond-dropout", 0.25]
    status, _, err = run(capsys, "fit", "example:moons", *TINY, *deeper, "--out", "r")
    assert status == 0, err
    recipe = json.loads(pathlib.Path("r/recipe.json").read_text())["recipe"]
    assert recipe["train"]["lr"] == 5e-4
    assert recipe["objective"]["cond_dropout"] == 0.25
    assert "<span>--train.lr</span> <span>5e-4</span>" in pathlib.Path("r/report.html").read_text()


@pytest.mark.slow
def test_what_is_on_can_be_said_again_and_turned_off(capsys):
    train = ["--train.fsdp", "--train.lr", "5e-4"]
    assert run(capsys, "fit", "example:moons", *TINY, *train, "--out", "r")[0] == 0
    for flag, expected in (("--train.fsdp", True), ("--train.no-fsdp", False)):
        status, _, err = run(capsys, "fit", "--resume", "--out", "r", "--steps", 3, flag)
        assert status == 0, err
        assert json.loads(pathlib.Path("r/recipe.json").read_text())["recipe"]["train"]["fsdp"] is expected


def test_whole_tree_in_help(capsys):
    status, out, _ = run(capsys, "fit", "example:moons", "--recipe", "points", "--help")
    assert status == 0
    assert "--train.lr" in out


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["fti", "x"], 2, "Did you mean 'fit'"),
        (["fit"], 2, "expected data"),
        (["fit", "example:moons", "--recipe", "imagse"], 2, "Did you mean 'images'"),
        (["fit", "example:moons", "--recipe", "images"], 2, "needs images"),
        (["fit", "example:moons", "--size", "huge"], 2, "size: expected"),
        (["fit", "example:moons", "--steps", "5", "--minutes", "1"], 2, "found --steps and --minutes"),
        (["fit", "--resume", "--out", "nothing"], 1, "nothing"),
    ],
)
def test_wrong_use_is_one_line_and_a_status(capsys, words, status, message):
    got, out, err = run(capsys, *words)
    assert got == status, err
    assert message in err
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert not out
    assert not pathlib.Path("runs").exists()


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["-n", "0"], 2, "at least 1"),
        (["--solver", "midpiont"], 2, "Did you mean 'midpoint'"),
        (["--nfe", "0"], 2, "at least 1"),
        (["--nfe", "1"], 2, "expected at least 2"),
        (["--solver", "dopri5", "--nfe", "9"], 2, "chooses its own"),
        (["--given", "label"], 2, "KEY=VALUE"),
        (["--given", "lable=3"], 2, "Did you mean 'label'"),
        (["--given", "label=11"], 2, "label"),
        (["-n", "4", "--from", "x.csv"], 2, "--from: applies to bridges only"),
        (["--backward"], 2, "is not a bridge. Leave it out"),
        (["--out", "x.mp3"], 2, ".npz"),
    ],
)
def test_wrong_samples(digits, capsys, words, status, message):
    got, _, err = run(capsys, "sample", digits, *words)
    assert got == status, err
    assert message in err


def test_guidance_without_conditions(moons, capsys):
    status, _, err = run(capsys, "sample", moons, "--guidance", 2)
    assert status == 2
    assert "--guidance: expected a model with conditions" in err


def test_existing_folder_is_kept(moons, capsys):
    before = (moons / "weights.safetensors").read_bytes()
    status, _, err = run(capsys, "fit", "example:moons", *TINY, "--out", moons)
    assert status == 2
    assert "--resume" in err
    assert (moons / "weights.safetensors").read_bytes() == before
    pathlib.Path("mine").mkdir()
    pathlib.Path("mine/letter.txt").write_text("dear")
    status, _, err = run(capsys, "fit", "example:moons", *TINY, "--out", "mine", "--overwrite")
    assert status == 2
    assert pathlib.Path("mine/letter.txt").read_text() == "dear"


def copy(run_folder: pathlib.Path, name: str) -> pathlib.Path:
    folder = pathlib.Path(name)
    folder.mkdir()
    for path in run_folder.iterdir():
        if path.is_file():
            (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        (file, damage)
        for file in ("model.json", "average.safetensors", "recipe.json", "judge.safetensors", "state.json")
        for damage in ("cut", "noise", "gone")
        if (file, damage) != ("judge.safetensors", "gone")
    ],
)
def test_damaged_run_is_said_in_one_line(digits, capsys, file, damage):
    folder = copy(digits, "damaged")
    content = (folder / file).read_bytes()
    if damage == "cut":
        (folder / file).write_bytes(content[: len(content) // 2])
    elif damage == "noise":
        (folder / file).write_bytes(b"\x80\x04K\x01." + content[5:])
    else:
        (folder / file).unlink()
    status, _, err = run(capsys, "evaluate", folder)
    assert status == 1, err
    assert "Traceback" not in err
    assert "damaged" in err
    assert "sampling" not in err  # told before the work, not after it


@pytest.mark.slow
def test_a_judge_that_is_gone_is_trained_anew(digits, capsys):
    folder = copy(digits, "damaged")
    (folder / "judge.safetensors").unlink()
    assert run(capsys, "evaluate", folder)[0] == 0
    assert (folder / "judge.safetensors").is_file()


@pytest.mark.slow
def test_own_recipe_and_path(capsys):
    pathlib.Path("mine.py").write_text(
        "from feller import Affine, CustomSchedule, FlowMatching, Recipe, TrainConfig\n"
        "from feller.networks.mlp import MLP\n"
        "def alpha(t): return t**2\n"
        "def sigma(t): return 1 - t**2\n"
        "def curved(data, size):\n"
        "    objective = FlowMatching(Affine(CustomSchedule(alpha, sigma)), data.modality.space())\n"
        "    train = TrainConfig(batch_size=16, steps=2)\n"
        "    return Recipe(architecture=MLP(width=8, depth=1), objective=objective, train=train)\n"
    )
    status, _, err = run(capsys, "fit", "example:moons", "--recipe", "mine.py:curved", "--out", "r")
    assert status == 0, err
    assert run(capsys, "sample", "r", "--code", "mine.py", "-n", 3)[0] == 0
    again = ("--resume", "--recipe", "mine.py:curved", "--out", "r", "--steps", "3")
    done = subprocess.run([sys.executable, "-m", "feller", "fit", *again], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr  # where nothing of it was loaded before
    pathlib.Path("other.py").write_text("x = 1\n")
    words = ("sample", "r", "--code", "other.py", "-n", "3")
    done = subprocess.run([sys.executable, "-m", "feller", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "other.py does not define the custom components of r" in done.stderr
    status, _, err = run(capsys, "fit", "example:moons", "--recipe", "mine.py:curvd", "--out", "q")
    assert status == 2
    assert "curved" in err


@pytest.mark.slow
def test_one_picture_and_one_class(capsys):
    pathlib.Path("one/cat").mkdir(parents=True)
    Image.fromarray(np.arange(144, dtype=np.uint8).reshape(12, 12)).save("one/cat/a.png")
    status, _, err = run(capsys, "fit", "one", *TINY, "--out", "r")
    assert status == 0, err
    assert run(capsys, "sample", "r", "-n", 2, "--nfe", 2, "--given", "label=cat")[0] == 0


@pytest.mark.parametrize("words", [["--help"], ["sample", "--help"]])
def test_a_reader_that_has_enough_is_no_fault(words):
    """`feller sample --help | head -1` closes the pipe before all is printed."""
    code = "import sys, os; from feller.app.cli import main; sys.stdin.readline(); sys.exit(main(sys.argv[1:]))"
    begun = [sys.executable, "-c", code, *words]
    with subprocess.Popen(begun, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        child.stdout.close()
        _, err = child.communicate(b"\n")
    assert (child.returncode, err) == (141, b"")


@pytest.mark.parametrize("command", list(COMMANDS))
def test_help_has_no_two_blank_lines(capsys, command):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert "\n\n\n" not in capsys.readouterr().out.strip()
