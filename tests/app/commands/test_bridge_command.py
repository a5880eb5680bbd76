"""feller bridge, and samples of a bridge."""

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
from feller.control.bridges.unbalanced_weights import unbalanced_weights
from feller.core.errors import InputError
from feller.core.run_folder import Run
from tests.app.asked import refuse, run

SHORT = ["--pairs", "64", "--train.steps", "5", "--train.batch-size", "64", "--control.steps", "5", "--nfe", "28"]
SHORT += ["--control.mean-knots", "5", "--control.scale-knots", "5"]
BRIDGE = ("bridge", "a.csv", "b.csv", *SHORT)


def table(name, values, head="x,y"):
    np.savetxt(name, values, delimiter=",", header=head, comments="")
    return name


def loaded(name):
    return np.loadtxt(name, delimiter=",", skiprows=1)


def record(*path):
    return json.loads(pathlib.Path(*path).read_text())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a folder with populations on either side of a wall with two doors, and a bridge of three rounds."""
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
        run(*BRIDGE, "--cost", "room.png", "--rounds", 3, "--out", "run")
    return folder


@pytest.fixture(autouse=True)
def here(made, monkeypatch):
    monkeypatch.chdir(made)
    return made


@pytest.fixture
def without_report(monkeypatch):
    """Leave out the report, which takes longer than such short rounds."""
    monkeypatch.setattr("feller.app.workflows.bridge.report_bridge", lambda *_: {})


@pytest.mark.slow
@pytest.mark.usefixtures("without_report")
def test_number_of_rounds_is_odd():
    run(*BRIDGE, "--rounds", 2, "--out", "even")
    assert record("even/state.json")["rounds"] == 3


@pytest.mark.slow
def test_files_of_a_bridge(here):
    folder = here / "run"
    run("evaluate", "run")
    found = np.load(folder / "paths.npz")
    n = len(found["paths"])
    assert found["paths"].shape == (n, 5, 2)
    assert found["times"].tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert found["columns"].tolist() == ["x", "y"]
    a, b = loaded("a.csv"), loaded("b.csv")
    pairs = np.load(folder / "pairs.npz")
    np.testing.assert_allclose(a[pairs["from_row"] - 1], pairs["x_0"], atol=1e-5)
    assert {*pairs["to_row"].tolist()} <= {*range(1, len(b) + 1)}
    assert np.bincount(pairs["to_row"]).max() <= -(-n // len(b))
    rows = loaded(folder / "paths.csv")
    assert rows.shape == (5 * n, 4)
    np.testing.assert_allclose(rows[:, 2:].reshape(n, 5, 2), found["paths"])
    assert "image/" in (folder / "report.html").read_text()
    numbers = record(folder, "report.json")["numbers"]
    wanted = {"objective", "control_cost", "state_cost", "inside_time", "inside_paths", "w2", "w2_floor", "sinkhorn"}
    assert wanted | {"ess", "lost", "rounds", "objective_straight", "sigma"} <= numbers.keys()
    assert numbers["rounds"] == 3


@pytest.mark.slow
def test_samples_of_other_data_and_backward():
    table("new.csv", np.array([[5.0, 9.0], [7.0, 11.0], [6.0, 10.0]]))
    run("sample", "run", "--from", "new.csv", "--out", "pushed.npz")
    pushed = np.load("pushed.npz")
    np.testing.assert_allclose(pushed["paths"][:, 0], [[5, 9], [7, 11], [6, 10]], atol=1e-6)
    np.testing.assert_array_equal(pushed["paths"][:, -1], pushed["samples"])
    run("sample", "run", "--from", "new.csv", "--out", "again.csv")
    np.testing.assert_allclose(loaded("again.csv"), pushed["samples"])
    run("sample", "run", "--backward", "--out", "back.npz")
    np.testing.assert_allclose(np.load("back.npz")["paths"][:, -1], loaded("b.csv"), atol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("without_report")
def test_resumed_bridge_equals_one_of_one_session(here):
    run(*BRIDGE, "--cost", "room.png", "--rounds", 1, "--out", "part")
    run("bridge", "--resume", "--out", "part", "--rounds", 3)
    assert (here / "part/average.safetensors").read_bytes() == (here / "run/average.safetensors").read_bytes()


def test_warnings_of_samples(capsys):
    def warned(out):
        text = capsys.readouterr().err
        return "inside a wall" in text, "is far from" in text, "room.png changed or missing" in text

    def sampled(rows, name):
        table(f"{name}.csv", np.array(rows))
        run("sample", "run", "--from", f"{name}.csv", "--out", f"{name}.npz")
        return warned(name)

    stuck = [[5.0, 9.0], [15.0, 10.0], [-3.0, 10.0], [6.0, 10.0]]
    assert sampled(stuck, "stuck") == (True, False, False)
    assert np.load("stuck.npz")["times"].tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert sampled([[5.0, 9.0], [6.0, 10.0]], "free") == (False, False, False)
    assert sampled([[500.0, 900.0], [600.0, 1000.0]], "away")[1]
    before = pathlib.Path("room.png").read_bytes()
    pathlib.Path("room.png").unlink()
    try:
        assert sampled(stuck, "gone")[2]
    finally:
        pathlib.Path("room.png").write_bytes(before)
    np.testing.assert_array_equal(np.load("gone.npz")["paths"], np.load("stuck.npz")["paths"])


@pytest.mark.slow
def test_report_of_a_closed_room(capsys):
    room = np.full((20, 30), 255, dtype=np.uint8)
    room[:, 14:16] = 0
    Image.fromarray(room).save("closed.png")
    run(*BRIDGE, "--cost", "closed.png", "--rounds", 1, "--out", "closed")
    text = " ".join(capsys.readouterr().err.split())
    assert text.index("100 % of the samples") < text.index("round 1, forward")
    report = record("closed/report.json")
    assert report["numbers"]["inside_paths"] > 0.9
    assert len([step for step, _ in report["next_steps"] if " bridge " in step and step in report["sketch"]]) == 1
    assert report["sketch"] in text
    assert "Warning: from a.csv to b.csv" in report["judged"]
    run("evaluate", "run")
    assert "pass through walls" not in record("run/report.json")["judged"]


@pytest.mark.slow
def test_times_growth_and_memory():
    rng = np.random.default_rng(1)
    table("c.csv", rng.normal((24, 16), 1, (50, 2)))
    words = ("--times", 0, 24, 72, "--growth", 1, "--rounds", 1, "--max-memory", 0.001)
    run("bridge", "a.csv", "b.csv", "c.csv", *words, "--out", "three", *SHORT)
    found = np.load("three/paths.npz")
    assert found["times"][[0, -1]].tolist() == [0, 72]
    assert 24 in found["times"].round(6)
    report = record("three/report.json")
    assert {"w2_24", "w2", "w2_floor", "w2_24_floor"} <= report["numbers"].keys()
    assert report["title"] == "Bridge from a.csv to b.csv to c.csv"
    pairs, place = np.load("three/pairs.npz"), found["times"].round(6).tolist().index(24)
    np.testing.assert_array_equal(pairs["x_at_24"], found["paths"][:, place])
    b = loaded("b.csv")
    nearest = b[pairs["row_at_24"] - 1]
    assert np.bincount(pairs["row_at_24"]).max() <= -(-len(nearest) // len(b))
    others = b[np.random.default_rng(0).permutation(pairs["row_at_24"]) - 1]
    apart, chance = (np.square(one - pairs["x_at_24"]).sum() for one in (nearest, others))
    assert apart < chance
    head = "from_row,row_at_24,to_row,from_counts,to_counts,x_from,y_from,x_at_24,y_at_24,x_to,y_to\n"
    assert pathlib.Path("three/pairs.csv").read_text().startswith(head)
    rows = loaded("three/pairs.csv")
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
def test_starts_are_drawn_by_weight_with_growth():
    """Of two clusters, the one far from the next population has less weight; without growth weights are equal."""
    rng = np.random.default_rng(3)
    near, far = rng.normal((0, 0), 0.3, (40, 2)), rng.normal((-9, 0), 0.3, (40, 2))
    table("clumps.csv", np.concatenate([near, far]))
    table("next.csv", rng.normal((2, 0), 0.3, (50, 2)))
    words = ("--growth", 0.3, "--noise", 0.3, "--rounds", 1)
    run("bridge", "clumps.csv", "next.csv", *words, "--out", "grown", *SHORT)
    run("sample", "grown", "--out", "weighed.npz")
    begins = np.load("weighed.npz")["paths"][:, 0]
    a = torch.from_numpy(np.concatenate([near, far])).float()
    weights = unbalanced_weights(a, torch.from_numpy(loaded("next.csv")).float(), 0.3)[0].weights
    share = weights[40:].sum().item()
    assert share < 0.35
    assert (begins[:, 0] < -5).mean() == pytest.approx(share, abs=4 * (share * (1 - share) / 80) ** 0.5)
    run("sample", "grown", "--from", "clumps.csv", "--out", "each.npz")
    assert (np.load("each.npz")["paths"][:, 0, 0] < -5).mean() == 0.5


@pytest.mark.usefixtures("without_report")
@pytest.mark.parametrize("cost", ["mine.py:hill", "mine.py:wall", "mine.py:crowd", "2 * congestion", "density"])
def test_costs(cost, capsys):
    out = f"cost-{cost.rpartition(':')[2].replace(' ', '')}"
    run(*BRIDGE, "--cost", cost, "--rounds", 1, "--out", out)
    assert ("no gradient" in capsys.readouterr().err) == cost.endswith("wall")


@pytest.mark.usefixtures("without_report")
def test_without_noise_samples_do_not_depend_on_the_seed():
    run(*BRIDGE, "--cost", "room.png", "--noise", 0, "--rounds", 1, "--out", "still")
    for seed in (1, 2):
        run("sample", "still", "--out", f"{seed}.csv", "--seed", seed)
    assert pathlib.Path("1.csv").read_text() == pathlib.Path("2.csv").read_text()


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ("a.csv wide.csv", {"kind": InputError, "file": "wide.csv", "found": "x, y, z"}),
        ("a.csv named.csv", {"kind": InputError, "file": "named.csv", "found": "x, height"}),
        ("a.csv a.csv", {"kind": InputError}),
        ("a.csv one.csv", {"kind": InputError, "place": "one.csv", "found": "a single row"}),
        ("a.csv", {"found": "1"}),
        ("a.csv b.csv --cost mine.py:broken", {"kind": InputError}),
        ("a.csv b.csv --cost mine.py:wrong", {"kind": InputError, "found": "[60, 2]"}),
        ("a.csv b.csv --cost mine.py:nothing", {"file": "mine.py", "found": "'nothing'"}),
        ("a.csv b.csv --cost walls", {"argument": "cost", "found": "'walls'"}),
        ("a.csv b.csv --cost b.csv", {"argument": "cost", "found": "b.csv"}),
        ("a.csv b.csv --cost gone.png", {"kind": InputError, "file": "gone.png", "found": "no such file"}),
        ("a.csv b.csv --cost room.png --frame 0 1", {"argument": "frame", "found": "0 1"}),
        ("a.csv b.csv --cost room.png --frame 8 30 0 20", {"kind": InputError, "place": "a.csv"}),
        ("a.csv b.csv --noise 1000", {"argument": "noise"}),
        ("a.csv b.csv --noise 1e-9", {"argument": "noise"}),
        ("a.csv b.csv --noise -1", {"argument": "noise", "found": "-1"}),
        ("a.csv b.csv --times 0 1 2", {"argument": "times", "found": "3"}),
        ("a.csv b.csv --times 1 0", {"argument": "times", "found": "1 0"}),
        ("a.csv b.csv --rounds 0", {"argument": "rounds", "found": "0"}),
        ("a.csv b.csv --minutes -1", {"argument": "minutes", "found": "-1"}),
        ("a.csv b.csv --cost mine.py:wall --noise 0", {"remedy": "Set --noise above 0"}),
        ("a.csv b.csv --resample 1", {"argument": "resample", "remedy": "Set --cost"}),
        ("a.csv b.csv --growth 0", {"argument": "growth", "found": "0"}),
        ("a.csv b.csv --max-memory 1e-9", {"argument": "max_memory"}),
        ("a.csv b.csv --rounds 1 --minutes 1", {"argument": "rounds", "found": "--rounds and --minutes"}),
        ("a.csv b.csv --cost surface=a.csv", {}),
        ("a.csv b.csv --train.stepz 3", {"found": "--train.stepz"}),
    ],
)
def test_refused_bridges(here, words, fields):
    table("wide.csv", np.random.default_rng(2).normal(size=(9, 3)), "x,y,z")
    table("named.csv", np.random.default_rng(2).normal(size=(9, 2)), "x,height")
    table("one.csv", np.ones((1, 2)))
    refuse("bridge", *words.split(), "--out", "never", *SHORT, **fields)
    assert not (here / "never").exists()


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ("run --noise 3", {"remedy": "Leave out --noise"}),
        ("run --seed 3", {"remedy": "Leave out --seed"}),
        ("run --cost congestion", {}),
        ("nothing", {"kind": InputError, "file": "nothing", "found": "none"}),
    ],
)
def test_refused_resumes(words, fields):
    refuse("bridge", "--resume", "--out", *words.split(), **fields)


def test_changed_wall_image_is_refused():
    shutil.copytree("run", "moved")
    before = pathlib.Path("room.png").read_bytes()
    room = np.asarray(Image.open("room.png")).copy()
    room[9:12, 14:16] = 255
    Image.fromarray(room).save("room.png")
    try:
        for words in (("bridge", "--resume", "--out", "moved", "--rounds", 5), ("evaluate", "moved")):
            refuse(*words, kind=InputError, remedy="Restore it or start a new bridge")
    finally:
        pathlib.Path("room.png").write_bytes(before)


@pytest.mark.usefixtures("without_report")
def test_no_backward_samples_after_one_round():
    run(*BRIDGE, "--rounds", 1, "--out", "once")
    sample, resume = ("sample", "once", "--out", "b.npz"), "feller bridge --resume --out once --rounds 3"
    refuse(*sample, "--backward", file="once", remedy=f"Continue with: {resume}")
    assert "first population" in str(refuse(*sample, "-n", 5, argument="n"))
    assert "last population" in str(refuse(*sample, "--backward", "-n", 5, argument="n"))


@pytest.mark.usefixtures("without_report")
@pytest.mark.parametrize(
    "words",
    [
        ["--cost", "mine.py:wall", "--resample", "0", "--rounds", "1"],
        ["--cost", "room.png", "2 * congestion", "--frame", "0", "30", "0", "20", "--minutes", "0.0001"],
        ["--growth", "1", "--max-memory", "0.01", "--rounds", "1"],
    ],
)
def test_recorded_command_gives_the_same_bridge(words):
    """With the fields that were given, and as many rounds."""
    run(*BRIDGE, *words, "--out", "first", "--overwrite")
    first = Run(pathlib.Path("first"))
    command = shlex.split(bridge_command(read_bridge_record(first), read_bridge_settings(first), first.path, 1))
    assert command[:4] == ["feller", "bridge", "a.csv", "b.csv"]
    assert " ".join(SHORT[2:]) in " ".join(command)
    assert "--minutes" not in command
    assert ("--resample" in command) == ("--resample" in words)
    command[command.index("--out") + 1] = "copied"
    run(*command[1:], "--overwrite")
    one, two = (pathlib.Path(name, "average.safetensors").read_bytes() for name in ("first", "copied"))
    assert one == two
    assert record("copied/recipe.json")["recipe"] == {**record("first/recipe.json")["recipe"], "rounds": 1}


@pytest.mark.usefixtures("without_report")
def test_resumed_bridge_keeps_its_fields():
    """The recorded command has those of both sessions."""
    run(*BRIDGE, "--rounds", 1, "--out", "longer")
    run("bridge", "--resume", "--out", "longer", "--rounds", 3, "--train.lr", 0.002)
    longer = Run(pathlib.Path("longer"))
    how = read_bridge_settings(longer)
    assert (how.train.steps, how.train.lr, how.control.steps, how.rounds) == (5, 0.002, 5, 3)
    command = bridge_command(read_bridge_record(longer), how, longer.path)
    assert all(words in command for words in ("--train.steps 5", "--train.lr 0.002", "--rounds 3"))


@pytest.mark.usefixtures("without_report")
def test_rounds_are_measured_at_every_step():
    """At knots alone most paths through a thin wall would seem to miss it."""
    room = np.full((20, 300), 255, dtype=np.uint8)
    room[:, 145:147] = 0
    Image.fromarray(room).save("thin.png")
    words = ("--cost", "0.001 * thin.png", "--frame", 0, 30, 0, 20, "--noise", 0.1, "--rounds", 1, "--nfe", 400)
    run(*BRIDGE, *words, "--out", "thin")
    row = json.loads(pathlib.Path("thin/metrics.jsonl").read_text().splitlines()[-1])
    assert row["inside_paths"] > 0.9


@pytest.mark.parametrize(
    ("cost", "reason"),
    [
        ("late", "the cost is nan at x = ("),
        ("boom", "wrong.py line 7, in boom: ValueError: no"),
        ("writes", "in place"),
    ],
)
def test_costs_that_fail(cost, reason):
    """Some only at places and times of a simulation."""
    pathlib.Path("wrong.py").write_text(
        "import torch\n\ndef late(x, t):\n    return torch.where((t > 0.1) & (t < 0.12), torch.nan, x.sum(-1))\n\n"
        "def boom(x, t):\n    raise ValueError('no')\n\ndef writes(x, t):\n    return x.mul_(2).sum(-1)\n"
    )
    words = ("--cost", f"wrong.py:{cost}", "--rounds", 1, "--out", f"wrong-{cost}")
    assert reason in str(refuse(*BRIDGE, *words, kind=InputError))


def test_diverged_trajectories_stop_the_bridge():
    words = ("--rounds", 3, "--out", "wild", "--train.lr", 50, "--train.grad-clip-norm", 1e9)
    assert "diverged" in str(refuse(*BRIDGE, *words, kind=InputError))


def test_commands_that_do_not_apply_to_bridges():
    for command in ("steer", "tune"):
        refuse(command, "run", "--reward", "mine.py:hill", file="run")
    refuse("fit", "--resume", "--out", "run", "--steps", 3, file="run")
    refuse("sample", "run", "--guidance", 2, argument="guidance", remedy="Leave it out")


def test_untrusted_bridge_runs_no_code():
    shutil.copytree("run", "strange")
    changed = record("strange/recipe.json")
    pathlib.Path("evil.py").write_text("open('ran', 'w')\ndef f(x, t):\n    return x.sum(-1)\n")
    changed["bridged"]["costs"] = ["evil.py:f"]
    pathlib.Path("strange/recipe.json").write_text(json.dumps(changed))
    run("sample", "strange", "--from", "a.csv", "--out", "s.csv")
    for words in (("bridge", "--resume", "--out", "strange", "--rounds", 5), ("evaluate", "strange")):
        refuse(*words)
    assert not pathlib.Path("ran").exists()


@pytest.mark.usefixtures("without_report")
def test_bridge_interrupted_in_its_first_round(monkeypatch, capsys):
    def stopped(*_, **named):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("feller.app.workflows.bridges.run_rounds.iterate_rounds", stopped)
        assert main([*BRIDGE, "--rounds", "1", "--out", "stopped"]) == 130
    command = capsys.readouterr().err.split("Continue with: feller ")[1].split()
    assert command == ["bridge", "--resume", "--out", "stopped"]
    run(*command)
    assert record("stopped/state.json")["rounds"] == 1


@pytest.mark.usefixtures("without_report")
def test_progress_of_a_round_after_the_time_limit():
    heard: list[tuple[float, str]] = []

    class Heard(Reporter):
        def progress(self, fraction: float, text: str = "") -> None:
            heard.append((fraction, text))

    def short(settings):
        return change_fields(settings, SHORT[2:], "bridge")

    config = config_of(BridgeConfig, data=("a.csv", "b.csv"), pairs=64, minutes=1e-6, out="late")
    bridge(config, change=short, reporter=Heard())
    assert {share for share, _ in heard} == {0.99}
    assert heard[0][1].startswith("round 1 ")
