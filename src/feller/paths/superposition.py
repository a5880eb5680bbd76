"""Superposition of Markov processes: weighted averages and sums of flows, diffusions and jumps.

Source: Holderrieth et al. 2024, "Generator Matching", arXiv 2410.20587: the parts of a generator add.
"""

from feller.core.pytree import State, tree_map
from feller.paths.processes import Process, Weight


def superpose(*terms: tuple[Weight, Process]) -> Process:
    """Average processes that have the same marginals, as a process; weights should add to one."""

    def process(x: State, t: State) -> State:
        total = None
        for weight, term in terms:
            now = tree_map(lambda leaf, weight=weight: leaf * weight, term(x, t))
            total = now if total is None else tree_map(lambda a, b: a + b, total, now)
        return total

    return process


def add(*processes: Process) -> Process:
    """Let all act at once, as those that keep every law do: see `feller.paths.divergence_free`."""
    return superpose(*((1.0, process) for process in processes))
