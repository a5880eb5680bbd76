"""Singling out: predicates derived from synthetic rows that exactly one training row satisfies.

Source: Giomi et al. 2023, arXiv 2211.10459, section 4.2.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64
from scipy.special import gammaln

from feller.core.rng import Rng
from feller.evaluation.attacks.coded_tables import CodedTables, choose
from feller.evaluation.attacks.risk import Risk

MAX_PREDICATES, MAX_TRIES = 1_000, 4_000
"""Maximum number of predicates, and of attempts to derive one from a synthetic row."""
MIN_PREDICATES = 20
"""Minimum number of predicates of an attack."""
MAX_CONDITIONS = 8
"""Maximum number of columns in a predicate."""


@dataclass(frozen=True)
class Condition:
    """Condition on one column: its code is from `low` to `high`."""

    column: int
    low: int
    high: int


@dataclass(frozen=True)
class Predicate:
    """Conjunction of conditions on columns, such as: age at least 70, and job equal to nurse."""

    conditions: tuple[Condition, ...]

    def matches(self, rows: Int64[np.ndarray, "n k"]) -> Bool[np.ndarray, " n"]:
        """Return True for each row that satisfies the predicate."""
        mask = np.ones(len(rows), bool)
        for condition in self.conditions:
            column = rows[:, condition.column]
            mask &= (column >= condition.low) & (column <= condition.high)
        return mask


def univariate_predicates(tables: CodedTables) -> list[Predicate]:
    """Return the predicates on one column that one synthetic row satisfies: rare values, and extreme numbers."""
    predicates = []
    for j, count in enumerate(tables.counts):
        column, last = tables.synthetic[:, j], tables.last_value(j)
        occurrences = np.bincount(column, minlength=count)
        conditions = {Condition(j, int(code), int(code)) for code in np.flatnonzero(occurrences == 1)}
        present = np.flatnonzero(occurrences[: last + 1])
        if tables.is_ordered[j] and len(present):
            ends = (Condition(j, 0, int(present[0])), Condition(j, int(present[-1]), last))
            conditions |= {
                end for end, code in zip(ends, (present[0], present[-1]), strict=True) if occurrences[code] == 1
            }
        predicates += [Predicate((condition,)) for condition in sorted(conditions, key=lambda c: (c.low, c.high))]
    return predicates[:MAX_PREDICATES]


def multivariate_predicates(tables: CodedTables, rng: Rng) -> list[Predicate]:
    """Return predicates on several columns, each derived from a synthetic row that alone satisfies it.

    A number becomes, with equal probability, a condition to be in the same bin, or to be at least or at most as large,
    whichever holds for fewer than half of the rows.
    """
    k, predicates = len(tables.counts), set[Predicate]()
    if k < 2:
        return []
    middles = [float(np.median(tables.synthetic[:, j])) for j in range(k)]
    sources = rng.stream("sources").randint(len(tables.synthetic), (MAX_TRIES,)).numpy()
    order = rng.stream("columns").uniform((len(sources), k)).argsort(1).numpy()
    sizes = 2 + rng.stream("sizes").randint(min(k, MAX_CONDITIONS) - 1, (len(sources),)).numpy()
    in_bin = rng.stream("bins").bernoulli(0.5, (len(sources), k)).numpy()
    for row, columns, size, exact in zip(tables.synthetic[sources], order, sizes, in_bin, strict=True):
        conditions = (
            Condition(int(j), int(row[j]), int(row[j]))
            if exact[j]
            else _condition(tables, int(j), int(row[j]), middles[j])
            for j in columns[:size]
        )
        predicate = Predicate(tuple(sorted(conditions, key=lambda c: c.column)))
        if predicate not in predicates and predicate.matches(tables.synthetic).sum() == 1:
            predicates.add(predicate)
        if len(predicates) == MAX_PREDICATES:
            break
    return sorted(predicates, key=repr)


def _condition(tables: CodedTables, column: int, code: int, middle: float) -> Condition:
    last = tables.last_value(column)
    if not tables.is_ordered[column] or code > last:
        return Condition(column, code, code)
    return Condition(column, code, last) if code >= middle else Condition(column, 0, code)


def random_predicates(tables: CodedTables, likes: Sequence[Predicate], rng: Rng) -> list[Predicate]:
    """Return predicates on the columns of others with random codes: guesses without the samples."""
    width = max(len(like.conditions) for like in likes)
    u = rng.stream("codes").uniform((len(likes), width)).numpy()
    predicates = []
    for like, row in zip(likes, u, strict=True):
        columns = [condition.column for condition in like.conditions]
        codes = [int(share * tables.counts[j]) for share, j in zip(row, columns, strict=False)]
        middles = [(tables.counts[j] - 1) / 2 for j in columns]
        parts = zip(columns, codes, middles, strict=True)
        predicates.append(Predicate(tuple(_condition(tables, j, code, middle) for j, code, middle in parts)))
    return predicates


def isolation_probability(matches: Int64[np.ndarray, " p"], n: int, m: int) -> np.ndarray:
    """Return the probability that m random rows out of n contain exactly one of the rows that match, by predicate."""
    c = matches.astype(float)

    def log_choose(a: np.ndarray, b: float) -> np.ndarray:
        return gammaln(a + 1) - gammaln(b + 1) - gammaln(a - b + 1)

    possible = (c >= 1) & (n - c >= m - 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        rest = np.where(possible, n - c, m)
        logs = log_choose(rest, m - 1) - log_choose(np.array(float(n)), m)
    return np.where(possible, c * np.exp(logs), 0.0)


def singling_out_risk(
    tables: CodedTables, predicates: Sequence[Predicate], rng: Rng, *, confidence: float
) -> Risk | None:
    """Return the risk that predicates single out training rows; None if there are too few predicates.

    As many training rows as there are unseen rows are searched, since a predicate isolates a row more easily among
    few rows; the mean over all such subsets of the training set is computed exactly. Only a fraction of the guesses is
    about these rows, so the difference is scaled to all training rows.
    """
    if len(predicates) < MIN_PREDICATES:
        return None
    n = len(tables.train)
    m = min(n, len(tables.unseen))
    unseen = tables.unseen[choose(rng, "unseen", len(tables.unseen), m)]

    def rate(chosen: Sequence[Predicate]) -> float:
        return float(isolation_probability(np.array([p.matches(tables.train).sum() for p in chosen]), n, m).mean())

    control = float(np.mean([predicate.matches(unseen).sum() == 1 for predicate in predicates]))
    naive = rate(random_predicates(tables, predicates, rng))
    count = len(predicates)
    return Risk(rate(predicates), control, naive, count, count, n / m, confidence)
