"""Measurement of noisy statistics of private rows (marginals, class frequencies) before training, and their cost."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int64
from torch import Tensor

from feller.app.workflows.private.privacy_config import PrivacyConfig
from feller.app.workflows.private.table_schema import SchemaCost
from feller.core.errors import UsageError
from feller.data.images.modality import Images
from feller.data.modality import Dataset, Modality
from feller.data.tables.column import ModelledColumn
from feller.data.tables.histories import Histories
from feller.data.tables.mixed_table import as_table
from feller.data.tables.modality import Table
from feller.data.tables.raking import Crosstab
from feller.data.text.modality import Text
from feller.privacy.accounting.dp_events import DpEvent, GaussianMechanism, ZCdp
from feller.privacy.accounting.ledger import Ledger
from feller.privacy.accounting.zcdp import rho_from_epsilon
from feller.privacy.marginals.aim import MEAN_ABS_NORMAL, MEASURING, ROUNDS
from feller.privacy.marginals.curator import MarginalRelease, sigma_for
from feller.privacy.marginals.marginal_model import MarginalModel
from feller.privacy.marginals.one_way_error import ONE_WAY_FRACTION, check_budget, one_way_sigma, project_to_simplex
from feller.privacy.noise.grid_noise import Noise
from feller.spaces import TableTokens
from feller.training.objectives.marginal_fitting import ONE_WAY_BUDGET, MarginalFitting

CLASS_BUDGET_FRACTION = 0.02
"""Fraction of the zCDP budget that noisy class counts of images spend; no other counts are then released."""
MAX_NOISE, MIN_GROUPS = 0.3, 4
"""Expected L1 noise of the counts of a pair of columns of histories, as a fraction of the number of persons; minimum
number of groups of bins of a number."""
NOT_PUBLIC = (
    "private training supports tables (best with --schema), images, and documents with --start-from; found {}, whose"
    " model stores statistics of the rows without noise"
)


@dataclass(frozen=True, eq=False)
class PrivateStatistics:
    """Dataset whose stored statistics are public or noisy, with the ledger of their privacy cost."""

    dataset: Dataset
    """Dataset; if its modality stores marginals (frequencies of the values of each column), these are noisy."""
    ledger: Ledger
    """Ledger of all releases so far."""
    frequencies: dict[str, tuple[float, ...]]
    """Noisy class frequencies of each condition, by name of the condition."""
    marginal_model: MarginalModel | None = None
    """Graphical model (Markov random field) of the discretised rows, fitted to noisy counts; None if not requested."""


def measure_statistics(
    privacy: PrivacyConfig,
    dataset: Dataset,
    training_rows: Dataset,
    schema_cost: SchemaCost,
    marginals_fraction: float = 0.0,
    like: Modality | None = None,
) -> PrivateStatistics:
    """Replace statistics that a modality stores, such as scales and class frequencies, by public or noisy statistics.

    Args:
        privacy: Privacy options.
        dataset: Dataset as read from its source.
        training_rows: Training split of the dataset; its rows are protected.
        schema_cost: Cost of the schema search.
        marginals_fraction: Fraction of the privacy budget for counts of single columns and pairs of columns of a table;
            0 to count single columns only.
        like: Modality of the model from which training starts; None without one.

    Raises:
        UsageError: If epsilon or delta is unsuitable for the number of rows, or the modality stores other statistics of
            rows.
    """
    dataset, training_rows = as_table(dataset), as_table(training_rows)
    n, modality = len(training_rows), dataset.modality
    table, images = modality.view(Table), modality.view(Images)
    delta = privacy.delta_for(n)
    ledger = Ledger(schema_cost.expenses, delta, n, schema_cost.delta)
    if table is not None and marginals_fraction:
        release, ledger = _measured(
            privacy, table.by_levels().space(), table.levels(training_rows), ledger, marginals_fraction
        )
        statistics = _statistics_of(release)
        with_crosstabs = replace(
            table, marginals=statistics[0], crosstabs=statistics[1], crosstab_rows=len(training_rows)
        )
        return PrivateStatistics(replace(dataset, modality=with_crosstabs), ledger, {}, release.model)
    if table is not None:
        marginals, cost = _shares(privacy, table, training_rows, delta)
        return PrivateStatistics(replace(dataset, modality=table.with_marginals(marginals)), ledger.add(cost), {})
    if (histories := modality.view(Histories)) is not None:
        return _history_statistics(privacy, dataset, histories, training_rows, ledger, marginals_fraction)
    if images is not None:
        frequencies, costs = _classes(privacy, images, training_rows, delta)
        return PrivateStatistics(dataset, replace(ledger, events=costs), frequencies)
    if has_public_texts(modality, like):
        return PrivateStatistics(dataset, ledger, {})
    raise UsageError(NOT_PUBLIC.format(modality.display_name))


def has_public_texts(modality: Modality, like: Modality | None) -> bool:
    """Return True if a row is a whole document, and all that its modality stores comes from another model.

    Vocabulary and length are then public. Windows of one long text overlap, so that they are no rows.

    Args:
        modality: Modality of the rows.
        like: Modality of the model from which training starts; None without one.
    """
    text = modality.view(Text)
    return text is not None and text.documents and not text.classes and modality == like


def _measured(
    privacy: PrivacyConfig,
    space: TableTokens,
    levels: Int64[Tensor, "n k"],
    ledger: Ledger,
    marginals_fraction: float,
    workload: Sequence[tuple[int, ...]] | None = None,
) -> tuple[MarginalRelease, Ledger]:
    """Measure marginals of a table of levels with AIM; return them and the ledger with their cost.

    `marginals_fraction` is the part of the remaining budget that is spent on them, and `workload` the columns of each
    marginal to fit (default: all pairs).
    """
    objective = MarginalFitting(space)
    rho = rho_from_epsilon(privacy.max_epsilon, ledger.available_delta)
    rho_fraction = marginals_fraction * (1 - sum(event.zcdp_rho for event in ledger.events) / rho)
    check_budget(
        privacy.max_epsilon,
        ledger.delta,
        space.vocab_sizes,
        len(levels),
        max(rho_fraction * ONE_WAY_BUDGET[objective.method], ONE_WAY_FRACTION),
    )
    release = objective.release(levels, rho_fraction * rho, privacy.noise_source("shares"), workload)
    for label, cost in release.charges:
        ledger = ledger.add(ZCdp(label, cost))
    return release, ledger


def _statistics_of(release: MarginalRelease) -> tuple[tuple[tuple[float, ...], ...], tuple[Crosstab, ...]]:
    """Return the frequencies of the levels of each column, and the measured contingency tables."""
    columns = range(len(release.model.counts))
    crosstabs = tuple(
        Crosstab(counts.columns, tuple(counts.values.shape), tuple(counts.values.flatten().tolist()), counts.sigma)
        for counts in release.measurements
    )
    return tuple(tuple(release.model.marginal((j,)).tolist()) for j in columns), crosstabs


def _shares(
    privacy: PrivacyConfig, table: Table, rows: Dataset, delta: float
) -> tuple[tuple[tuple[float, ...], ...], DpEvent]:
    return _shares_of_levels(privacy, table.schema.modelled, table.levels(rows), delta)


def _history_statistics(
    privacy: PrivacyConfig,
    dataset: Dataset,
    histories: Histories,
    rows: Dataset,
    ledger: Ledger,
    marginals_fraction: float,
) -> PrivateStatistics:
    """Return the dataset with frequencies from one row of each person, and cross tables from one window."""
    noise, n = privacy.noise_source("rows"), len(rows)
    columns = (*histories.persons.schema.modelled, *histories.rows.schema.modelled)
    levels = histories.one_row_each(rows.values, noise.uniform((n,)))
    marginals, cost = _shares_of_levels(privacy, columns, levels, ledger.delta)
    ledger, histories = ledger.add(cost), histories.with_marginals(marginals)
    if not marginals_fraction:
        return PrivateStatistics(replace(dataset, modality=histories), ledger, {})
    rho = marginals_fraction * rho_from_epsilon(privacy.max_epsilon, ledger.available_delta)
    num_columns = len(columns) + len(histories.rows.counts)
    histories = replace(histories, window_groups=window_groups(n, rho, num_columns))
    windows = histories.windows_of(rows.values, noise.uniform((n,)))
    release, ledger = _measured(
        privacy, histories.windows.space, windows, ledger, marginals_fraction, histories.windows.pairs
    )
    _, crosstabs = _statistics_of(release)
    modality = replace(histories, crosstabs=crosstabs, crosstab_rows=n)
    return PrivateStatistics(replace(dataset, modality=modality), ledger, {}, release.model)


def window_groups(n: int, rho: float, num_columns: int) -> int:
    """Return the number of groups of bins of a number, for which noise is a fraction of the counts of all pairs.

    It is the number m for which the expected L1 noise of a table of m x m counts is `MAX_NOISE` of the n persons, at
    the first noise level of AIM. It depends on public numbers only.
    """
    if math.isinf(rho):
        return 0
    sigma = sigma_for(MEASURING * rho, ROUNDS * num_columns)
    return max(MIN_GROUPS, math.floor(math.sqrt(MAX_NOISE * n / (MEAN_ABS_NORMAL * sigma))))


def _shares_of_levels(
    privacy: PrivacyConfig, columns: Sequence[ModelledColumn], levels: Int64[Tensor, "n k"], delta: float
) -> tuple[tuple[tuple[float, ...], ...], DpEvent]:
    sizes = tuple(len(column.level_names) for column in columns)
    check_budget(privacy.max_epsilon, delta, sizes, len(levels))
    sigma, noise = one_way_sigma(privacy.max_epsilon, delta, len(sizes)), privacy.noise_source("shares")
    marginals = tuple(_noisy(codes, size, sigma, noise) for codes, size in zip(levels.T, sizes, strict=True))
    k = len(sizes)
    return marginals, GaussianMechanism("counts of the values of each column", sigma / math.sqrt(k), integer_moves=k)


def _classes(
    privacy: PrivacyConfig, images: Images, rows: Dataset, delta: float
) -> tuple[dict[str, tuple[float, ...]], tuple[DpEvent, ...]]:
    frequencies, costs = {}, []
    for name, classes in images.conditions.items():
        sigma = one_way_sigma(privacy.max_epsilon, delta, 1, CLASS_BUDGET_FRACTION)
        frequencies[name] = _noisy(rows.given[name], len(classes), sigma, privacy.noise_source("classes", name))
        costs.append(GaussianMechanism(f"counts of each {name}", sigma, integer_moves=1))
    return frequencies, tuple(costs)


def _noisy(codes: Int64[Tensor, " n"], size: int, sigma: float, noise: Noise) -> tuple[float, ...]:
    counts = torch.bincount(codes, minlength=size) + noise.discrete_gaussian(sigma, (size,))
    return tuple(project_to_simplex(counts.double() / len(codes)).tolist())
