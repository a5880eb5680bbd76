"""The Python API: data in memory, training loops, processes, bridges and rewards."""

import pathlib
import subprocess
import sys

import matplotlib.figure
import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import feller
from feller.app.workflows.bridges.bridge_detection import BRIDGE_KEY
from feller.control.bridges.conditional_control import ConditionalControl
from feller.core.errors import UsageError
from feller.core.user_code import MEMORY_PREFIX, load_function
from tests.errors import refuses

pytestmark = pytest.mark.usefixtures("here")

N = 400
PLAIN = {"report": False, "verbose": False}


def people(n=N, seed=0):
    """Return a table whose income depends on the age."""
    draws = np.random.default_rng(seed)
    age = draws.integers(18, 90, n)
    rich = draws.random(n) < (age - 10) / 100
    height = np.round(draws.normal(170, 10, n), 1)
    job = draws.choice(["clerk", "driver", "smith"], n)
    return pd.DataFrame({"age": age, "height": height, "job": job, "income": np.where(rich, ">50K", "<=50K")})


def counts(**more):
    """Fit exact marginals, whose conditionals are exact."""
    return feller.fit(people(), recipe="table-marginals", out="runs/counts", **PLAIN, **more)


def test_report_predicts_the_target_of_a_private_table():
    df = people()
    how = {"epsilon": 4.0, "unsafe_seed": 1, "recipe": "table-marginals", "report": "quick", "verbose": False}
    run = feller.fit(df, target="job", out="runs/private", **how)
    assert run.report.metrics["told_column"] == "job"
    assert isinstance(run.report.figures()[0], matplotlib.figure.Figure)
    drawn = run.sample(50, verbose=False)
    assert list(drawn.columns) == list(df.columns)
    assert drawn.dtypes.equals(df.dtypes)
    again = feller.evaluate("runs/private", data=df, n=50, verbose=False)  # by the recorded target, and the key
    assert again.metrics["told_column"] == "job"


def test_refused_targets_spend_nothing():
    with refuses(UsageError, argument="target", found="'incom'"):
        feller.fit(people(), target="incom", epsilon=4.0, recipe="table-marginals", **PLAIN)
    with refuses(UsageError, argument="target"):
        feller.fit(people(), target=("job", "income"), recipe="table-marginals", **PLAIN)
    assert not list(pathlib.Path().glob("runs/*/ledger.json"))


def test_given_ranges_and_lists():
    run = counts()
    drawn = run.sample(2000, given={"income": ">50K", "age": (30, 40)}, verbose=False)
    assert drawn["age"].between(30, 40).all()
    assert (drawn["income"] == ">50K").all()
    assert set(drawn["age"]) == set(range(30, 41))
    several = run.sample(300, given={"job": ["clerk", "smith"], "height": (None, 165.5)}, seed=1, verbose=False)
    assert set(several["job"]) == {"clerk", "smith"}
    assert several["height"].max() <= 165.5
    model = feller.load_model(run)
    rows = model.sample(100, given={"age": (30, 40)}, rng=feller.Rng(3))
    assert isinstance(rows, pd.DataFrame)
    assert rows["age"].between(30, 40).all()


def test_samples_given_a_range_have_the_conditional_distribution():
    """Shares of incomes at 30 to 50, drawn so and filtered from free rows; 5 standard errors: a false alarm in 1e6."""
    run = counts()
    free = run.sample(20_000, verbose=False)
    kept = free[free["age"].between(30, 50)]
    given = run.sample(5000, given={"age": (30, 50)}, verbose=False)
    gap = (kept["income"] == ">50K").mean() - (given["income"] == ">50K").mean()
    assert abs(gap) < 5 * np.sqrt(0.25 / len(kept) + 0.25 / len(given))
    assert abs(kept["age"].mean() - given["age"].mean()) < 5 * 6.1 * np.sqrt(1 / len(kept) + 1 / len(given))


def test_given_ranges_by_rejection():
    run = feller.fit(people(), size="tiny", steps=3, out="runs/rows", recipe="table", **PLAIN)
    given = {"income": "<=50K", "age": (60, None), "job": ["driver"]}
    drawn = run.sample(20, given=given, verbose=False)
    assert drawn["age"].min() >= 60
    assert set(drawn["job"]) == {"driver"}
    codes = [run.model.sample_dataset(n, given=given, rng=feller.Rng(1)).values for n in (7, 20)]
    assert torch.equal(codes[0], codes[1][:7])
    nats = run.log_prob(people(seed=3)[:20])
    assert nats.shape == (20,)
    assert (nats < 0).all()


def test_refused_conditions():
    run = counts()
    for name, values in {"age": [(40, 30), (200, 300), ("a", "b"), (1, 2, 3)], "job": [("clerk", "smith")]}.items():
        for value in values:
            with refuses(UsageError, argument=name):
                run.sample(5, given={name: value}, verbose=False)


def test_log_prob_of_all_rows_sums_to_one():
    df = pd.DataFrame({"a": list("xxyy") * 25, "b": list("uvuv") * 25})
    run = feller.fit(df, recipe="table-marginals", **PLAIN)
    cells = pd.DataFrame({"a": list("xxyy"), "b": list("uvuv")})
    nats = run.log_prob(cells)
    assert isinstance(nats, np.ndarray)
    assert np.exp(nats).sum() == pytest.approx(1)
    assert torch.equal(run.model.log_prob(cells), torch.from_numpy(nats))


def test_elbo_is_not_a_log_prob():
    run = feller.fit(["abcab", "bca", "cab"] * 20, size="tiny", steps=2, **PLAIN)
    with refuses(UsageError, argument="log_prob") as caught:
        run.log_prob(["abc"])
    assert "nll" in caught.value.remedy


class Net(nn.Module):
    """forward(x, t, cond) -> like x; label 2 stands for none."""

    def __init__(self) -> None:
        super().__init__()
        self.label, self.layer = nn.Embedding(3, 8), nn.Conv2d(3, 3, 3, padding=1)
        self.shift = nn.Linear(9, 3)

    def forward(self, x: Tensor, t: Tensor, cond: dict[str, Tensor]) -> Tensor:
        shift = self.shift(torch.cat([self.label(cond["label"]), t[:, None]], 1))
        return self.layer(x) + shift[:, :, None, None]


def looped(steps=3):
    objective = feller.FlowMatching(
        path=feller.Affine(feller.Linear()),
        space=feller.Euclidean((3, 8, 8)),
        coupling=feller.ClassConditional(feller.MinibatchOT()),
        cond_dropout=0.1,
        null={"label": 2},
    )
    network = Net()
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-4)
    ema = feller.EMA(network, decay=0.9)
    rng = feller.Rng(seed=0)
    for step in range(steps):
        images, labels = torch.rand(8, 3, 8, 8) * 2 - 1, torch.arange(8) % 2
        example = objective.draw({"x_1": images, "label": labels}, rng.step(step))
        with torch.autocast("cpu", torch.bfloat16):
            loss = objective.loss(network, example).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        ema.update()
    return ema, objective


def test_training_loop():
    ema, objective = looped()
    model = feller.Model(ema.network, objective, data=feller.images(8, 8, classes=["cat", "dog"]))
    samples = model.sample(6, given={"label": 1}, guidance=2.0, solver=feller.Heun(), nfe=4)
    assert samples.numpy().shape == (6, 8, 8, 3)
    assert samples.given["label"].tolist() == [1] * 6
    assert model.spec.cond_dropout == 0.1
    euler = feller.SamplerConfig("euler", 2)
    assert model.log_prob(samples, sampling=euler, divergence=feller.Hutchinson()).shape == (6,)


def still(x, t):
    return feller.Characteristics(velocity=-x)


def test_simulate_and_log_prob():
    """x_1 = x_0 / e, so that log p(x_1) is that of the normal law at x_0, and 1 for each of two numbers."""
    x_0 = torch.tensor([[0.3, -1.0], [1.5, 0.2]], dtype=torch.float64)
    rng = feller.Rng(0)
    x_1 = feller.simulate(still, x_0, feller.linear_grid(200), feller.Heun(), rng)
    torch.testing.assert_close(x_1, x_0 * np.exp(-1), atol=1e-4, rtol=0)
    wanted = torch.distributions.Normal(0.0, 1.0).log_prob(x_1 * np.e).sum(1) + 2
    for divergence in (feller.Hutchinson(), feller.ExactDivergence(), None):  # of a linear field one probe is exact
        found = feller.log_prob(still, x_1, divergence=divergence)
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)


def crowds():
    draws = np.random.default_rng(0)
    return draws.normal(size=(60, 2)), draws.normal(3, 1, size=(60, 2))


SMALL = {"noise": 0.5, "rounds": 1, "pairs": 32, "verbose": False}


@pytest.fixture
def quick(monkeypatch):
    """Let bridges take few steps."""
    how = feller.BridgeSolverConfig(
        architecture=feller.MLP(width=8, depth=1),
        control=ConditionalControl(mean_knots=5, scale_knots=5, steps=5, times=4),
        nfe=8,
        train=feller.TrainConfig(steps=10, batch_size=16, warmup=1),
    )
    monkeypatch.setattr("feller.app.workflows.bridge.default_bridge_settings", lambda modality: how)


def hill_in_memory():
    """Return a function that no file names."""

    def hill(x, t):
        return x.square().sum(-1)

    return hill


TRIED = """
import feller
def tried(call):
    try:
        call()
    except feller.UsageError as error:
        print(error.argument, bool(error.remedy))
"""


def elsewhere(*lines):
    """Return the output of lines of code in a process of its own; `tried` prints the fields of an error."""
    command = [sys.executable, "-c", TRIED + "\n".join(lines)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def test_bridge_with_a_cost_in_memory(quick):
    """Another process can follow it, and neither go on with it nor take another function for its cost."""
    before, after = crowds()
    hill = hill_in_memory()
    bridge = feller.bridge(before, after, cost=hill, out="runs/bridge", **SMALL)
    paths = bridge.trajectories(n=100)
    assert isinstance(paths, np.ndarray)
    assert paths.shape[0] == 100
    assert paths.shape[2] == 2
    away = np.abs(paths[:60, None, 0] - before[None]).max(-1)
    assert away.min(1).max() < 1e-5
    assert len({*away.argmin(1)}) == 60  # all members come before one comes again
    assert np.array_equal(bridge.trajectories(n=100), paths)
    bridge.report.figures()[0].savefig("paths.png")
    assert pathlib.Path("paths.png").stat().st_size > 1000
    with refuses(UsageError, argument="n"):
        bridge.trajectories(n=0)
    (word,) = bridge.folder.read_record(bridge.folder.recipe)[BRIDGE_KEY]["costs"]
    assert word.startswith(f"{MEMORY_PREFIX}hill-")
    assert load_function(word) is hill
    resume = "feller.bridge(resume=True, out='runs/bridge', rounds=5, verbose=False"
    lines = f"tried(lambda: {resume}))", f"tried(lambda: {resume}, cost=lambda x, t: x.sum(-1)))"
    again = "print(feller.load('runs/bridge').trajectories(3).shape[0])"
    assert elsewhere(*lines, again) == ["hill True", "hill True", "3"]


def test_reward_in_memory():
    pictures = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    run = feller.fit(pictures, size="tiny", steps=2, **PLAIN)
    steered = feller.steer(run, reward=lambda x: x.flatten(1).mean(1) / 255, n=2, steps=1, nfe=2, verbose=False)
    assert np.isfinite(steered.report.metrics["reward"])
    tuned = feller.tune(run, reward=lambda x: x.flatten(1).mean(1) / 255, steps=1, out="runs/tuned", **PLAIN)
    assert tuned.sample(2, nfe=2, verbose=False).numpy().shape == (2, 8, 8)
    resume = "feller.tune(resume=True, out='runs/tuned', steps=2, report=False, verbose=False)"
    assert elsewhere(f"tried(lambda: {resume})") == ["lambda True"]


def test_error_of_a_batch_of_another_shape():
    _, objective = looped(1)
    with refuses(UsageError, argument="x_1"):
        objective.draw({"x_1": torch.zeros(16, 8, 8, 3), "label": torch.zeros(16, dtype=torch.long)}, feller.Rng(0))
    with pytest.raises(AttributeError, match="Rng"):
        _ = feller.Draws  # type: ignore[attr-defined]
