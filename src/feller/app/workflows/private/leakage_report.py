"""Tracking of the Fisher information loss of some training rows; it is saved in the run for the owner of the rows."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float64, Int64
from torch import Tensor, nn

from feller.app.workflows.private.privacy_config import Guarantee
from feller.core.errors import InputError, UsageError
from feller.core.pytree import tree_map
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.core.safetensors_io import load_tensors, save_tensors
from feller.data.modality import Dataset
from feller.privacy.leakage.fisher_information import FisherLeakage
from feller.privacy.leakage.gradient_sensitivity import nonsmooth_layers
from feller.privacy.leakage.leakage_tracking import LeakageTracker
from feller.training.objective import Objective

NUMBERS = "numbers"
"""Name of the numeric leaf (component) of a state with several leaves."""


@dataclass(frozen=True, eq=False)
class TrackedLeakage:
    """Indices of the tracked rows in the training set, and the Fisher information loss of each row."""

    rows: Int64[Tensor, " b"]
    leakage: FisherLeakage

    def scaled_to(self, steps: int) -> Float64[Tensor, " b"]:
        """Return each row's Fisher information loss per coordinate for `steps` training steps.

        It is the measured loss, extrapolated in proportion to the number of steps.
        """
        return self.leakage.eta2 * steps / max(1, self.leakage.steps)


def check_tracking(count: int, rows: Dataset, network: nn.Module, privacy_plan: object) -> None:
    """Raise an error if the Fisher information loss of `count` rows cannot be tracked during training.

    Tracking needs DP-SGD, rows that are not tokens, and a smooth network.
    """
    if not isinstance(privacy_plan, Guarantee):
        raise UsageError("requires DP-SGD training: set --epsilon and use a recipe trained by steps", argument="audit")
    check_rows(count, rows)
    if nonsmooth := nonsmooth_layers(network):
        raise UsageError(
            f"{nonsmooth[0]} is not smooth, so Fisher information does not bound the leakage",
            remedy="Omit --audit, or use smooth layers",
            argument="audit",
        )


def check_rows(count: int, rows: Dataset) -> None:
    """Raise an error if `rows` has fewer than `count` rows, or if they are encoded as tokens.

    The result depends only on the number and the type of the rows, not on their values.
    """
    if not 0 < count <= len(rows):
        raise UsageError(f"fisher=ROWS with 1 to {len(rows):,} rows", count, argument="audit")
    if numeric_leaf(rows.modality.encode(rows.values[:1] if isinstance(rows.values, Tensor) else rows.values)) is None:
        raise UsageError(
            f"this recipe encodes {rows.modality.display_name} as tokens, for which Fisher information is undefined",
            remedy="Omit --audit; `feller audit` bounds the guessing probability of each column",
            argument="audit",
        )


def numeric_leaf(state: Any) -> Tensor | None:
    """Return the floating-point leaf (component) of a state, which holds the numbers of rows; None if it has none."""
    leaf = state.get(NUMBERS) if isinstance(state, dict) else state
    return leaf if isinstance(leaf, Tensor) and leaf.is_floating_point() else None


def make_tracker(
    run: Run, count: int, rows: Dataset, objective: Objective, guarantee: Guarantee, seed: int, device: torch.device
) -> tuple[LeakageTracker, Int64[Tensor, " b"]]:
    """Return a tracker of the Fisher information loss of `count` rows drawn at random, and the indices of these rows.

    If the run folder has the saved state of a tracker of the same rows, the tracker continues from it.
    """
    generator = Rng(seed).fold_in("watched").stream("rows").shared_generator()
    indices = torch.randperm(len(rows), generator=generator)[:count].sort().values
    tracked = rows.subset(indices)
    state = tree_map(lambda leaf: leaf.to(device), rows.modality.encode(tracked.values))
    cond = tree_map(lambda leaf: leaf.to(device), tracked.given)
    rng = Rng(seed).fold_in("watched")

    def build(network: nn.Module, step: int) -> Any:
        def example(z: Tensor) -> Any:
            x_1 = {**state, NUMBERS: z} if isinstance(state, dict) else z
            return objective.draw({"x_1": x_1, "given": cond}, rng.fold_in("example", step), network)

        return example

    z = numeric_leaf(state)
    if z is None:
        raise UsageError("leakage tracking needs rows with numeric values")
    tracker = LeakageTracker(z, build, rate=guarantee.batch / guarantee.n, rng=rng)
    saved = read_leakage(run)
    if saved is not None and torch.equal(saved.rows, indices):
        tracker.restore(saved.leakage, saved.leakage.steps)
    return tracker, indices


def write_leakage(run: Run, rows: Int64[Tensor, " b"], leakage: FisherLeakage) -> None:
    """Save the Fisher information loss measured so far."""
    tensors = {"rows": rows, "traces": leakage.traces}
    save_tensors(run.leakage, tensors, {"coordinates": str(leakage.dim), "steps": str(leakage.steps)})


def read_leakage(run: Run) -> TrackedLeakage | None:
    """Return the Fisher information loss saved in a run; None if no rows were tracked.

    Raises:
        InputError: If the file is damaged.
    """
    if not run.leakage.is_file():
        return None
    tensors, meta = load_tensors(run.leakage)
    try:
        rows, traces, steps = tensors["rows"], tensors["traces"], int(meta["steps"])
        if rows.dtype != torch.int64 or traces.dtype != torch.float64 or rows.ndim != 1 or not len(rows):
            raise ValueError("expected row indices in int64 and traces in float64")
        if traces.shape != rows.shape or rows.min() < 0 or len(rows.unique()) < len(rows):
            raise ValueError("expected distinct row indices, and one trace for each")
        if not (traces.isfinite().all() and traces.min() >= 0 and steps >= 0):
            raise ValueError("expected finite traces of 0 or more")
        return TrackedLeakage(rows, FisherLeakage(traces, int(meta["coordinates"]), steps))
    except (KeyError, ValueError, UsageError) as error:
        raise InputError(f"is damaged: {error}", remedy="Remove the file", file=run.leakage) from error
