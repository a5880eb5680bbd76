"""feller bridge, and what is pushed through it."""

import json
import pathlib
import shlex
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from feller.app.cli import main
from feller.app.commands.arguments import change_fields
from feller.app.config import BridgeConfig
from feller.app.options import config_of
from feller.app.reporter import Reporter
from feller.app.workflows.bridge import bridge
from feller.app.workflows.bridges.bridge_run import bridge_command, read_bridge_record, read_bridge_settings
from feller.control.bridges.bridge_config import BridgeSolverConfig
from feller.control.bridges.unbalanced_weights import unbalanced_weights
from feller.core.run_folder import Run

SHORT = ["--pairs", "64", "--train.steps", "5", "--train.batch-size", "64", "--control.steps", "5", "--nfe", "28"]
SHORT += ["--control.mean-knots", "5", "--control.scale-knots", "5"]


def table(name: str, values: np.ndarray, head: str = "x,y") -> str:
    np.savetxt(name, values, delimiter=",", header=head, comments="")
    return name


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Two populations on either side of a wall with two doors, and a bridge in two rounds."""
    folder = tmp_path_factory.mktemp("bridge")
    rng = np.random.default_rng(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        table("a.csv", rng.normal((6, 10), 1, (60, 2)))
        table("b.csv", rng.normal((24, 10), 1, (40, 2)))
        room = np.full((20, 30), 255, dtype=np.uint8)
        room[:, 14:16] = 0
        room[3:7, 14:16] = room[13:17, 14:16] = 255
        Image.fromarray(room).save("room.png")
        (folder / "mine.py").write_text(
            "def hill(x, t):\n    return 10 * (-(x - 15).square().sum(-1) / 8).exp()\n\n"
            "def wall(x, t):\n    return 100.0 * ((x[:, 0] - 15).abs() < 1)\n\n"
            "def broken(x, t):\n    return (x[:, 0] - 15).sqrt()\n\n"
            "def crowd(x, t, population):\n    return population.log_density(x)\n\n"
            "def wrong(x, t):\n    return x\n"
        )
        patch.setattr("feller.app.workflows.bridge.report_bridge", lambda *_: {})
        assert main(["bridge", "a.csv", "b.csv", "--cost", "room.png", "--rounds", "3", "--out", "run", *SHORT]) == 0
    return folder


@pytest.fixture
def here(made: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.chdir(made)
    return made


@pytest.fixture
def without_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the page, which takes longer than such short rounds."""
    monkeypatch.setattr("feller.app.workflows.bridge.report_bridge", lambda *_: {})


@pytest.mark.slow
def test_a_round_that_is_added_is_said(here: pathlib.Path, without_page: None, capsys: pytest.CaptureFixture) -> None:
    words = ["bridge", "a.csv", "b.csv", "--rounds", "2", "--out", "even", *SHORT]
    assert main(words) == 0
    said = capsys.readouterr().err
    assert "3 rounds instead of 2" in said
    assert [f"round {number}, " in said for number in (1, 2, 3, 4)] == [True, True, True, False]


@pytest.mark.slow
def test_what_a_bridge_leaves(here: pathlib.Path) -> None:
    run = here / "run"
    assert main(["evaluate", "run"]) == 0
    found = np.load(run / "paths.npz")
    n = len(found["paths"])
    assert found["paths"].shape == (n, 5, 2)
    assert found["times"].tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert found["columns"].tolist() == ["x", "y"]
    a, b = (np.loadtxt(name, delimiter=",", skiprows=1) for name in ("a.csv", "b.csv"))
    pairs = np.load(run / "pairs.npz")
    np.testing.assert_allclose(a[pairs["from_row"] - 1], pairs["x_0"], atol=1e-5)
    assert {*pairs["to_row"].tolist()} <= {*range(1, len(b) + 1)}
    assert np.bincount(pairs["to_row"]).max() <= -(-n // len(b))
    rows = np.loadtxt(run / "paths.csv", delimiter=",", skiprows=1)
    assert rows.shape == (5 * n, 4)
    np.testing.assert_allclose(rows[:, 2:].reshape(n, 5, 2), found["paths"])
    page, numbers = (run / "report.html").read_text(), json.loads((run / "report.json").read_text())["numbers"]
    assert "image/" in page
    wanted = {"objective", "control_cost", "state_cost", "inside_time", "inside_paths", "w2", "w2_floor", "sinkhorn"}
    assert wanted | {"ess", "lost", "rounds", "objective_straight", "sigma"} <= numbers.keys()
    assert numbers["rounds"] == 3


@pytest.mark.slow
def test_others_are_pushed_through(here: pathlib.Path) -> None:
    table("new.csv", np.array([[5.0, 9.0], [7.0, 11.0], [6.0, 10.0]]))
    assert main(["sample", "run", "--from", "new.csv", "--out", "pushed.npz"]) == 0
    pushed = np.load("pushed.npz")
    assert pushed["paths"].shape[0] == 3
    np.testing.assert_allclose(pushed["paths"][:, 0], [[5, 9], [7, 11], [6, 10]], atol=1e-6)
    np.testing.assert_array_equal(pushed["paths"][:, -1], pushed["samples"])
    assert main(["sample", "run", "--from", "new.csv", "--out", "again.csv"]) == 0
    np.testing.assert_allclose(np.loadtxt("again.csv", delimiter=",", skiprows=1), pushed["samples"])
    assert main(["sample", "run", "--backward", "--out", "back.npz"]) == 0
    back = np.load("back.npz")
    b = np.loadtxt("b.csv", delimiter=",", skiprows=1)
    np.testing.assert_allclose(back["paths"][:, -1], b, atol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("without_page")
def test_it_goes_on_as_if_there_had_been_no_break(here: pathlib.Path) -> None:
    asked = ["bridge", "a.csv", "b.csv", "--cost", "room.png", "--rounds", "3", *SHORT]
    assert main([*asked, "--out", "whole"]) == 0
    first = [*asked]
    first[first.index("--rounds") + 1] = "1"
    assert main([*first, "--out", "part"]) == 0
    assert main(["bridge", "--resume", "--out", "part", "--rounds", "3"]) == 0
    assert (here / "part/average.safetensors").read_bytes() == (here / "whole/average.safetensors").read_bytes()


def test_those_who_begin_in_walls_are_told(here: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    table("stuck.csv", np.array([[5.0, 9.0], [15.0, 10.0], [-3.0, 10.0], [6.0, 10.0]]))
    assert main(["sample", "run", "--from", "stuck.csv", "--out", "stuck.npz"]) == 0
    assert "50.0\u202f% of the samples of stuck.csv start inside a wall" in capsys.readouterr().err
    assert np.load("stuck.npz")["times"].tolist() == [0, 0.25, 0.5, 0.75, 1]
    table("free.csv", np.array([[5.0, 9.0], [6.0, 10.0]]))
    assert main(["sample", "run", "--from", "free.csv", "--out", "free.npz"]) == 0
    said = capsys.readouterr().err
    assert "inside a wall" not in said
    assert "is far from" not in said
    table("away.csv", np.array([[500.0, 900.0], [600.0, 1000.0]]))
    assert main(["sample", "run", "--from", "away.csv", "--out", "away.npz"]) == 0
    assert "away.csv is far from a.csv" in " ".join(capsys.readouterr().err.split())
    before = pathlib.Path("room.png").read_bytes()
    pathlib.Path("room.png").unlink()
    try:
        assert main(["sample", "run", "--from", "stuck.csv", "--out", "gone.npz"]) == 0
    finally:
        pathlib.Path("room.png").write_bytes(before)
    assert "room.png changed or missing" in capsys.readouterr().err
    np.testing.assert_array_equal(np.load("gone.npz")["paths"], np.load("stuck.npz")["paths"])


@pytest.mark.slow
def test_a_room_without_a_way_through_is_told(here: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    room = np.full((20, 30), 255, dtype=np.uint8)
    room[:, 14:16] = 0
    Image.fromarray(room).save("closed.png")
    words = ["bridge", "a.csv", "b.csv", "--cost", "closed.png", "--rounds", "1", "--out", "closed", *SHORT]
    assert main(words) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert said.index("100 % of the samples can only pass through walls") < said.index("round 1, forward")
    assert "of the paths cross an obstacle" in said
    report = json.loads(pathlib.Path("closed/report.json").read_text())
    assert report["numbers"]["inside_paths"] > 0.9
    assert report["verdict"].startswith("Not yet trained: ")
    assert len([step for step, _ in report["next_steps"] if " bridge " in step and step in report["sketch"]]) == 1
    assert report["sketch"] == said[said.index("Undertrained (1 round") :].strip()
    assert "Warning: from a.csv to b.csv" in report["judged"]
    assert main(["evaluate", "run"]) == 0
    assert "pass through walls" not in json.loads(pathlib.Path("run/report.json").read_text())["judged"]


@pytest.mark.slow
def test_times_growth_and_memory(here: pathlib.Path) -> None:
    rng = np.random.default_rng(1)
    table("c.csv", rng.normal((24, 16), 1, (50, 2)))
    words = ["bridge", "a.csv", "b.csv", "c.csv", "--times", "0", "24", "72", "--growth", "1", "--rounds", "1"]
    assert main([*words, "--max-memory", "0.001", "--out", "three", *SHORT]) == 0
    found = np.load("three/paths.npz")
    assert found["times"][0] == 0
    assert found["times"][-1] == 72
    assert 24 in found["times"].round(6)
    report = json.loads(pathlib.Path("three/report.json").read_text())
    assert {"w2_24", "w2"} <= report["numbers"].keys()
    assert report["title"] == "Bridge from a.csv to b.csv to c.csv"
    assert "b.csv at time 24, c.csv at time 72" in report["judged"]
    assert {"w2_floor", "w2_24_floor"} <= report["numbers"].keys()
    pairs, place = np.load("three/pairs.npz"), found["times"].round(6).tolist().index(24)
    np.testing.assert_array_equal(pairs["x_at_24"], found["paths"][:, place])
    b = np.loadtxt("b.csv", delimiter=",", skiprows=1)
    nearest = b[pairs["row_at_24"] - 1]
    assert np.bincount(pairs["row_at_24"]).max() <= -(-len(nearest) // len(b))
    others = b[np.random.default_rng(0).permutation(pairs["row_at_24"]) - 1]
    apart, chance = (np.square(one - pairs["x_at_24"]).sum() for one in (nearest, others))
    assert apart < chance
    with open("three/pairs.csv") as file:
        head = "from_row,row_at_24,to_row,from_counts,to_counts,x_from,y_from,x_at_24,y_at_24,x_to,y_to\n"
        assert file.readline() == head
    rows = np.loadtxt("three/pairs.csv", delimiter=",", skiprows=1)
    np.testing.assert_array_equal(rows[:, 1], pairs["row_at_24"])
    np.testing.assert_allclose(rows[:, 7:9], pairs["x_at_24"])
    counts = np.load("three/counts.npz")
    own = counts["time"] == 0
    assert counts["ahead"][own].mean() == pytest.approx(1)
    assert np.isnan(counts["back"][own]).all()
    np.testing.assert_allclose(counts["ahead"][own][pairs["from_row"] - 1], pairs["from_counts"])
    assert pathlib.Path("three/counts.csv").read_text().startswith("time,row,ahead,back\n0.0,1,")
    row = json.loads(pathlib.Path("three/metrics.jsonl").read_text().splitlines()[-1])
    assert row["w2_floor"] == pytest.approx(max(report["numbers"][name] for name in ("w2_floor", "w2_24_floor")))


@pytest.mark.slow
def test_growth_begins_at_members_as_often_as_they_count(here, capsys):
    """Of a population of two clumps, that far from all of the next counts less; without growth each counts alike."""
    rng = np.random.default_rng(3)
    near, far = rng.normal((0, 0), 0.3, (40, 2)), rng.normal((-9, 0), 0.3, (40, 2))
    table("clumps.csv", np.concatenate([near, far]))
    table("next.csv", rng.normal((2, 0), 0.3, (50, 2)))
    words = ["bridge", "clumps.csv", "next.csv", "--growth", "0.3", "--noise", "0.3"]
    assert main([*words, "--rounds", "1", "--out", "grown", *SHORT]) == 0
    assert main(["sample", "grown", "--out", "weighed.npz"]) == 0
    assert "drawn by weight" in capsys.readouterr().err
    begins = np.load("weighed.npz")["paths"][:, 0]
    a = torch.from_numpy(np.concatenate([near, far])).float()
    b = torch.from_numpy(np.loadtxt("next.csv", delimiter=",", skiprows=1)).float()
    weights = unbalanced_weights(a, b, 0.3)[0].weights
    share = weights[40:].sum().item()
    assert share < 0.35
    assert (begins[:, 0] < -5).mean() == pytest.approx(share, abs=4 * (share * (1 - share) / 80) ** 0.5)
    assert main(["sample", "grown", "--from", "clumps.csv", "--out", "each.npz"]) == 0
    assert "counts" not in capsys.readouterr().err
    assert (np.load("each.npz")["paths"][:, 0, 0] < -5).mean() == 0.5


@pytest.mark.usefixtures("without_page")
@pytest.mark.parametrize("cost", ["mine.py:hill", "mine.py:wall", "mine.py:crowd", "2 * congestion", "density"])
def test_costs(here: pathlib.Path, cost: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = f"cost-{cost.rpartition(':')[2].replace(' ', '')}"
    assert main(["bridge", "a.csv", "b.csv", "--cost", cost, "--rounds", "1", "--out", out, *SHORT]) == 0
    assert ("no gradient" in capsys.readouterr().err) == cost.endswith("wall")


@pytest.mark.usefixtures("without_page")
def test_no_noise(here: pathlib.Path) -> None:
    words = ["bridge", "a.csv", "b.csv", "--cost", "room.png", "--noise", "0", "--rounds", "1", "--out", "still"]
    assert main([*words, *SHORT]) == 0
    assert main(["sample", "still", "--out", "one.csv", "--seed", "1"]) == 0
    assert main(["sample", "still", "--out", "two.csv", "--seed", "2"]) == 0
    assert pathlib.Path("one.csv").read_text() == pathlib.Path("two.csv").read_text()


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["a.csv", "wide.csv"], 1, "wide.csv"),
        (["a.csv", "named.csv"], 1, "x, height"),
        (["a.csv", "a.csv"], 1, "a.csv and a.csv"),
        (["a.csv", "one.csv"], 1, "one.csv: "),
        (["a.csv"], 2, "found 1"),
        (["a.csv", "b.csv", "--cost", "mine.py:broken"], 1, "at x = ("),
        (["a.csv", "b.csv", "--cost", "mine.py:wrong"], 1, "mine.py"),
        (["a.csv", "b.csv", "--cost", "mine.py:nothing"], 2, "'nothing'"),
        (["a.csv", "b.csv", "--cost", "walls"], 2, "'walls'"),
        (["a.csv", "b.csv", "--cost", "b.csv"], 2, "surface=b.csv"),
        (["a.csv", "b.csv", "--cost", "room.png 50 * congestion"], 2, "--cost room.png '50 * congestion'"),
        (["a.csv", "b.csv", "--cost", "gone.png"], 1, "gone.png: "),
        (["a.csv", "b.csv", "--cost", "room.png", "--frame", "0", "1"], 2, "LEFT RIGHT BOTTOM TOP"),
        (["a.csv", "b.csv", "--cost", "room.png", "--frame", "8", "30", "0", "20"], 1, "a.csv: sample 1 at ("),
        (["a.csv", "b.csv", "--noise", "1000"], 2, "--noise: 1000 "),
        (["a.csv", "b.csv", "--noise", "1e-9"], 2, "--noise: 1e-09 "),
        (["a.csv", "b.csv", "--noise", "-1"], 2, "--noise: "),
        (["a.csv", "b.csv", "--times", "0", "1", "2"], 2, "--times: "),
        (["a.csv", "b.csv", "--times", "1", "0"], 2, "--times: "),
        (["a.csv", "b.csv", "--rounds", "0"], 2, "--rounds: "),
        (["a.csv", "b.csv", "--minutes", "-1"], 2, "--minutes: "),
        (["a.csv", "b.csv", "--cost", "mine.py:wall", "--noise", "0"], 2, "--noise "),
        (["a.csv", "b.csv", "--resample", "1"], 2, "--resample: "),
        (["a.csv", "b.csv", "--growth", "0"], 2, "--growth: "),
        (["a.csv", "b.csv", "--max-memory", "1e-9"], 2, "--max-memory: "),
        (["a.csv", "b.csv", "--rounds", "1", "--minutes", "1"], 2, "--rounds and --minutes"),
        (["a.csv", "b.csv", "--cost", "surface=a.csv"], 2, "a.csv"),
        (["a.csv", "b.csv", "--train.stepz", "3"], 2, "--train.stepz"),
    ],
)
def test_wrong_use(here: pathlib.Path, words: list[str], status: int, said: str, capsys: pytest.CaptureFixture) -> None:
    table("wide.csv", np.random.default_rng(2).normal(size=(9, 3)), "x,y,z")
    table("named.csv", np.random.default_rng(2).normal(size=(9, 2)), "x,height")
    table("one.csv", np.ones((1, 2)))
    try:
        got = main(["bridge", *words, "--out", "never", *(SHORT if "--train.stepz" not in words else [])])
    except SystemExit as end:
        got = end.code
    assert got == status
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("feller: ")]
    assert len(lines) == 1
    assert said in lines[0], lines[0]
    assert not (here / "never").exists()


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--out", "run", "--noise", "3"], 2, "Leave out --noise"),
        (["--out", "run", "--seed", "3"], 2, "Leave out --seed"),
        (["--out", "run", "--cost", "congestion"], 2, "only if a cost is custom code"),
        (["--out", "nothing"], 1, "nothing"),
    ],
)
def test_wrong_resumes(here, words, status, said, capsys):
    assert main(["bridge", "--resume", *words]) == status
    assert said in capsys.readouterr().err


def test_walls_that_changed_are_noticed(here: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree("run", "moved")
    before = pathlib.Path("room.png").read_bytes()
    room = np.asarray(Image.open("room.png")).copy()
    room[9:12, 14:16] = 255
    Image.fromarray(room).save("room.png")
    try:
        assert main(["bridge", "--resume", "--out", "moved", "--rounds", "5"]) == 1
        assert "has changed" in capsys.readouterr().err
        assert main(["evaluate", "moved"]) == 1
    finally:
        pathlib.Path("room.png").write_bytes(before)


@pytest.mark.usefixtures("without_page")
def test_no_way_back_after_one_round(here: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bridge", "a.csv", "b.csv", "--rounds", "1", "--out", "once", *SHORT]) == 0
    assert main(["sample", "once", "--backward", "--out", "b.npz"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    resume = "feller bridge --resume --out once --rounds 3"
    assert f"no backward drift yet: its only round fitted the forward drift. Continue with: {resume}" in said
    assert main(["sample", "once", "-n", "5", "--out", "b.npz"]) == 2
    assert "each sample of its first population" in " ".join(capsys.readouterr().err.split())
    assert main(["sample", "once", "--backward", "-n", "5", "--out", "b.npz"]) == 2
    assert "each sample of its last population" in " ".join(capsys.readouterr().err.split())


@pytest.mark.usefixtures("without_page")
@pytest.mark.parametrize(
    "words",
    [
        ["--cost", "mine.py:wall", "--resample", "0", "--rounds", "1"],
        ["--cost", "room.png", "2 * congestion", "--frame", "0", "30", "0", "20", "--minutes", "0.0001"],
        ["--growth", "1", "--max-memory", "0.01", "--rounds", "1"],
    ],
)
def test_the_command_of_a_page_makes_the_same_bridge(here: pathlib.Path, words: list[str]) -> None:
    """With the deeper settings that were given, and with how long it was to take."""
    assert main(["bridge", "a.csv", "b.csv", *words, "--out", "first", "--overwrite", *SHORT]) == 0
    run = Run(pathlib.Path("first"))
    command = shlex.split(bridge_command(read_bridge_record(run), read_bridge_settings(run), run.path, 1))
    assert command[:4] == ["feller", "bridge", "a.csv", "b.csv"]
    assert " ".join(SHORT[2:]) in " ".join(command)
    assert "--minutes" not in command
    assert ("--resample" in command) == ("--resample" in words)
    command[command.index("--out") + 1] = "copied"
    assert main([*command[1:], "--overwrite"]) == 0
    assert (
        pathlib.Path("first/average.safetensors").read_bytes()
        == pathlib.Path("copied/average.safetensors").read_bytes()
    )
    asked = [json.loads(pathlib.Path(name, "recipe.json").read_text())["recipe"] for name in ("first", "copied")]
    assert asked[1] == {**asked[0], "rounds": 1}


@pytest.mark.usefixtures("without_page")
def test_a_bridge_that_goes_on_keeps_its_deeper_settings(here: pathlib.Path) -> None:
    """So the command that goes on need not repeat them, and the page's command has those of both times."""
    assert main(["bridge", "a.csv", "b.csv", "--rounds", "1", "--out", "longer", *SHORT]) == 0
    assert main(["bridge", "--resume", "--out", "longer", "--rounds", "3", "--train.lr", "0.002"]) == 0
    run = Run(pathlib.Path("longer"))
    how = read_bridge_settings(run)
    assert (how.train.steps, how.train.lr, how.control.steps, how.rounds) == (5, 0.002, 5, 3)
    command = bridge_command(read_bridge_record(run), how, run.path)
    assert "--train.steps 5" in command
    assert "--train.lr 0.002" in command
    assert "--rounds 3" in command


@pytest.mark.usefixtures("without_page")
def test_rounds_are_measured_at_every_step(here: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As the result is: at knots alone most paths through a thin wall would seem to miss it."""
    room = np.full((20, 300), 255, dtype=np.uint8)
    room[:, 145:147] = 0
    Image.fromarray(room).save("thin.png")
    words = ["--cost", "0.001 * thin.png", "--frame", "0", "30", "0", "20", "--noise", "0.1", "--rounds", "1"]
    assert main(["bridge", "a.csv", "b.csv", *words, "--out", "thin", *SHORT, "--nfe", "400"]) == 0
    row = json.loads(pathlib.Path("thin/metrics.jsonl").read_text().splitlines()[-1])
    assert row["inside_paths"] > 0.9
    assert "of the paths cross an obstacle" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("cost", "said"),
    [
        ("late", "the cost is nan at x = ("),
        ("boom", "the cost boom (wrong.py) raised an error: wrong.py line 7, in boom: ValueError: no"),
        ("writes", "in place"),
    ],
)
def test_costs_that_go_wrong(here: pathlib.Path, cost: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Some only where no member was, and nobody looked before."""
    pathlib.Path("wrong.py").write_text(
        "import torch\n\ndef late(x, t):\n    return torch.where((t > 0.1) & (t < 0.12), torch.nan, x.sum(-1))\n\n"
        "def boom(x, t):\n    raise ValueError('no')\n\ndef writes(x, t):\n    return x.mul_(2).sum(-1)\n"
    )
    out = f"wrong-{cost}"
    assert main(["bridge", "a.csv", "b.csv", "--cost", f"wrong.py:{cost}", "--rounds", "1", "--out", out, *SHORT]) == 1
    assert said in capsys.readouterr().err


def test_runaways_stop_it_with_advice(here: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "bridge",
        "a.csv",
        "b.csv",
        "--rounds",
        "3",
        "--out",
        "wild",
        *SHORT,
        "--train.lr",
        "50",
        "--train.grad-clip-norm",
        "1e9",
    ]
    assert main(words) == 1
    assert "diverged" in capsys.readouterr().err


def test_a_bridge_is_no_model_of_noise(here: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["steer", "run", "--reward", "mine.py:hill"], ["tune", "run", "--reward", "mine.py:hill"]):
        assert main(words) in (1, 2)
        assert "bridge" in capsys.readouterr().err
    assert main(["fit", "--resume", "--out", "run", "--steps", "3"]) == 2
    assert "bridge" in capsys.readouterr().err
    assert main(["sample", "run", "--guidance", "2"]) == 2
    capsys.readouterr()


def test_a_strangers_bridge_runs_no_code(here: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree("run", "strange")
    record = json.loads(pathlib.Path("strange/recipe.json").read_text())
    pathlib.Path("evil.py").write_text("open('ran', 'w')\ndef f(x, t):\n    return x.sum(-1)\n")
    record["bridged"]["costs"] = ["evil.py:f"]
    pathlib.Path("strange/recipe.json").write_text(json.dumps(record))
    assert main(["sample", "strange", "--from", "a.csv", "--out", "s.csv"]) == 0
    assert main(["bridge", "--resume", "--out", "strange", "--rounds", "5"]) == 2
    assert "custom code" in capsys.readouterr().err
    main(["evaluate", "strange"])
    assert not pathlib.Path("ran").exists()


def test_interrupted_before_its_first_round_it_says_how_to_go_on(here, without_page, monkeypatch, capsys):
    """To the letter: the command that is said makes the bridge."""

    def stopped(*_: object, **named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("feller.app.workflows.bridges.run_rounds.iterate_rounds", stopped)
        assert main(["bridge", "a.csv", "b.csv", "--rounds", "1", "--out", "stopped", *SHORT]) == 130
    said = " ".join(capsys.readouterr().err.split())
    kept = "interrupted; no round is complete, so nothing is saved and round 1 starts again"
    assert said.endswith(f"{kept}. Continue with: feller bridge --resume --out stopped")
    assert main(["bridge", "--resume", "--out", "stopped"]) == 0
    assert json.loads(pathlib.Path("stopped/state.json").read_text())["rounds"] == 1


def test_a_round_that_goes_on_when_its_time_is_up_says_so(here: pathlib.Path, without_page: None) -> None:
    heard: list[tuple[float, str]] = []

    class Heard(Reporter):
        def progress(self, fraction: float, text: str = "") -> None:
            heard.append((fraction, text))

    def short(settings: BridgeSolverConfig) -> BridgeSolverConfig:
        return change_fields(settings, SHORT[2:], "bridge")

    config = config_of(BridgeConfig, data=("a.csv", "b.csv"), pairs=64, minutes=1e-6, out="late")
    bridge(config, change=short, reporter=Heard())
    assert {share for share, _ in heard} == {0.99}
    assert heard[0][1] == "round 1 (finishing after the time limit), pinned paths"
