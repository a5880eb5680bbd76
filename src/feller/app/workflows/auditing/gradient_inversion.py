"""Gradient inversion attack: reconstruction of rows from noisy gradients, compared with theoretical bounds."""

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
"""Maximum number of random draws of (time, source noise) per row in the attack that combines all training steps."""
DIRECTIONS = 64
"""Maximum number of principal directions in which a row is reconstructed."""
MAX_JACOBIAN_NUMBERS = 2**25
"""Maximum number of entries of the Jacobian of gradients with respect to rows, which is held in memory."""
UNCLIPPED_NORM = 1e30
"""Clipping norm larger than any gradient norm, which disables clipping."""
NOISES, FEWEST, STARTS, EASY_WORK = 8, 2, 4, 2**18
"""Maximum and minimum number of privacy noise draws, starting points per optimisation, and maximum of (weights x
draws) for a fast attack."""


@dataclass(frozen=True, eq=False)
class InversionAttempts:
    """Results of gradient inversion: one outcome per attacked row and attack."""

    single_step: list[AttackOutcome]
    """Outcome for each row of the attack on one training step whose batch contains the row."""
    all_steps: list[AttackOutcome]
    """Outcome for each row of the attack on `steps_per_row` training steps whose batches contain the row."""
    steps_per_row: int
    """Average number of steps whose batch contains a given row."""


class GradientInversion:
    """Gradient inversion attack on some training rows of a run.

    Args:
        network: Trained network, at whose weights gradients are computed.
        objective: Training objective.
        train: Training set, from which the attacker's prior of a row is estimated.
        indices: Indices of the rows to attack in the training set.
        guarantee: DP-SGD settings of the run: noise, clipping norm, batch size and number of rows.
        rng: Source of random numbers.

    Raises:
        UsageError: If the rows have no numeric values.
    """

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
        train_values = numeric_leaf(train.modality.encode(train.values))
        values = numeric_leaf(self.state)
        if train_values is None or values is None:
            raise UsageError("gradient inversion needs rows with numeric values")
        self.size = sum(weight.numel() for weight in trainable_params(network).values())
        self.max_directions = max(1, min(DIRECTIONS, MAX_JACOBIAN_NUMBERS // (ROUNDS * self.size)))
        self.shape = values.shape[1:]
        self.rows = values.flatten(1)
        self.prior = RowPrior.fit(train_values.flatten(1).to(device), self.max_directions)
        clip = make_clip_fn(guarantee)
        clip_norm = guarantee.clip if isinstance(clip, FixedClipNorm) else self._median_norm()
        self.clip, self.scale = clip_norm, clip.sum_sigma(guarantee.sigma) * clip_norm

    def add_gaussian(self, rounds: int, only: int | None = None, clip: float | None = None) -> ClippedGradientFn:
        """Return a function from rows to their clipped gradients, at random draws of (time, source noise).

        Args:
            rounds: Number of random draws per row.
            only: Position of the only row to use; None for all attacked rows.
            clip: Clipping norm; None for that of the run.
        """
        selection = slice(None) if only is None else slice(only, only + 1)
        rng = replace(self.rng.fold_in("met"), first_example=0 if only is None else only * rounds)

        def repeat_rows(leaf: Tensor) -> Tensor:
            return leaf[selection].repeat_interleave(rounds, 0)

        cond = tree_map(repeat_rows, self.cond)

        def build_example(z: Tensor) -> Any:
            x = z.unflatten(1, self.shape).repeat_interleave(rounds, 0)
            x_1 = {**tree_map(repeat_rows, self.state), NUMBERS: x} if isinstance(self.state, dict) else x
            return self.objective.draw({"x_1": x_1, "given": cond}, rng, self.network)

        return ClippedGradientFn(self.objective.loss, self.network, clip or self.clip, build_example)

    def _median_norm(self) -> float:
        """Return the median gradient norm, to which an adaptive clipping norm converges."""
        return self.add_gaussian(1, clip=UNCLIPPED_NORM)(self.rows).norm(dim=1).median().item()

    def run(self, steps: int) -> InversionAttempts:
        """Attack each row twice: from the gradient of one training step, and from the gradients of several steps.

        The number of these steps is the average number of the run's training steps, `steps` in total, whose batch
        contains a given row.
        """
        steps_per_row = max(1, round(self.planned.batch / self.planned.n * steps))
        num_draws = max(FEWEST, min(NOISES, EASY_WORK // self.size))
        num_starts = max(1, min(STARTS, EASY_WORK // (2 * self.size)))
        settings = {"one": (1, self.scale)}
        rounds = min(ROUNDS, steps_per_row)
        settings["all"] = (rounds, self.scale * (rounds / steps_per_row) ** 0.5)
        outcomes = []
        for name, (rounds, scale) in settings.items():
            grams = [
                step_information(self.add_gaussian(rounds, i), self.rows[i : i + 1], self.prior, rounds).sum(0)
                for i in range(len(self.rows))
            ]
            generator = self.rng.stream(f"noise of {name}").shared_generator()
            information = torch.stack(grams) / scale**2
            outcomes.append(
                attack_rows(
                    self.add_gaussian(rounds),
                    self.rows,
                    scale,
                    self.prior,
                    information,
                    generator,
                    num_draws,
                    num_starts,
                )
            )
        return InversionAttempts(outcomes[0], outcomes[1], steps_per_row)


SHOWN = 5
"""Maximum number of attacked rows shown as images."""
HEAD = ("row", "one step", "least, one step", "all steps", "least, all steps", "without bias", "least without bias")
WORDS = (
    "Reconstruction of random rows. The attacker knows all other rows, the last weights, the labels, the random numbers"
    " of each row, a Gaussian prior of the rows, and which steps used a row. It uses the noisy sum of one step, or of"
    " as many steps as use a row on average, all computed at the last weights. Errors are mean squared errors over the"
    " directions in which rows vary; `least` columns are their lower bounds. The mean error over all rows is below its"
    " bound by chance only. The error of a single row can be below: its bound is the average over rows with equal"
    " Fisher information. The attack without bias is one Gauss-Newton step from the true row, using all steps."
)
CAPTION = (
    "Rows, and their reconstructions from one private step and from all steps: mean squared error, and in brackets the"
    " lower bound of the average over rows with equal Fisher information"
)


def summarize(attack: GradientInversion, attempts: InversionAttempts) -> AttackResults:
    """Return metrics, a table and images for the report, from the outcomes `attempts` of an attack."""
    single_step, all_steps, steps_per_row = attempts.single_step, attempts.all_steps, attempts.steps_per_row
    single_scores = reconstruction_scores(single_step, attack.prior)
    all_scores = reconstruction_scores(all_steps, attack.prior)
    mean_variance = attack.prior.variances.mean().item()
    metrics: dict[str, float | None] = {
        "inversion_error": all_scores.error,
        "inversion_bound": all_scores.bound,
        "inversion_doubt": all_scores.standard_error,
        "inversion_spread": mean_variance,
        "inversion_step_error": single_scores.error,
        "inversion_step_bound": single_scores.bound,
        "inversion_unbiased": all_scores.unbiased,
        "inversion_unbiased_bound": all_scores.unbiased_bound,
        "inversion_steps": float(steps_per_row),
        "inversion_rows": float(len(attack.indices)),
        "inversion_below": float(single_scores.num_violations + all_scores.num_violations),
    }
    notes = _notes(len(attack.prior.variances), attack.max_directions, attack.rows.shape[1])
    grids = (_grid(attack, single_step, all_steps, single_scores, all_scores),)
    return AttackResults(metrics, notes=notes, grids=grids, pictures=_pictures(attack, single_step, all_steps))


def _grid(
    attack: GradientInversion,
    single_step: list[AttackOutcome],
    all_steps: list[AttackOutcome],
    single_scores: ReconstructionScores,
    all_scores: ReconstructionScores,
) -> ReportTable:
    means = (
        "mean",
        single_scores.error,
        single_scores.bound,
        all_scores.error,
        all_scores.bound,
        all_scores.unbiased,
        all_scores.unbiased_bound,
    )
    rows = [
        (
            f"{index}",
            a.errors.mean().item(),
            a.van_trees_bound(attack.prior),
            b.errors.mean().item(),
            b.van_trees_bound(attack.prior),
            b.unbiased.mean().item(),
            b.min_unbiased_error,
        )
        for index, a, b in zip(attack.indices.tolist(), single_step, all_steps, strict=True)
    ]
    return ReportTable("Rows that are read from gradients", WORDS, HEAD, [means, *rows])


def _pictures(
    attack: GradientInversion, single_step: list[AttackOutcome], all_steps: list[AttackOutcome]
) -> tuple[tuple[str, ReportPicture], ...]:
    if (images := attack.dataset.modality.view(Images)) is None:
        return ()

    def decode(rows: Float64[Tensor, "n d"]) -> Tensor:
        return images.decode(rows.reshape(-1, *attack.shape).float().cpu())

    def labels(outcomes: Sequence[AttackOutcome]) -> list[str]:
        return [f"{outcome.errors[0].item():.2f} ({outcome.van_trees_bound(attack.prior):.2f})" for outcome in outcomes]

    selected = slice(0, SHOWN)
    image_rows = [
        (attack.dataset.values[selected], [f"row {index}" for index in attack.indices[selected].tolist()]),
        (decode(torch.stack([outcome.estimate for outcome in single_step[selected]])), labels(single_step[selected])),
        (decode(torch.stack([outcome.estimate for outcome in all_steps[selected]])), labels(all_steps[selected])),
    ]
    return ((CAPTION, plot_reconstructions(images, image_rows)),)


def _notes(directions: int, max_directions: int, dim: int) -> tuple[str, ...]:
    if directions < max_directions or directions == dim:
        return ()
    return (
        f"rows are reconstructed in the {directions} principal directions; the attacker knows the"
        f" {dim - directions} others",
    )


ROWS, MIN_ROWS = 16, 4
"""Number of rows to attack, and the minimum to which this number is reduced for large networks."""
MAX_GRADIENT_NUMBERS = 2**27
"""Maximum number of gradient entries held in memory."""
MAX_WEIGHTS = 2**23
"""Maximum number of weights of a network to attack."""


def invert(target: AuditTarget, rng: Rng, reporter: Reporter) -> AttackResults:
    """Reconstruct rows from noisy gradients at the final weights of the run; the results are empty without DP-SGD."""
    run, objective, train, guarantee = target.run, target.objective, target.train, target.record.provenance.private
    if not isinstance(guarantee, Guarantee):
        return AttackResults({})
    network = load_model(run, file=run.weights).network.to(get_engine().device)
    if objective is None or (reason := _unsupported_reason(network, train)):
        reason = "the loss of this model needs its teacher model" if objective is None else reason
        return AttackResults({}, notes=(f"gradient inversion skipped: {reason}",))
    if guarantee.bands > 1:
        return AttackResults({}, notes=("gradient inversion skipped: it supports only independent noise",))
    reporter.start("gradient inversion")
    num_weights = sum(weight.numel() for weight in trainable_params(network).values())
    num_rows = min(ROWS, max(MIN_ROWS, MAX_GRADIENT_NUMBERS // (ROUNDS * FEWEST * num_weights)))
    indices = torch.randperm(len(train), generator=rng.stream("rows").shared_generator())[:num_rows].sort().values
    attack = GradientInversion(network, objective, train, indices, guarantee, rng)
    results = summarize(attack, attack.run(read_counters(run)["step"]))
    reporter.finish()
    return results


def _unsupported_reason(network: nn.Module, train: Dataset) -> str:
    """Return the reason why the attack does not apply; empty if it does."""
    values = numeric_leaf(train.modality.encode(train.values))
    if values is None:
        return "the model encodes rows as tokens"
    if not values.flatten(1).double().var(0, correction=0).any():
        return "all rows are equal"
    if not _is_flat(train.modality.space()):
        return "rows are points of a curved space"
    if nonsmooth := nonsmooth_layers(network):
        return f"{nonsmooth[0]} is not smooth, so Fisher information does not bound the leakage"
    num_weights = sum(weight.numel() for weight in trainable_params(network).values())
    return f"its {num_weights:,} weights exceed the limit of {MAX_WEIGHTS:,}" if num_weights > MAX_WEIGHTS else ""


def _is_flat(space: Space) -> bool:
    return isinstance(space.leaf_spaces.get(NUMBERS) if isinstance(space, Product) else space, Euclidean)
