"""Gradient inversion: rows reconstructed from private gradients, next to the bounds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float64, Int64
from torch import Tensor, nn

from feller.app.reporter import Reporter
from feller.app.workflows.auditing.attacks import AttackResults
from feller.app.workflows.auditing.audit_target import AuditTarget
from feller.app.workflows.private.leakage_report import NUMBERS, numeric_leaf
from feller.app.workflows.private.privacy_config import Guarantee
from feller.app.workflows.private.private_training import make_clip_fn
from feller.core.errors import UsageError
from feller.core.pytree import tree_map
from feller.core.rng import Rng
from feller.data.images.modality import Images
from feller.data.modality import Dataset
from feller.evaluation.attacks.gradient_releases import ClippedGradientFn
from feller.evaluation.attacks.reconstruction import (
    AttackOutcome,
    ReconstructionScores,
    RowPrior,
    attack_rows,
    reconstruction_scores,
    step_information,
)
from feller.evaluation.report.embedded_picture import ReportPicture
from feller.evaluation.report.leakage_plots import plot_reconstructions
from feller.evaluation.report.report_page import ReportTable
from feller.models.model import load_model
from feller.privacy.dp_sgd.clip_norm import FixedClipNorm
from feller.privacy.dp_sgd.per_example_clipping import trainable_params
from feller.privacy.leakage.gradient_sensitivity import nonsmooth_layers
from feller.spaces import Euclidean, Product, Space
from feller.training.checkpoint import read_counters
from feller.training.engine import get_engine
from feller.training.objective import Objective

ROUNDS = 2
"""Random numbers of each row in what all steps tell, each as often."""
DIRECTIONS = 64
"""In which a row is looked for, at most."""
MAX_JACOBIAN_NUMBERS = 2**25
"""Numbers of a Jacobian that is laid out."""
UNCLIPPED_NORM = 1e30
"""A clip norm that no gradient reaches."""
NOISES, FEWEST, STARTS, EASY_WORK = 8, 2, 4, 2**18
"""Draws of the noise at most and at least, starts of each search, and weights times draws that are quick."""


@dataclass(frozen=True, eq=False)
class InversionAttempts:
    """What attacks on some rows came to."""

    single_step: list[AttackOutcome]
    """By one step that holds each row."""
    all_steps: list[AttackOutcome]
    """By as many as hold a row on average."""
    steps_per_row: int
    """So many."""


class GradientInversion:
    """Some rows of a run, and what its steps would tell of them."""

    def __init__(
        self,
        network: nn.Module,
        objective: Objective,
        train: Dataset,
        indices: Int64[Tensor, " n"],
        guarantee: Guarantee,
        rng: Rng,
    ) -> None:
        device = next(network.parameters()).device
        self.network, self.objective, self.indices, self.rng = network, objective, indices, rng
        self.dataset, self.planned, self.device = train.subset(indices), guarantee, device
        self.state = tree_map(lambda leaf: leaf.to(device), train.modality.encode(self.dataset.values))
        self.cond = tree_map(lambda leaf: leaf.to(device), self.dataset.given)
        everything = numeric_leaf(train.modality.encode(train.values))
        numbers = numeric_leaf(self.state)
        if everything is None or numbers is None:
            raise UsageError("these rows have no numbers to be read")
        self.size = sum(weight.numel() for weight in trainable_params(network).values())
        self.max_directions = max(1, min(DIRECTIONS, MAX_JACOBIAN_NUMBERS // (ROUNDS * self.size)))
        self.shape = numbers.shape[1:]
        self.rows = numbers.flatten(1)
        self.prior = RowPrior.fit(everything.flatten(1).to(device), self.max_directions)
        clip = make_clip_fn(guarantee)
        norm = guarantee.clip if isinstance(clip, FixedClipNorm) else self._median_norm()
        self.clip, self.scale = norm, clip.sum_sigma(guarantee.sigma) * norm

    def add_gaussian(self, rounds: int, only: int | None = None, clip: float | None = None) -> ClippedGradientFn:
        """Return what rows, or only one of them, add to as many steps."""
        which = slice(None) if only is None else slice(only, only + 1)
        draws = replace(self.rng.fold_in("met"), first_example=0 if only is None else only * rounds)

        def several(leaf: Tensor) -> Tensor:
            return leaf[which].repeat_interleave(rounds, 0)

        given = tree_map(several, self.cond)

        def spell(z: Tensor) -> Any:
            x = z.unflatten(1, self.shape).repeat_interleave(rounds, 0)
            x_1 = {**tree_map(several, self.state), NUMBERS: x} if isinstance(self.state, dict) else x
            return self.objective.draw({"x_1": x_1, "given": given}, draws, self.network)

        return ClippedGradientFn(self.objective.loss, self.network, clip or self.clip, spell)

    def _median_norm(self) -> float:
        """Return the middle of the lengths of gradients, which a clip norm that adapts follows."""
        return self.add_gaussian(1, clip=UNCLIPPED_NORM)(self.rows).norm(dim=1).median().item()

    def run(self, steps: int) -> InversionAttempts:
        """Attack by one step, and by all steps that hold a row on average."""
        held = max(1, round(self.planned.batch / self.planned.n * steps))
        count, starts = (
            max(FEWEST, min(NOISES, EASY_WORK // self.size)),
            max(1, min(STARTS, EASY_WORK // (2 * self.size))),
        )
        ways = {"one": (1, self.scale)}
        rounds = min(ROUNDS, held)
        ways["all"] = (rounds, self.scale * (rounds / held) ** 0.5)
        several = []
        for name, (rounds, scale) in ways.items():
            grams = [
                step_information(self.add_gaussian(rounds, i), self.rows[i : i + 1], self.prior, rounds).sum(0)
                for i in range(len(self.rows))
            ]
            generator = self.rng.stream(f"noise of {name}").shared_generator()
            information = torch.stack(grams) / scale**2
            several.append(
                attack_rows(
                    self.add_gaussian(rounds), self.rows, scale, self.prior, information, generator, count, starts
                )
            )
        return InversionAttempts(several[0], several[1], held)


SHOWN = 5
"""Rows of which pictures are shown."""
HEAD = ("row", "one step", "least, one step", "all steps", "least, all steps", "without bias", "least without bias")
WORDS = (
    "Rows chosen at random, as read by who knows all other rows, the last weights, labels, the random numbers that a"
    " row meets, what rows look like (a normal law), and in which steps a row was: from the noisy sum of one step, and"
    " from those of all steps that hold a row on average, as if taken at the last weights. Errors are squared, means"
    " over the directions in which rows vary. The mean error of who knows what rows look like lies below its bound by"
    " chance alone; that of a single row can, and stands beside the bound for rows of which as much is told. Without"
    " bias means one step of Gauss and Newton from the truth itself, from all steps."
)
CAPTION = (
    "Rows, what is read of them from one private step, and from all steps: squared error, and in brackets the least"
    " mean error over rows of which as much is told"
)


def summarize(attack: GradientInversion, attempts: InversionAttempts) -> AttackResults:
    """Put numbers, a table and pictures together."""
    one, every, held = attempts.single_step, attempts.all_steps, attempts.steps_per_row
    first, last, spread = (
        reconstruction_scores(one, attack.prior),
        reconstruction_scores(every, attack.prior),
        attack.prior.variances.mean().item(),
    )
    numbers: dict[str, float | None] = {
        "inversion_error": last.error,
        "inversion_bound": last.bound,
        "inversion_doubt": last.standard_error,
        "inversion_spread": spread,
        "inversion_step_error": first.error,
        "inversion_step_bound": first.bound,
        "inversion_unbiased": last.unbiased,
        "inversion_unbiased_bound": last.unbiased_bound,
        "inversion_steps": float(held),
        "inversion_rows": float(len(attack.indices)),
        "inversion_below": float(first.num_violations + last.num_violations),
    }
    notes = _notes(len(attack.prior.variances), attack.max_directions, attack.rows.shape[1])
    grids = (_grid(attack, one, every, first, last),)
    return AttackResults(numbers, notes=notes, grids=grids, pictures=_pictures(attack, one, every))


def _grid(
    attack: GradientInversion,
    one: list[AttackOutcome],
    every: list[AttackOutcome],
    first: ReconstructionScores,
    last: ReconstructionScores,
) -> ReportTable:
    means = ("mean", first.error, first.bound, last.error, last.bound, last.unbiased, last.unbiased_bound)
    rows = [
        (
            f"{number}",
            a.errors.mean().item(),
            a.van_trees_bound(attack.prior),
            b.errors.mean().item(),
            b.van_trees_bound(attack.prior),
            b.unbiased.mean().item(),
            b.min_unbiased_error,
        )
        for number, a, b in zip(attack.indices.tolist(), one, every, strict=True)
    ]
    return ReportTable("Rows that are read from gradients", WORDS, HEAD, [means, *rows])


def _pictures(
    attack: GradientInversion, one: list[AttackOutcome], every: list[AttackOutcome]
) -> tuple[tuple[str, ReportPicture], ...]:
    if (kind := attack.dataset.modality.view(Images)) is None:
        return ()

    def values(rows: Float64[Tensor, "n d"]) -> Tensor:
        return kind.decode(rows.reshape(-1, *attack.shape).float().cpu())

    def names(several: Sequence[AttackOutcome]) -> list[str]:
        return [f"{each.errors[0].item():.2f} ({each.van_trees_bound(attack.prior):.2f})" for each in several]

    shown = slice(0, SHOWN)
    lines = [
        (attack.dataset.values[shown], [f"row {number}" for number in attack.indices[shown].tolist()]),
        (values(torch.stack([each.estimate for each in one[shown]])), names(one[shown])),
        (values(torch.stack([each.estimate for each in every[shown]])), names(every[shown])),
    ]
    return ((CAPTION, plot_reconstructions(kind, lines)),)


def _notes(directions: int, max_directions: int, numbers: int) -> tuple[str, ...]:
    """Say what an attacker is given of rows that have more directions than are looked at."""
    if directions < max_directions or directions == numbers:
        return ()
    return (
        f"rows are read in the {directions} directions in which they vary most; of the {numbers - directions} others,"
        " all that they hold is given to the attacker",
    )


ROWS, MIN_ROWS = 16, 4
"""That are attacked, and at least for a large network."""
MAX_GRADIENT_NUMBERS = 2**27
"""Numbers of gradients that are held at once."""
MAX_WEIGHTS = 2**23
"""Weights of a network beyond which none is tried."""


def invert(target: AuditTarget, rng: Rng, reporter: Reporter) -> AttackResults:
    """Attack rows with what private steps at the run's last weights would tell of them.

    Args:
        target: A private run.
        rng: Source of all randomness.
        reporter: Hears how it goes.
    """
    run, objective, train, guarantee = target.run, target.objective, target.train, target.record.provenance.private
    if not isinstance(guarantee, Guarantee):
        return AttackResults({})
    network = load_model(run, file=run.weights).network.to(get_engine().device)
    if objective is None or (why := _unsupported_reason(network, train)):
        why = "the loss of this model needs an older model" if objective is None else why
        return AttackResults({}, notes=(f"no row is read from gradients: {why}",))
    reporter.start("reading rows from gradients")
    size = sum(weight.numel() for weight in trainable_params(network).values())
    count = min(ROWS, max(MIN_ROWS, MAX_GRADIENT_NUMBERS // (ROUNDS * FEWEST * size)))
    which = torch.randperm(len(train), generator=rng.stream("rows").shared_generator())[:count].sort().values
    attack = GradientInversion(network, objective, train, which, guarantee, rng)
    results = summarize(attack, attack.run(read_counters(run)["step"]))
    reporter.finish()
    return results


def _unsupported_reason(network: nn.Module, train: Dataset) -> str:
    """Say why gradients cannot be inverted; nothing where they can."""
    numbers = numeric_leaf(train.modality.encode(train.values))
    if numbers is None:
        return "rows are symbols to this model"
    if not numbers.flatten(1).double().var(0, correction=0).any():
        return "all rows are alike"
    if not _is_flat(train.modality.space()):
        return "rows are points of a curved space"
    if sharp := nonsmooth_layers(network):
        return f"{sharp[0]} jumps in its slope, so that no information bounds what is told"
    size = sum(weight.numel() for weight in trainable_params(network).values())
    return f"its {size:,} weights are too many to lay out" if size > MAX_WEIGHTS else ""


def _is_flat(space: Space) -> bool:
    return isinstance(space.leaf_spaces.get(NUMBERS) if isinstance(space, Product) else space, Euclidean)
