"""Disclosure risks of a synthetic table: singling out, linkability and inference, and closeness to training rows."""

from dataclasses import dataclass, replace

import numpy as np

from feller.core.rng import Rng
from feller.evaluation.attacks.coded_tables import CodedTables, choose
from feller.evaluation.attacks.neighbour_attacks import (
    ColumnRisk,
    inference_risks,
    linkability_risk,
)
from feller.evaluation.attacks.risk import UNMEASURED, Risk, worst_risk
from feller.evaluation.attacks.singling_out import multivariate_predicates, singling_out_risk, univariate_predicates

RISKS = {"singling_out": "Singling out", "linkability": "Linkability", "inference": "Inference"}
"""The three risks of anonymised data in the opinion 05/2014 of the EU's data protection authorities (WP 216)."""
MIN_UNSEEN = 50
"""Minimum number of unseen rows."""
RELABELLINGS = 400
"""Number of random assignments of rows to training and unseen rows, for the null distribution of closeness."""
MAX_QUERIES, MAX_REFERENCE = 1_000, 1_000
"""Maximum number of synthetic rows whose nearest rows are searched, and of training rows and of unseen rows."""


@dataclass(frozen=True)
class DisclosureRisks:
    """Risks of a synthetic table, by name; a risk that was not measured is absent."""

    risks: dict[str, Risk]
    """Risks by the keys of `RISKS`, and both kinds of singling out."""
    columns: tuple[ColumnRisk, ...] = ()
    """Risk of inference of each column."""

    def numbers(self, epsilon: float | None, delta: float) -> dict[str, float | str | None]:
        """Return the metrics of the risks; with the bounds of a guarantee unless `epsilon` is None."""
        numbers: dict[str, float | str | None] = {}
        for name in RISKS:
            if name not in self.risks:
                numbers |= {f"{name}_risk": None, f"{name}_level": UNMEASURED}
                continue
            numbers |= self.risks[name].with_prefix(name)
            if epsilon is not None and name != "singling_out":
                numbers[f"{name}_bound"] = self.risks[name].bound(epsilon, delta)
        for kind in ("univariate", "multivariate"):
            if risk := self.risks.get(f"singling_out_{kind}"):
                low, high = risk.interval
                ends = {"": risk.value, "_low": low, "_high": high}
                numbers |= {f"singling_out_{kind}{end}": value for end, value in ends.items()}
        return numbers


def disclosure_risks(tables: CodedTables, rng: Rng) -> DisclosureRisks:
    """Return the disclosure risks of a synthetic table; nothing is measured with fewer than `MIN_UNSEEN` unseen rows.

    The risk of singling out is that of predicates on one or on several columns, whichever interval begins higher; both
    intervals hold jointly.
    """
    if len(tables.unseen) < MIN_UNSEEN or not len(tables.synthetic):
        return DisclosureRisks({})
    predicates = {
        "univariate": univariate_predicates(tables),
        "multivariate": multivariate_predicates(tables, rng.fold_in("predicates")),
    }
    risks = dict[str, Risk]()
    for kind, chosen in predicates.items():
        risk = singling_out_risk(tables, chosen, rng.fold_in(kind), confidence=1 - 0.05 / len(predicates))
        if risk is not None:
            risks[f"singling_out_{kind}"] = risk
    if risks:
        risks["singling_out"] = risks[worst_risk(risks)]
    if (link := linkability_risk(tables, rng.fold_in("linkability"))) is not None:
        risks["linkability"] = link
    inference, columns = inference_risks(tables, rng.fold_in("inference"))
    if inference is not None:
        risks["inference"] = inference
    return DisclosureRisks(risks, columns)


def closeness(tables: CodedTables, rng: Rng) -> dict[str, float]:
    """Return the fraction of synthetic rows that are closer to a training row than to an unseen row; ties count half.

    As many training rows as unseen rows are used (distance to closest record with a holdout). The null interval,
    `dcr_null_low` to `dcr_null_high`, holds 95 % of the shares if these rows are assigned to both groups at random.
    """
    size = min(len(tables.train), len(tables.unseen), MAX_REFERENCE)
    if size < MIN_UNSEEN:
        return {}
    queries = tables.synthetic[choose(rng, "queries", len(tables.synthetic), MAX_QUERIES)]
    rows = np.concatenate(
        [
            tables.train[choose(rng, "seen", len(tables.train), size)],
            tables.unseen[choose(rng, "unseen", len(tables.unseen), size)],
        ]
    )
    distances = replace(tables, synthetic=rows).distances(queries, tuple(range(len(tables.counts))))
    is_train = np.arange(2 * size) < size
    shares = _closer(distances, is_train)
    null = [
        float(_closer(distances, is_train[choose(rng.fold_in(i), "labels", 2 * size, 2 * size)]).mean())
        for i in range(RELABELLINGS)
    ]
    low, high = np.quantile(null, [0.025, 0.975])
    return {"dcr_share": float(shares.mean()), "dcr_null_low": float(low), "dcr_null_high": float(high)}


def _closer(distances: np.ndarray, is_train: np.ndarray) -> np.ndarray:
    train, unseen = distances[:, is_train].min(1), distances[:, ~is_train].min(1)
    tie = abs(train - unseen) <= 1e-4
    return np.where(tie, 0.5, train < unseen)
