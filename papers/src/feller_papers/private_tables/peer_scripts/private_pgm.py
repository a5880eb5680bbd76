"""MST and AIM on the estimator of private-pgm (package mbi, Apache-2.0), which has no mechanisms itself.

Sources: McKenna, Miklau and Sheldon 2021, arXiv 2108.04978 (MST); McKenna, Mullins, Sheldon and Miklau 2022, arXiv
2201.12677 (AIM). A marginal with Gaussian noise sigma costs rho = 1 / (2 sigma^2), a selection with epsilon costs
epsilon^2 / 8.
"""

import itertools
import math

import jax
import mbi
import networkx as nx
import numpy as np
import pandas as pd
from task import Task, read_task

jax.config.update("jax_enable_x64", True)
ITERATIONS, MODEL_MB, MAX_CELLS = 1000, 80.0, 10_000
"""Steps of an estimate, and the limits on model size and cells of a marginal of AIM's reference implementation."""
Clique = tuple[str, ...]


def rho_of(epsilon: float, delta: float) -> float:
    """Return the largest rho of zCDP that implies (epsilon, delta), by the optimal Renyi order."""
    orders = 1 + np.geomspace(1e-3, 1e4, 20_000)

    def delta_of(rho: float) -> float:
        logs = (orders - 1) * (orders * rho - epsilon) + orders * np.log1p(-1 / orders) - np.log(orders - 1)
        return math.exp(min(logs.min(), 0))

    low, high = 0.0, epsilon + 1
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if delta_of(middle) <= delta else (low, middle)
    return low


class Rows:
    """Training rows with noisy marginals."""

    def __init__(self, task: Task) -> None:
        self.domain = mbi.Domain.fromdict(task.domain())
        self.data = mbi.Dataset({name: codes.to_numpy() for name, codes in task.codes().items()}, self.domain)
        self.total = float(len(task.train))
        self.rng = np.random.default_rng(task.seed)

    def counts(self, clique: Clique) -> np.ndarray:
        """Return a marginal without noise."""
        return np.asarray(self.data.project(clique).datavector(), dtype=float)

    def measure(self, clique: Clique, sigma: float) -> mbi.LinearMeasurement:
        """Return a marginal with noise."""
        counts = self.counts(clique)
        return mbi.LinearMeasurement(counts + self.rng.normal(0, sigma, counts.size), clique, sigma)

    def estimate(self, measured: list[mbi.LinearMeasurement], warm: mbi.MarkovRandomField | None = None):
        """Return the graphical model of noisy marginals."""
        descent = mbi.estimation.MirrorDescent()
        return descent.estimate(
            self.domain, measured, known_total=self.total, iters=ITERATIONS, warm_start=warm, tol=1e-6
        )

    def select(self, scores: dict[Clique, float], epsilon: float) -> Clique:
        """Return a clique by the exponential mechanism, for scores of sensitivity 1."""
        values = 0.5 * epsilon * np.array(list(scores.values()))
        weights = np.exp(values - values.max())
        return list(scores)[self.rng.choice(len(scores), p=weights / weights.sum())]


def mst(rows: Rows, rho: float):
    """Return the model of a tree of pairs; one-way marginals, tree and pairs get a third of rho each."""
    names = list(rows.domain.attributes)
    single = math.sqrt(len(names) / (2 * rho / 3))
    measured = [rows.measure((name,), single) for name in names]
    model = rows.estimate(measured)
    scores = {
        pair: float(np.abs(rows.counts(pair) - np.asarray(model.project(pair).datavector())).sum())
        for pair in itertools.combinations(names, 2)
    }
    tree = nx.empty_graph(names)
    for _ in names[1:]:
        candidates = {pair: score for pair, score in scores.items() if not nx.has_path(tree, *pair)}
        tree.add_edge(*rows.select(candidates, math.sqrt(8 * rho / 3 / (len(names) - 1))))
    sigma = math.sqrt((len(names) - 1) / (2 * rho / 3))
    return rows.estimate(measured + [rows.measure(edge, sigma) for edge in tree.edges])


def aim(rows: Rows, rho: float):
    """Return the model of marginals of one or two columns, selected one by one where the model's error is largest."""
    names = list(rows.domain.attributes)
    pairs = [pair for pair in itertools.combinations(names, 2) if rows.domain.size(pair) <= MAX_CELLS]
    weights = {c: float(sum(len({*c} & {*pair}) for pair in pairs)) for c in [*((name,) for name in names), *pairs]}
    scale = max(weights.values())
    rounds = 16 * len(names)
    sigma, epsilon = math.sqrt(rounds / (2 * 0.9 * rho)), math.sqrt(8 * 0.1 * rho / rounds)
    measured = [rows.measure((name,), sigma) for name in names]
    used, model, is_last = len(names) / (2 * sigma**2), rows.estimate(measured), False
    while not is_last:
        if rho - used < 2 * (0.5 / sigma**2 + epsilon**2 / 8):
            is_last = True
            sigma, epsilon = math.sqrt(1 / (2 * 0.9 * (rho - used))), math.sqrt(8 * 0.1 * (rho - used))
        used += 0.5 / sigma**2 + epsilon**2 / 8
        cliques = [measurement.clique for measurement in measured]
        max_size = MODEL_MB * used / rho
        noise = math.sqrt(2 / math.pi) * sigma
        scores = {
            c: weight / scale * (_error(rows, model, c) - noise * rows.domain.size(c))
            for c, weight in weights.items()
            if c in cliques or mbi.junction_tree.hypothetical_model_size(rows.domain, [*cliques, c]) <= max_size
        }
        chosen = rows.select(scores, epsilon)
        before = np.asarray(model.project(chosen).datavector())
        measured.append(rows.measure(chosen, sigma))
        model = rows.estimate(measured, model)
        change = np.abs(np.asarray(model.project(chosen).datavector()) - before).sum()
        if change <= noise * rows.domain.size(chosen):
            sigma, epsilon = sigma / 2, epsilon * 2
    return rows.estimate(measured, model)


def _error(rows: Rows, model: mbi.MarkovRandomField, clique: Clique) -> float:
    return float(np.abs(rows.counts(clique) - np.asarray(model.project(clique).datavector())).sum())


if __name__ == "__main__":
    task = read_task()
    fit = {"MST": mst, "AIM": aim}[task.method]
    model = fit(Rows(task), rho_of(task.epsilon, task.delta))
    sampled = model.synthetic_data(rows=task.rows, method="sample")
    task.write(task.cells(pd.DataFrame(sampled.to_dict())))
