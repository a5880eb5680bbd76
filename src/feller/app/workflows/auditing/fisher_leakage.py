"""Computation of lower bounds on the reconstruction error of single rows, from their Fisher information loss.

The loss is available for rows tracked during training, and for all rows of a linear model.
"""

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
"""Maximum number of rows used to estimate the principal variances."""


@dataclass(frozen=True, eq=False)
class RowLeakage:
    """Fisher information loss of some training rows, expressed as lower bounds on the reconstruction error."""

    min_errors: Float64[np.ndarray, " n"]
    """Lower bound on the mean squared error per coordinate of an unbiased estimate of each row by an attacker."""
    renyi_bound: float | None
    """Lower bound on the same error that holds for every row of the data, from the Rényi DP guarantee; None if
    not available."""
    mean_row_error: float
    """Mean squared error of an attacker who guesses the mean row."""
    error_with_prior: float
    """Lower bound on the mean squared error, averaged over the rows, of an attacker with a Gaussian prior of a row."""
    order: Sequence[int]
    """Indices of the rows in the training set, in order of increasing error bound: the most exposed row is first."""
    picture: ReportPicture | None = None
    """Picture of the rows with the lowest and the highest error bounds; None if the rows are not images."""

    @property
    def numbers(self) -> dict[str, Any]:
        """Metrics of the audit report."""
        return {
            "fisher_rows": len(self.min_errors),
            "fisher_least": self.min_errors.min().item(),
            "fisher_median": np.median(self.min_errors).item(),
            "fisher_with_prior": self.error_with_prior,
            "spread": self.mean_row_error,
        }

    def most_exposed(self, count: int) -> list[tuple[int, float, float]]:
        """Return (row index, error bound, bound divided by `mean_row_error`) for the `count` most exposed rows."""
        errors = np.sort(self.min_errors)[:count]
        ratios = errors / self.mean_row_error if self.mean_row_error else np.full_like(errors, math.inf)
        return list(zip(self.order, errors.tolist(), ratios.tolist(), strict=False))


def tracked_row_leakage(run: Run, train: Dataset, order2: float) -> RowLeakage | None:
    """Return the Fisher information loss of the rows tracked during training; None if no rows were tracked.

    `order2` is the Rényi divergence of order 2 of all releases, in nats, between data that differ by one replaced row.

    Raises:
        InputError: If the leakage file is damaged or belongs to another run.
    """
    tracked = read_leakage(run)
    if tracked is None:
        return None
    values = numeric_leaf(train.modality.encode(train.values))
    if values is None:
        raise InputError(
            "a run whose rows have numeric values", "a run whose rows have none", "Remove the file", file=run.leakage
        )
    if tracked.rows.max() >= len(train) or tracked.leakage.dim != values[0].numel():
        raise InputError("does not match the training rows of this run", remedy="Remove the file", file=run.leakage)
    eta2 = tracked.scaled_to(read_counters(run)["step"])
    renyi_bound = mse_bound(order2, 2.0) if train.modality.view(Images) else None
    return _row_leakage(
        eta2, values.flatten(1), renyi_bound, tracked.rows, plot_exposed_rows(train, tracked.rows, 1 / eta2)
    )


def linear_row_leakage(leakage: LinearLeakage, train: Dataset, order2: float) -> RowLeakage:
    """Return the leakage of all training rows of a linear model, whose features are in [0, 1].

    Args:
        leakage: Fisher information that the noisy weights contain about each row.
        train: Training set.
        order2: Rényi divergence of order 2 of the release, in nats, between data that differ by one replaced row.
    """
    indices = torch.arange(len(train))
    picture = plot_exposed_rows(train, indices, 1 / leakage.eta2.cpu())
    return _row_leakage(leakage.eta2.cpu(), leakage.solution.x[:, 1:], mse_bound(order2), indices, picture)


def _row_leakage(
    eta2: Tensor, values: Tensor, renyi_bound: float | None, indices: Tensor, picture: ReportPicture | None
) -> RowLeakage:
    variances = _variances(values.double())
    is_bounded = eta2.mean() < math.inf and bool((variances > 0).any())  # equal rows are known to the attacker
    error_with_prior = van_trees_waterfilling(eta2.mean().item(), variances) if is_bounded else 0.0
    order = indices[eta2.argsort(descending=True)].tolist()
    return RowLeakage(
        (1 / eta2).numpy(), renyi_bound, values.double().var(0).mean().item(), error_with_prior, order, picture
    )


def _variances(rows: Float64[Tensor, "n d"]) -> Float64[Tensor, " d"]:
    """Return the principal variances of the rows (eigenvalues of their covariance), from at most MAX_ROWS rows."""
    sample = rows[
        torch.randperm(len(rows), generator=Rng(0).stream("variances").shared_generator())[:MAX_ROWS].to(rows.device)
    ]
    variances = torch.linalg.svdvals(sample - sample.mean(0)).square() / len(sample)
    return torch.cat([variances, variances.new_zeros(rows.shape[1] - len(variances))])
