"""Fitting of graphical models of tables to noisy marginals that AIM, MST or the independent baseline selects."""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.data.modality import Dataset
from feller.networks.condition_dropout import check_cond_dropout
from feller.privacy.accounting.dp_events import ZCdp
from feller.privacy.accounting.ledger import Ledger
from feller.privacy.accounting.zcdp import rho_from_epsilon
from feller.privacy.marginals.aim import MEASURING, ROUNDS, aim
from feller.privacy.marginals.curator import MarginalRelease
from feller.privacy.marginals.elimination import Clique
from feller.privacy.marginals.marginal_network import allowed_combinations, network_from_model
from feller.privacy.marginals.mst import independent, mst
from feller.privacy.marginals.one_way_error import ONE_WAY_FRACTION, check_budget
from feller.privacy.noise.grid_noise import Noise
from feller.spaces.table_tokens import TableTokens
from feller.training.objective import Batch, Example
from feller.training.objectives.one_shot import OneShotObjective, OneShotResult

ONE_WAY_BUDGET = {"aim": MEASURING / ROUNDS, "mst": 1 / 3, "independent": 1.0}
"""Method of selecting marginals -> fraction of the zCDP budget rho that is spent on one-way marginals."""
BUDGET_MARGIN = 1e-9
"""Fraction of the budget left unspent, so that rounding errors cannot exceed the budget."""


@dataclass(frozen=True)
class MarginalFitting(OneShotObjective):
    """Objective that fits a maximum-entropy distribution to differentially private marginals of a few columns each."""

    family: ClassVar[str] = "graphical"
    space: TableTokens
    method: str = "aim"
    """Selection of marginals: aim (most accurate), mst (a tree of pairs; faster) or independent (one-way only)."""
    degree: int = 2
    """For aim: number of columns of each marginal in the workload."""
    max_model_size: float = 1.0
    """For aim: largest model size in MiB; a larger model is more accurate and slower."""
    cond_dropout: float = 0.0
    """Unused, because observed values are columns of a row and not conditions."""

    def __post_init__(self) -> None:
        check_cond_dropout(self.cond_dropout)
        if self.method not in ONE_WAY_BUDGET:
            raise UsageError.unknown_name("method", self.method, ONE_WAY_BUDGET)
        if self.degree < 1 or not self.max_model_size > 0:
            raise UsageError(
                "a degree (number of columns per marginal) of at least 1 and a model size above 0 MiB",
                f"{self.degree} and {self.max_model_size:g} MiB",
            )

    def budget_rho(self, epsilon: float, ledger: Ledger) -> float:
        total = rho_from_epsilon(epsilon, ledger.available_delta)
        remaining = (total - sum(event.zcdp_rho for event in ledger.events)) * (1 - BUDGET_MARGIN)
        one_way_budget = max(ONE_WAY_BUDGET[self.method] * remaining / total, ONE_WAY_FRACTION)
        check_budget(epsilon, ledger.delta, self.space.vocab_sizes, ledger.n, one_way_budget)
        return remaining

    def fit(self, rows: Dataset, rho: float, noise: Noise) -> OneShotResult:
        release = self.release(rows.values, rho, noise)
        architecture, network = network_from_model(self.space, release.model)
        events = () if math.isinf(rho) else tuple(ZCdp(label, cost) for label, cost in release.charges)
        summary = f"counted ({self.method}): {len(release.model.cliques):,} tables of potentials"
        return OneShotResult(architecture, network, events, summary)

    def release(
        self, codes: Int64[Tensor, "n k"], rho: float, noise: Noise, workload: Sequence[Clique] | None = None
    ) -> MarginalRelease:
        """Measure marginals with a budget of rho and fit a model; an infinite rho gives exact marginals.

        `workload` holds the marginals that AIM fits (default: all of `degree` columns).
        """
        methods: dict[str, Callable[..., MarginalRelease]] = {
            "aim": functools.partial(aim, degree=self.degree, size=self.max_model_size, workload=workload),
            "mst": mst,
            "independent": independent,
        }
        return methods[self.method](codes, self.space.vocab_sizes, rho, noise, rules=allowed_combinations(self.space))

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        x_1 = batch["x_1"]
        return {"x_t": x_1, "t": torch.zeros(len(x_1), device=x_1.device)}

    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        """Return -log p(row) in nats; among models with the same cliques, a fit to exact marginals minimises it."""
        return -network(example["x_t"], example["t"], {})
