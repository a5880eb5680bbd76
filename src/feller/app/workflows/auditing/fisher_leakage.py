"""What was told about single rows, as Fisher information: of those that were watched, or of all of a linear model."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from feller.app.workflows.auditing.linear_reconstruction import LinearLeakage
from feller.app.workflows.private.leakage_report import numeric_leaf, read_leakage
from feller.core.errors import InputError
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.data.images.modality import Images
from feller.data.modality import Dataset
from feller.evaluation.report.embedded_picture import ReportPicture
from feller.evaluation.report.leakage_plots import plot_exposed_rows
from feller.privacy.leakage.reconstruction_bounds import mse_bound, van_trees_waterfilling
from feller.training.checkpoint import read_counters

MAX_ROWS = 2_000
"""By which it is told in which directions rows vary."""


@dataclass(frozen=True, eq=False)
class RowLeakage:
    """What a training told about some rows."""

    min_errors: Float64[np.ndarray, " n"]
    """Least mean squared error of an attacker without bias."""
    renyi_bound: float | None
    """The bound for all rows from Rényi privacy, in the same units, where these are known."""
    mean_row_error: float
    """Mean squared error of answering the mean."""
    error_with_prior: float
    """Least error, over all these rows, of who knows what rows look like."""
    order: Sequence[int]
    """Their places in what was learned from, the most exposed first."""
    picture: ReportPicture | None = None
    """Of the most and the least exposed, where rows are pictures."""

    @property
    def numbers(self) -> dict[str, Any]:
        """Return what people hear of it."""
        return {
            "fisher_rows": len(self.min_errors),
            "fisher_least": self.min_errors.min().item(),
            "fisher_median": np.median(self.min_errors).item(),
            "fisher_with_prior": self.error_with_prior,
            "spread": self.mean_row_error,
        }

    def most_exposed(self, count: int) -> list[tuple[int, float, float]]:
        """Return the rows of which most was told: place, least error, and that in units of the spread."""
        least = np.sort(self.min_errors)[:count]
        over = least / self.mean_row_error if self.mean_row_error else np.full_like(least, math.inf)
        return list(zip(self.order, least.tolist(), over.tolist(), strict=False))


def tracked_row_leakage(run: Run, train: Dataset, order2: float) -> RowLeakage | None:
    """Return what was told about rows that were watched in training; None where none were.

    Args:
        run: Holds the account.
        train: What it learned from.
        order2: Rényi divergence of order 2 of all that was told, if a row is replaced.

    Raises:
        InputError: If the account is damaged, or of another run.
    """
    tracked = read_leakage(run)
    if tracked is None:
        return None
    values = numeric_leaf(train.modality.encode(train.values))
    if values is None:
        raise InputError("is about rows with numbers, and this run's have none", remedy="Remove it", file=run.leakage)
    if tracked.rows.max() >= len(train) or tracked.leakage.dim != values[0].numel():
        raise InputError("is about other rows than this run learned from", remedy="Remove it", file=run.leakage)
    eta2 = tracked.scaled_to(read_counters(run)["step"])
    line = mse_bound(order2, 2.0) if train.modality.view(Images) else None
    return _row_leakage(eta2, values.flatten(1), line, tracked.rows, plot_exposed_rows(train, tracked.rows, 1 / eta2))


def linear_row_leakage(leakage: LinearLeakage, train: Dataset, order2: float) -> RowLeakage:
    """Return what noisy weights of a linear model told about all rows, whose numbers go from 0 to 1."""
    places = torch.arange(len(train))
    picture = plot_exposed_rows(train, places, 1 / leakage.eta2.cpu())
    return _row_leakage(leakage.eta2.cpu(), leakage.solution.x[:, 1:], mse_bound(order2), places, picture)


def _row_leakage(
    eta2: Tensor, values: Tensor, line: float | None, places: Tensor, picture: ReportPicture | None
) -> RowLeakage:
    variances = _variances(values.double())
    hidden = eta2.mean() < math.inf and bool((variances > 0).any())  # rows that are all alike are known
    error_with_prior = van_trees_waterfilling(eta2.mean().item(), variances) if hidden else 0.0
    order = places[eta2.argsort(descending=True)].tolist()
    return RowLeakage((1 / eta2).numpy(), line, values.double().var(0).mean().item(), error_with_prior, order, picture)


def _variances(rows: Float64[Tensor, "n d"]) -> Float64[Tensor, " d"]:
    """Return the variances of rows in their own directions, by at most MOST_ROWS of them."""
    some = rows[
        torch.randperm(len(rows), generator=Rng(0).stream("variances").shared_generator())[:MAX_ROWS].to(rows.device)
    ]
    variances = torch.linalg.svdvals(some - some.mean(0)).square() / len(some)
    return torch.cat([variances, variances.new_zeros(rows.shape[1] - len(variances))])
