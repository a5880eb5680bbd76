"""What a private training tells about some of its rows, kept beside the run for whoever holds the rows."""

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
"""Leaf of a state of several that holds numbers, where others hold symbols."""


@dataclass(frozen=True, eq=False)
class TrackedLeakage:
    """Rows by their places in what was learned from, and what was told about each."""

    rows: Int64[Tensor, " b"]
    leakage: FisherLeakage

    def scaled_to(self, steps: int) -> Float64[Tensor, " b"]:
        """Return the information per number of all steps, where only some were looked at."""
        return self.leakage.eta2 * steps / max(1, self.leakage.steps)


def check_tracking(count: int, rows: Dataset, network: nn.Module, privacy_plan: object) -> None:
    """Refuse to watch what has no slopes."""
    if not isinstance(privacy_plan, Guarantee):
        raise UsageError(
            "watches a private training; it goes with --epsilon, and with recipes that take steps", argument="audit"
        )
    check_rows(count, rows)
    if sharp := nonsmooth_layers(network):
        raise UsageError(
            f"{sharp[0]} jumps in its slope, so that no information bounds what is told",
            remedy="Leave it out",
            argument="audit",
        )


def check_rows(count: int, rows: Dataset) -> None:
    """Refuse to watch rows that are fewer, or symbols; of one row no more than its form is looked at."""
    if not 0 < count <= len(rows):
        raise UsageError(f"fisher takes a number of rows from 1 to {len(rows):,}", found=count, argument="audit")
    if numeric_leaf(rows.modality.encode(rows.values[:1] if isinstance(rows.values, Tensor) else rows.values)) is None:
        raise UsageError(
            f"rows of {rows.modality.display_name} are symbols to this recipe, about which Fisher information says"
            " nothing",
            remedy="Leave it out: `feller audit` bounds how well each column is guessed",
            argument="audit",
        )


def numeric_leaf(state: Any) -> Tensor | None:
    """Return the numbers of a state; None where it has none."""
    leaf = state.get(NUMBERS) if isinstance(state, dict) else state
    return leaf if isinstance(leaf, Tensor) and leaf.is_floating_point() else None


def make_tracker(
    run: Run, count: int, rows: Dataset, objective: Objective, guarantee: Guarantee, seed: int, device: torch.device
) -> tuple[LeakageTracker, Int64[Tensor, " b"]]:
    """Return the account of some rows, chosen by their places alone, and these; it goes on where one is there."""
    generator = Rng(seed).fold_in("watched").stream("rows").shared_generator()
    which = torch.randperm(len(rows), generator=generator)[:count].sort().values
    some = rows.subset(which)
    state = tree_map(lambda leaf: leaf.to(device), rows.modality.encode(some.values))
    cond = tree_map(lambda leaf: leaf.to(device), some.given)
    rng = Rng(seed).fold_in("watched")

    def build(network: nn.Module, step: int) -> Any:
        def example(z: Tensor) -> Any:
            x_1 = {**state, NUMBERS: z} if isinstance(state, dict) else z
            return objective.draw({"x_1": x_1, "given": cond}, rng.fold_in("example", step), network)

        return example

    z = numeric_leaf(state)
    if z is None:
        raise UsageError("these rows have no numbers to watch")
    watch = LeakageTracker(z, build, rate=guarantee.batch / guarantee.n, rng=rng)
    before = read_leakage(run)
    if before is not None and torch.equal(before.rows, which):
        watch.restore(before.leakage, before.leakage.steps)
    return watch, which


def write_leakage(run: Run, rows: Int64[Tensor, " b"], leakage: FisherLeakage) -> None:
    """Write what was told so far."""
    tensors = {"rows": rows, "traces": leakage.traces}
    save_tensors(run.leakage, tensors, {"coordinates": str(leakage.dim), "steps": str(leakage.steps)})


def read_leakage(run: Run) -> TrackedLeakage | None:
    """Return what a run told about the rows that were watched; None where none were.

    Raises:
        InputError: If the file is damaged.
    """
    if not run.leakage.is_file():
        return None
    tensors, note = load_tensors(run.leakage)
    try:
        rows, traces, steps = tensors["rows"], tensors["traces"], int(note["steps"])
        _check(rows, traces, steps)
        return TrackedLeakage(rows, FisherLeakage(traces, int(note["coordinates"]), steps))
    except (KeyError, ValueError, UsageError) as error:
        raise InputError(f"is damaged: {error}", remedy="Remove it", file=run.leakage) from error


def _check(rows: Tensor, traces: Tensor, steps: int) -> None:
    """Refuse an account that no training writes."""
    if rows.dtype != torch.int64 or traces.dtype != torch.float64 or rows.ndim != 1 or not len(rows):
        raise ValueError("expected whole numbers of rows, and a number of 64 bits for each")
    if traces.shape != rows.shape or rows.min() < 0 or len(rows.unique()) < len(rows):
        raise ValueError("expected different rows, and one number for each")
    if not (traces.isfinite().all() and traces.min() >= 0 and steps >= 0):
        raise ValueError("what was told about a row must be finite and 0 or more")
