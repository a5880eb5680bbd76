"""What a private fit may know of its rows before it is trained, and what that costs."""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int64
from torch import Tensor

from feller.app.workflows.private.privacy_config import PrivacyConfig
from feller.app.workflows.private.table_schema import Charged
from feller.core.errors import UsageError
from feller.data.images.modality import Images
from feller.data.modality import Dataset
from feller.data.tables.mixed_table import as_table
from feller.data.tables.modality import Table
from feller.data.tables.raking import Crosstab
from feller.privacy.accounting.accountant import zcdp_rho
from feller.privacy.accounting.dp_events import DpEvent, GaussianMechanism, ZCdp
from feller.privacy.accounting.ledger import Ledger
from feller.privacy.accounting.zcdp import rho_from_epsilon
from feller.privacy.marginals.marginal_model import MarginalModel
from feller.privacy.marginals.one_way_error import ONE_WAY_FRACTION, check_budget, one_way_sigma, project_to_simplex
from feller.privacy.noise.grid_noise import Noise
from feller.training.objectives.marginal_fitting import ONE_WAY_BUDGET, MarginalFitting

CLASSES = 0.02
"""Share of the budget, in rho, that counting classes takes, where these are all that is counted."""
NOT_PUBLIC = (
    "private training takes tables, best with a schema (--schema), and pictures, and these data are {}, whose model"
    " holds statistics of the rows that no noise covers"
)


@dataclass(frozen=True, eq=False)
class Guarded:
    """Data that tell of their rows nothing that is not paid for."""

    dataset: Dataset
    """With noisy shares, where the modality tells any."""
    ledger: Ledger
    """What was spent so far."""
    frequencies: dict[str, tuple[float, ...]]
    """Noisy shares of the classes of each condition."""
    law: MarginalModel | None = None
    """Of rows of levels, from noisy counts, where these were asked for."""


def guard(wish: PrivacyConfig, dataset: Dataset, learned: Dataset, charged: Charged, counted: float = 0.0) -> Guarded:
    """Replace what a modality tells of its rows by what is public or noisy.

    Args:
        wish: How private.
        dataset: What was read.
        learned: The part of it that is learned from, whose rows are protected.
        charged: What finding the columns cost.
        counted: Share of the budget that counts of a table's columns and pairs may take; 0 counts single columns alone.

    Raises:
        UsageError: If epsilon or delta do not suit so many rows, or the kind of data has statistics of its rows.
    """
    dataset, learned = as_table(dataset), as_table(learned)
    n, kind = len(learned), dataset.modality
    table, images = kind.view(Table), kind.view(Images)
    delta = wish.chance(n)
    ledger = Ledger(charged.expenses, delta, n, charged.delta)
    if table is not None and counted:
        return _counted(wish, dataset, table, learned, ledger, counted)
    if table is not None:
        shares, cost = _shares(wish, table, learned, delta)
        return Guarded(replace(dataset, modality=table.with_marginals(shares)), ledger.add(cost), {})
    if images is not None:
        found, costs = _classes(wish, images, learned, delta)
        return Guarded(dataset, replace(ledger, events=costs), found)
    raise UsageError(NOT_PUBLIC.format(kind.display_name))


def _counted(
    wish: PrivacyConfig, dataset: Dataset, kind: Table, rows: Dataset, ledger: Ledger, counted: float
) -> Guarded:
    """Count columns and pairs with noise, as a model by counts would, with a share of the budget."""
    space = kind.by_levels().space()
    counting = MarginalFitting(space)
    whole = rho_from_epsilon(wish.most, ledger.available_delta)
    share = counted * (1 - sum(map(zcdp_rho, ledger.events)) / whole)
    check_budget(
        wish.most,
        ledger.delta,
        space.vocab_sizes,
        len(rows),
        max(share * ONE_WAY_BUDGET[counting.method], ONE_WAY_FRACTION),
    )
    release = counting.release(kind.levels(rows), share * whole, wish.source("shares"))
    for what, cost in release.charges:
        ledger = ledger.add(ZCdp(what, cost))
    shares = tuple(tuple(release.model.marginal((j,)).tolist()) for j in range(len(space.vocab_sizes)))
    told = tuple(
        Crosstab(one.columns, tuple(one.values.shape), tuple(one.values.flatten().tolist()), one.sigma)
        for one in release.measurements
    )
    seen = replace(kind, marginals=shares, crosstabs=told, crosstab_rows=len(rows))
    return Guarded(replace(dataset, modality=seen), ledger, {}, release.model)


def _shares(
    wish: PrivacyConfig, kind: Table, rows: Dataset, delta: float
) -> tuple[tuple[tuple[float, ...], ...], DpEvent]:
    """Count the values of each column with noise, all columns at once."""
    rooms = tuple(len(column.level_names) for column in kind.schema.modelled)
    check_budget(wish.most, delta, rooms, len(rows))
    sigma, noise = one_way_sigma(wish.most, delta, len(rooms)), wish.source("shares")
    levels = kind.levels(rows).T
    shares = tuple(_noisy(level, room, sigma, noise) for level, room in zip(levels, rooms, strict=True))
    k = len(rooms)
    return shares, GaussianMechanism("counts of the values of each column", sigma / math.sqrt(k), integer_moves=k)


def _classes(
    wish: PrivacyConfig, kind: Images, rows: Dataset, delta: float
) -> tuple[dict[str, tuple[float, ...]], tuple[DpEvent, ...]]:
    """Count the classes with noise."""
    found, costs = {}, []
    for name, classes in kind.conditions.items():
        sigma = one_way_sigma(wish.most, delta, 1, CLASSES)
        found[name] = _noisy(rows.given[name], len(classes), sigma, wish.source("classes", name))
        costs.append(GaussianMechanism(f"counts of each {name}", sigma, integer_moves=1))
    return found, tuple(costs)


def _noisy(codes: Int64[Tensor, " n"], room: int, sigma: float, noise: Noise) -> tuple[float, ...]:
    """Return the shares of codes by counts with noise."""
    counts = torch.bincount(codes, minlength=room) + noise.discrete_gaussian(sigma, (room,))
    return tuple(project_to_simplex(counts.double() / len(codes)).tolist())
