"""Private fits of a small table, and their ledgers."""

import json
import math
import pathlib
import random

import dp_accounting as dp
from dp_accounting.pld import PLDAccountant

from feller.app.workflows.private import private_training
from tests.app.asked import run

SCHEMA = {
    "unit": "row",
    "outside": "clip",
    "columns": {
        "age": {"kind": "numerical", "low": 0, "high": 100, "edges": [20, 40, 60, 80]},
        "sex": {"kind": "categorical", "values": ["F", "M"]},
        "job": {"kind": "categorical", "values": ["clerk", "nurse", "smith"], "other": "else"},
    },
    "rules": [],
}
TINY = ("--size", "tiny", "--steps", "8")
DESCRIBED = ("--schema", "schema.json", *TINY)
ALONE = ("--objective.marginals-budget", "0")
"""One-way marginals only, so that all noise is Gaussian."""
SEEDED = ("--epsilon", "4", "--unsafe-seed", "1")
PAID = ("model.json", "average.safetensors", "weights.safetensors", "state.safetensors")
"""Files computed from noisy numbers alone."""
LEARNED = 271
"""Number of training rows of 300 with the salt of these tests; the extreme one is among them."""
EXTREME = ("87654321", "F", "xylophonist")


def write_table(path, change=None, n=300):
    chance = random.Random(0)
    rows = [
        (str(chance.randint(18, 80)), chance.choice("FM"), chance.choices(("clerk", "nurse", "smith"), (5, 3, 2))[0])
        for _ in range(n)
    ]
    for row, cells in (change or {}).items():
        rows[row] = cells  # pyrefly: ignore
    path.write_text("age,sex,job\n" + "".join(",".join(row) + "\n" for row in rows))
    return str(path)


def fit(out, *words, data="people.csv"):
    """Fit a small table, or resume."""
    marginals = () if "--objective.marginals-budget" in words else ALONE
    run("fit", *(() if "--resume" in words else (data, *DESCRIBED, *marginals)), *words, "--out", out)
    return pathlib.Path(out)


def held(path):
    return json.loads(path.read_text())


def steps_in(folder):
    events = held(folder / "ledger.json")["events"]
    return sum(one["steps"] for one in events if one["is"] == "PoissonSubsampledGaussian")


def true_epsilon(folder, steps):
    """Return epsilon by dp-accounting, of the noise of a run and a number of steps."""
    ledger, promised = held(folder / "ledger.json"), held(folder / "recipe.json")["provenance"]["private"]
    accountant = PLDAccountant(value_discretization_interval=1e-4)
    for one in ledger["events"]:
        if one["is"] == "GaussianMechanism":
            accountant.compose(dp.GaussianDpEvent(one["sigma"] / math.sqrt(one["times"])))
    step = dp.PoissonSampledDpEvent(promised["batch"] / promised["n"], dp.GaussianDpEvent(promised["sigma"]))
    accountant.compose(step, steps)
    return accountant.get_epsilon(ledger["delta"])


def without(content, *names):
    """Return a record without some fields."""
    if isinstance(content, dict):
        return {name: without(value, *names) for name, value in content.items() if name not in names}
    return [without(value, *names) for value in content] if isinstance(content, list) else content


def at_step(monkeypatch, step, act):
    """Call a function when a step draws its batch."""
    real = private_training.poisson_batches

    def wrapped(*args):
        draw = real(*args)

        def batch(now, rows):
            if now == step:
                act()
            return draw(now, rows)

        return batch

    monkeypatch.setattr(private_training, "poisson_batches", wrapped)
