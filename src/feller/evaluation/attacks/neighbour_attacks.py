"""Linkability and inference by nearest synthetic rows.

Linkability: an attacker knows some columns of a person from one source and the others from another, and links them if
the same synthetic row is nearest in both. Inference: an attacker knows all columns but one, and guesses this one from
the nearest synthetic row.

Source: Giomi et al. 2023, arXiv 2211.10459, sections 4.3 and 4.4.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from feller.core.rng import Rng
from feller.evaluation.attacks.coded_tables import CodedTables, choose
from feller.evaluation.attacks.risk import Risk

MAX_TARGETS = 1_000
"""Maximum number of attacked rows of each kind."""
MAX_SYNTHETIC = 5_000
"""Maximum number of synthetic rows that are searched."""
CHUNK = 100
"""Number of rows whose distances are computed at once."""


@dataclass(frozen=True)
class ColumnRisk:
    """Risk of inference of one column."""

    column: int
    risk: Risk


def _targets(tables: CodedTables, rng: Rng) -> tuple[Int64[np.ndarray, "t k"], Int64[np.ndarray, "u k"]]:
    size = min(len(tables.train), len(tables.unseen), MAX_TARGETS)
    return tables.train[choose(rng, "members", len(tables.train), size)], tables.unseen[
        choose(rng, "others", len(tables.unseen), size)
    ]


def linkability_risk(tables: CodedTables, rng: Rng) -> Risk | None:
    """Return the risk of linking two halves of the columns of a person; None for fewer than two columns.

    Each group of attacked rows has another random split of the columns. Ties of nearest rows are broken at random; the
    success is the probability over these ties, rounded at random to a count.
    """
    if len(tables.counts) < 2:
        return None
    members, others = _targets(tables, rng)
    rates = []
    for name, rows in (("members", members), ("others", others)):
        chances = _link_chances(tables, rows, rng.fold_in("splits"))
        rates.append(float((rng.stream(f"ties of {name}").uniform((len(chances),)).numpy() < chances).mean()))
    return Risk(rates[0], rates[1], 1 / len(tables.synthetic), len(members), len(others))


def _link_chances(tables: CodedTables, rows: Int64[np.ndarray, "n k"], rng: Rng) -> Float64[np.ndarray, " n"]:
    k, chances = len(tables.counts), []
    for i, start in enumerate(range(0, len(rows), CHUNK)):
        order = choose(rng, f"split {i}", k, k)
        nearest = [
            _nearest(tables.distances(rows[start : start + CHUNK], tuple(map(int, half))))
            for half in (order[: k // 2], order[k // 2 :])
        ]
        shared = (nearest[0] & nearest[1]).sum(1)
        chances.append(shared / (nearest[0].sum(1) * nearest[1].sum(1)))
    return np.concatenate(chances)


def _nearest(distances: np.ndarray) -> Bool[np.ndarray, "n s"]:
    return distances <= distances.min(1, keepdims=True) + 1e-4


def inference_hits(tables: CodedTables, rows: Int64[np.ndarray, "n k"], rng: Rng) -> Bool[np.ndarray, "n k"]:
    """Return True where the nearest synthetic row in all other columns has the right code in a column.

    Of several nearest rows, one is chosen at random.
    """
    k, hits = len(tables.counts), np.zeros(rows.shape, bool)
    uniforms = rng.stream("ties").uniform(rows.shape).numpy()
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        parts = [tables.distances(chunk, (j,)) for j in range(k)]
        total = np.sum(parts, axis=0)
        for j in range(k):
            is_nearest = _nearest(total - parts[j])
            right = is_nearest & (tables.synthetic[:, j][None] == chunk[:, j][:, None])
            share = right.sum(1) / is_nearest.sum(1)
            hits[start : start + CHUNK, j] = uniforms[start : start + CHUNK, j] < share
    return hits


def inference_risks(tables: CodedTables, rng: Rng) -> tuple[Risk | None, tuple[ColumnRisk, ...]]:
    """Return the risk that a random column of a person is guessed from the others, and the risk of each column.

    The intervals of the columns hold jointly (Bonferroni).
    """
    k = len(tables.counts)
    if k < 2:
        return None, ()
    members, others = _targets(tables, rng)
    hits, other_hits = (
        inference_hits(tables, rows, rng.fold_in(name)) for name, rows in (("members", members), ("others", others))
    )
    naive = np.array([_blind_rate(tables.synthetic[:, j], members[:, j], tables.counts[j]) for j in range(k)])
    secret, other_secret = (
        rng.stream(f"secret of {name}").randint(k, (len(rows),)).numpy()
        for name, rows in (("members", members), ("others", others))
    )
    rates = [
        float(table[np.arange(len(table)), chosen].mean())
        for table, chosen in ((hits, secret), (other_hits, other_secret))
    ]
    pooled = Risk(rates[0], rates[1], float(naive.mean()), len(members), len(others))
    columns = tuple(
        ColumnRisk(
            j,
            Risk(
                float(hits[:, j].mean()),
                float(other_hits[:, j].mean()),
                float(naive[j]),
                len(members),
                len(others),
                confidence=1 - 0.05 / k,
            ),
        )
        for j in range(k)
    )
    return pooled, columns


def _blind_rate(synthetic: Int64[np.ndarray, " s"], rows: Int64[np.ndarray, " n"], count: int) -> float:
    made, real = (np.bincount(codes, minlength=count) / len(codes) for codes in (synthetic, rows))
    return float(made @ real)
