"""The command line in this process: run folders, samples, damaged runs and help."""

import itertools
import json
import pathlib
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from feller.app.cli import COMMANDS, main
from feller.core.errors import InputError
from feller.core.migrations import current_format
from tests.app.asked import refuse, run

pytestmark = pytest.mark.usefixtures("here")

TINY = ("--size", "tiny", "--steps", "3", "--sampling.nfe", "4")


@pytest.fixture(scope="module")
def digits(digits, tmp_path_factory):
    """Return a copy of the run of other commands."""
    return shutil.copytree(digits, tmp_path_factory.mktemp("digits") / "run")


@pytest.fixture(scope="module")
def moons(tmp_path_factory):
    folder = tmp_path_factory.mktemp("moons") / "run"
    run("fit", "example:moons", *TINY, "--out", folder)
    return folder


@pytest.mark.slow
def test_files_of_a_run(digits):
    tensors = ("weights", "average", "state", "judge")
    records = ("recipe.json", "model.json", "state.json", "metrics.jsonl", "report.html", "report.json", "lock")
    assert {path.name for path in digits.iterdir()} >= {*records, *(f"{name}.safetensors" for name in tensors)}
    record = json.loads((digits / "model.json").read_text())
    assert (record["format"], record["modality"]["is"]) == (current_format(), "Images")


def test_json_equals_the_report(digits):
    numbers = run("evaluate", digits, "-n", 64)
    content = json.loads((digits / "report.json").read_text())
    assert any(note.startswith("trained on 3,840 examples in 30 steps") for note in content["notes"])
    report = content["numbers"]
    assert {name: numbers[name] for name in report} == report
    assert numbers["judge_accuracy"] >= 0.95
    assert numbers["steps"] == 30


@pytest.mark.slow
def test_default_recipe_and_folder():
    run("fit", "example:digits", *TINY)
    record = json.loads(pathlib.Path("runs/digits-1/recipe.json").read_text())
    assert record["provenance"]["recipe"] == "images"
    assert pathlib.Path("runs/digits-1/report.html").is_file()


def test_newest_run_is_the_default():
    run("fit", "example:moons", *TINY)
    numbers = run("sample", "-n", 5)
    assert (numbers["run"], numbers["n"]) == ("runs/moons-1", 5)


@pytest.mark.parametrize(
    "solver", ["midpoint", "ab3", "dopri5", "euler-maruyama", "ancestral", "dpm-solver++-sde", "unipc", "deis"]
)
def test_every_solver_samples(moons, solver):
    run("sample", moons, "-n", 7, "--solver", solver, *(() if solver == "dopri5" else ("--nfe", 8)), "--out", "new.npz")
    assert np.load("new.npz")["samples"].shape == (7, 2)


def test_samples_of_images_in_the_units_of_the_data(digits):
    words = ("sample", digits, "-n", 12, "--nfe", 4, "--given", "label=7", "--guidance", 1.5, "--out")
    run(*words, "new.npz")
    file = np.load("new.npz")
    assert (file["samples"].dtype, file["samples"].shape) == (np.uint8, (12, 8, 8))
    assert file["samples"].max() <= 16
    assert set(file["labels"]) == {7}
    run(*words, "new")
    assert len(list(pathlib.Path("new/7").glob("*.png"))) == 12
    assert pathlib.Path("new/grid.png").is_file()


def test_samples_do_not_depend_on_their_number(digits):
    for n in (10, 300):
        run("sample", digits, "-n", n, "--nfe", 2, "--out", f"{n}.npz")
    few, many = np.load("10.npz"), np.load("300.npz")
    assert (few["samples"] == many["samples"][:10]).mean() > 0.999  # the network's rounding depends on the batch
    assert (few["labels"] == many["labels"][:10]).all()


def test_samples_of_a_file_are_evaluated(digits):
    run("sample", digits, "-n", 40, "--nfe", 2, "--out", "new.npz")
    assert run("evaluate", digits, "--samples", "new.npz")["fd_cnn"] > 0


def test_fields_of_the_recipe(capsys):
    run("fit", "example:moons", *TINY, "--train.lr", "5e-4", "--objective.cond-dropout", 0.25, "--out", "r")
    recipe = json.loads(pathlib.Path("r/recipe.json").read_text())["recipe"]
    assert (recipe["train"]["lr"], recipe["objective"]["cond_dropout"]) == (5e-4, 0.25)
    assert "--train.lr 5e-4" in json.loads(pathlib.Path("r/report.json").read_text())["command"]


@pytest.mark.slow
def test_switches_of_a_resumed_run():
    run("fit", "example:moons", *TINY, "--train.fsdp", "--train.lr", "5e-4", "--report", "none", "--out", "r")
    for flag, expected in (("--train.fsdp", True), ("--train.no-fsdp", False)):
        run("fit", "--resume", "--out", "r", "--steps", 3, "--report", "none", flag)
        assert json.loads(pathlib.Path("r/recipe.json").read_text())["recipe"]["train"]["fsdp"] is expected


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ("-n 0", {"argument": "n", "found": "0"}),
        ("--solver midpiont", {"argument": "solver", "remedy": "Did you mean 'midpoint'?"}),
        ("--nfe 0", {"argument": "nfe", "found": "0"}),
        ("--nfe 1", {"argument": "nfe", "expected": "at least 2 for midpoint"}),
        ("--solver dopri5 --nfe 9", {"argument": "nfe", "remedy": "Leave it out"}),
        ("--given label", {"argument": "given"}),
        ("--given lable=3", {"argument": "given", "remedy": "Did you mean 'label'?"}),
        ("--given label=11", {"argument": "label", "found": "'11'"}),
        ("-n 4 --from x.csv", {"argument": "from_data", "remedy": "Leave it out"}),
        ("--backward", {"argument": "backward", "remedy": "Leave it out"}),
        ("--out x.mp3", {"remedy": "Use .npz, .npy, or a folder (no suffix)"}),
    ],
)
def test_refused_samples(digits, words, fields, capsys):
    refuse("sample", digits, *shlex.split(words), **fields)
    assert capsys.readouterr().err == ""  # nothing is said to be drawn


def test_guidance_needs_conditions(moons):
    refuse("sample", moons, "--guidance", 2, argument="guidance", found="one without any")


def test_existing_folder_is_kept(moons):
    before = (moons / "weights.safetensors").read_bytes()
    assert "--resume" in str(refuse("fit", "example:moons", *TINY, "--out", moons))
    assert (moons / "weights.safetensors").read_bytes() == before
    pathlib.Path("mine").mkdir()
    pathlib.Path("mine/letter.txt").write_text("dear")
    refuse("fit", "example:moons", *TINY, "--out", "mine", "--overwrite", file="mine")
    assert pathlib.Path("mine/letter.txt").read_text() == "dear"


def copy(source):
    """Copy the files of a run, not its folders."""
    folder = pathlib.Path("damaged")
    folder.mkdir()
    for path in source.iterdir():
        if path.is_file():
            shutil.copy(path, folder)
    return folder


DAMAGES = {
    "cut": lambda file, content: file.write_bytes(content[: len(content) // 2]),
    "noise": lambda file, content: file.write_bytes(b"\x80\x04K\x01." + content[5:]),
    "gone": lambda file, content: file.unlink(),
}


@pytest.mark.parametrize(
    "name", ["model.json", "average.safetensors", "recipe.json", "judge.safetensors", "state.json"]
)
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_run_is_refused(digits, capsys, name, damage):
    if (name, damage) == ("judge.safetensors", "gone"):
        return  # trained again
    file = copy(digits) / name
    DAMAGES[damage](file, file.read_bytes())
    refuse("evaluate", "damaged", kind=InputError)
    assert "sampling" not in capsys.readouterr().err  # before the work, not after it


@pytest.mark.slow
def test_missing_judge_is_trained_again(digits):
    folder = copy(digits)
    (folder / "judge.safetensors").unlink()
    run("evaluate", folder)
    assert (folder / "judge.safetensors").is_file()


@pytest.mark.slow
def test_user_recipe():
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
    run("fit", "example:moons", "--recipe", "mine.py:curved", "--report", "none", "--out", "r")
    run("sample", "r", "--code", "mine.py", "-n", 3)
    pathlib.Path("other.py").write_text("x = 1\n")
    resume = ("fit", "--resume", "--recipe", "mine.py:curved", "--out", "r", "--steps", "3", "--report", "none")
    for words, status in ((resume, 0), (("sample", "r", "--code", "other.py", "-n", "3"), 2)):
        command = [sys.executable, "-m", "feller", *words]  # in which nothing of it was loaded before
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stderr
    assert "other.py" in done.stderr
    fields = {"argument": "function", "found": "'curvd'", "file": "mine.py"}
    refuse("fit", "example:moons", "--recipe", "mine.py:curvd", "--out", "q", **fields)


@pytest.mark.slow
def test_one_image_of_one_class():
    pathlib.Path("one/cat").mkdir(parents=True)
    Image.fromarray(np.arange(144, dtype=np.uint8).reshape(12, 12)).save("one/cat/a.png")
    run("fit", "one", *TINY, "--out", "r")
    run("sample", "r", "-n", 2, "--nfe", 2, "--given", "label=cat")


@pytest.mark.parametrize("words", [["--help"], ["sample", "--help"]])
def test_closed_pipe(words):
    """`feller sample --help | head -1` closes the pipe before all is printed."""
    code = "import sys, os; from feller.app.cli import main; sys.stdin.readline(); sys.exit(main(sys.argv[1:]))"
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", code, *words], **pipes) as child:
        child.stdout.close()
        _, err = child.communicate(b"\n")
    assert (child.returncode, err) == (141, b"")


def shown(capsys, *words):
    """Return the text of --help."""
    with pytest.raises(SystemExit) as end:
        main([*words, "--help"])
    assert end.value.code in (0, None)
    return capsys.readouterr().out


@pytest.mark.parametrize("command", list(COMMANDS))
def test_help(capsys, command):
    text = shown(capsys, command)
    assert "\n\n\n" not in text.strip()
    assert "None" not in text


def test_help_fills_lines(capsys, monkeypatch):
    """Without the line breaks and the indentation of the source."""
    monkeypatch.setenv("COLUMNS", "4000")
    assert "possible values. `feller data schema` writes a draft." in shown(capsys, "fit")
    assert "FOLDER/samples-00000.npz, ... for --out FOLDER, and FOLDER/NAME-00000.csv" in shown(capsys, "sample")


def test_help_names_formats_and_fields(capsys):
    fit, sample = shown(capsys, "fit"), shown(capsys, "sample")
    assert [word for word in ("crystals", "molecules", ".cif", ".xyz", ".sdf", "--epsilon") if word not in fit] == []
    assert [ending for ending in (".cif", ".xyz", ".sdf", ".pdb", ".tsv") if ending not in sample] == []
    assert "--train.lr" in shown(capsys, "fit", "example:moons", "--recipe", "points")


def test_variants_of_guidance(digits):
    """They differ from one another in the same samples, and end with guidance outside the interval."""
    words = ("sample", digits, "-n", 6, "--nfe", 4, "--given", "label=3", "--guidance", 5)
    samples = []
    for i, flags in enumerate([(), *(("--guidance-method", name) for name in ("rescale", "zero-star", "apg"))]):
        run(*words, *flags, "--out", f"{i}.npz")
        samples.append(np.load(f"{i}.npz")["samples"].astype(float))
    assert all((a != b).any() for a, b in itertools.combinations(samples, 2))
    refuse(*words, "--guidance-interval", 0.99, argument="guidance_interval")
    run(*words, "--guidance-interval", 0.99, 1, "--out", "late.npz")
    run(*words[:-2], "--out", "plain.npz")
    assert np.array_equal(np.load("late.npz")["samples"], np.load("plain.npz")["samples"])


def test_guide_of_another_run(moons, digits, tmp_path):
    """A model that guides itself changes nothing; models of other data are refused."""
    run("fit", "example:moons", "--size", "tiny", "--steps", 2, "--report", "none", "--out", tmp_path / "weak")
    words = ("sample", moons, "-n", 20, "--nfe", 8)
    samples = {}
    for name, flags in (
        ("plain", ()),
        ("self", ("--guide", moons, "--guidance", 2)),
        ("one", ("--guide", tmp_path / "weak")),
        ("weak", ("--guide", tmp_path / "weak", "--guidance", 2)),
    ):
        run(*words, *flags, "--out", f"guide-{name}.npz")
        samples[name] = np.load(f"guide-{name}.npz")["samples"]
    np.testing.assert_allclose(samples["self"], samples["plain"], atol=1e-5)
    np.testing.assert_array_equal(samples["one"], samples["plain"])
    assert np.abs(samples["weak"] - samples["plain"]).mean() > 0.01
    refuse(*words, "--guide", digits, argument="guide")
    refuse(*words, "--guide", tmp_path / "weak", "--guidance", 1000)
    refuse(*words, "--guide", tmp_path / "weak", "--guidance-method", "apg", argument="guidance_method")


def test_times_of_the_steps(moons):
    """Fitted times are nearer to many steps than equal ones."""
    words, samples = ("sample", moons, "-n", 200, "--solver", "unipc", "--nfe"), {}
    for name, nfe, flags in (("many", 256, ()), ("equal", 12, ()), ("fitted", 12, ("--grid", "error"))):
        run(*words, nfe, *flags, "--out", f"{name}.npz")
        samples[name] = np.load(f"{name}.npz")["samples"]
    errors = {name: np.abs(samples[name] - samples["many"]).mean() for name in ("equal", "fitted")}
    assert errors["fitted"] < errors["equal"]
    for text in ("best", "shifted", "shifted=-1"):
        refuse(*words, 8, "--grid", text, argument="grid")
    refuse("sample", moons, "--solver", "dopri5", "--grid", "error", argument="grid")
