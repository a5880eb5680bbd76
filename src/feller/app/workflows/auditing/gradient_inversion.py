"""Gradient inversion: rows reconstructed from private gradients, next to the bounds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float64, Int64
from torch import Tensor, nn

from feller.app.reporter import Tell
from feller.app.workflows.auditing.attacks import Attacked
from feller.app.workflows.auditing.audit_target import Opened
from feller.app.workflows.private.leakage_report import NUMBERS, numbers_of
from feller.app.workflows.private.privacy_config import Guarantee
from feller.app.workflows.private.private_training import clip_of
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
SLOPES = 2**25
"""Numbers of a Jacobian that is laid out."""
LONG = 1e30
"""A clip norm that no gradient reaches."""
NOISES, FEWEST, STARTS, EASY = 8, 2, 4, 2**18
"""Draws of the noise at most and at least, starts of each search, and weights times draws that are quick."""


@dataclass(frozen=True, eq=False)
class Attacks:
    """What attacks on some rows came to."""

    one: list[AttackOutcome]
    """By one step that holds each row."""
    every: list[AttackOutcome]
    """By as many as hold a row on average."""
    held: int
    """So many."""


class Attack:
    """Some rows of a run, and what its steps would tell of them."""

    def __init__(
        self,
        network: nn.Module,
        objective: Objective,
        train: Dataset,
        which: Int64[Tensor, " n"],
        planned: Guarantee,
        draws: Rng,
    ) -> None:
        device = next(network.parameters()).device
        self.network, self.objective, self.which, self.draws = network, objective, which, draws
        self.some, self.planned, self.device = train.subset(which), planned, device
        self.state = tree_map(lambda leaf: leaf.to(device), train.modality.encode(self.some.values))
        self.given = tree_map(lambda leaf: leaf.to(device), self.some.given)
        everything = numbers_of(train.modality.encode(train.values))
        numbers = numbers_of(self.state)
        if everything is None or numbers is None:
            raise UsageError("these rows have no numbers to be read")
        self.size = sum(weight.numel() for weight in trainable_params(network).values())
        self.most = max(1, min(DIRECTIONS, SLOPES // (ROUNDS * self.size)))
        self.shape = numbers.shape[1:]
        self.rows = numbers.flatten(1)
        self.law = RowPrior.fit(everything.flatten(1).to(device), self.most)
        clip = clip_of(planned)
        norm = planned.clip if isinstance(clip, FixedClipNorm) else self._middle()
        self.clip, self.scale = norm, clip.sum_sigma(planned.sigma) * norm

    def add_gaussian(self, rounds: int, only: int | None = None, clip: float | None = None) -> ClippedGradientFn:
        """Return what rows, or only one of them, add to as many steps."""
        which = slice(None) if only is None else slice(only, only + 1)
        draws = replace(self.draws.fold_in("met"), first_example=0 if only is None else only * rounds)

        def several(leaf: Tensor) -> Tensor:
            return leaf[which].repeat_interleave(rounds, 0)

        given = tree_map(several, self.given)

        def spell(z: Tensor) -> Any:
            x = z.unflatten(1, self.shape).repeat_interleave(rounds, 0)
            x_1 = {**tree_map(several, self.state), NUMBERS: x} if isinstance(self.state, dict) else x
            return self.objective.draw({"x_1": x_1, "given": given}, draws, self.network)

        return ClippedGradientFn(self.objective.loss, self.network, clip or self.clip, spell)

    def _middle(self) -> float:
        """Return the middle of the lengths of gradients, which a clip norm that adapts follows."""
        return self.add_gaussian(1, clip=LONG)(self.rows).norm(dim=1).median().item()

    def found(self, steps: int) -> Attacks:
        """Attack by one step, and by all steps that hold a row on average."""
        held = max(1, round(self.planned.batch / self.planned.n * steps))
        count, starts = max(FEWEST, min(NOISES, EASY // self.size)), max(1, min(STARTS, EASY // (2 * self.size)))
        ways = {"one": (1, self.scale)}
        rounds = min(ROUNDS, held)
        ways["all"] = (rounds, self.scale * (rounds / held) ** 0.5)
        several = []
        for name, (rounds, scale) in ways.items():
            grams = [
                step_information(self.add_gaussian(rounds, i), self.rows[i : i + 1], self.law, rounds).sum(0)
                for i in range(len(self.rows))
            ]
            generator = self.draws.stream(f"noise of {name}").shared_generator()
            information = torch.stack(grams) / scale**2
            several.append(
                attack_rows(
                    self.add_gaussian(rounds), self.rows, scale, self.law, information, generator, count, starts
                )
            )
        return Attacks(several[0], several[1], held)


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


def told(attack: Attack, found: Attacks) -> Attacked:
    """Put numbers, a table and pictures together."""
    one, every, held = found.one, found.every, found.held
    first, last, spread = (
        reconstruction_scores(one, attack.law),
        reconstruction_scores(every, attack.law),
        attack.law.variances.mean().item(),
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
        "inversion_rows": float(len(attack.which)),
        "inversion_below": float(first.num_violations + last.num_violations),
    }
    notes = _notes(len(attack.law.variances), attack.most, attack.rows.shape[1])
    grids = (_grid(attack, one, every, first, last),)
    return Attacked(numbers, notes=notes, grids=grids, pictures=_pictures(attack, one, every))


def _grid(
    attack: Attack,
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
            a.van_trees_bound(attack.law),
            b.errors.mean().item(),
            b.van_trees_bound(attack.law),
            b.unbiased.mean().item(),
            b.min_unbiased_error,
        )
        for number, a, b in zip(attack.which.tolist(), one, every, strict=True)
    ]
    return ReportTable("Rows that are read from gradients", WORDS, HEAD, [means, *rows])


def _pictures(
    attack: Attack, one: list[AttackOutcome], every: list[AttackOutcome]
) -> tuple[tuple[str, ReportPicture], ...]:
    if (kind := attack.some.modality.view(Images)) is None:
        return ()

    def values(rows: Float64[Tensor, "n d"]) -> Tensor:
        return kind.decode(rows.reshape(-1, *attack.shape).float().cpu())

    def names(several: Sequence[AttackOutcome]) -> list[str]:
        return [f"{each.errors[0].item():.2f} ({each.van_trees_bound(attack.law):.2f})" for each in several]

    shown = slice(0, SHOWN)
    lines = [
        (attack.some.values[shown], [f"row {number}" for number in attack.which[shown].tolist()]),
        (values(torch.stack([each.estimate for each in one[shown]])), names(one[shown])),
        (values(torch.stack([each.estimate for each in every[shown]])), names(every[shown])),
    ]
    return ((CAPTION, plot_reconstructions(kind, lines)),)


def _notes(directions: int, most: int, numbers: int) -> tuple[str, ...]:
    """Say what an attacker is given of rows that have more directions than are looked at."""
    if directions < most or directions == numbers:
        return ()
    return (
        f"rows are read in the {directions} directions in which they vary most; of the {numbers - directions} others,"
        " all that they hold is given to the attacker",
    )


ROWS, LEAST = 16, 4
"""That are attacked, and at least for a large network."""
SPACE = 2**27
"""Numbers of gradients that are held at once."""
LARGEST = 2**23
"""Weights of a network beyond which none is tried."""


def invert(it: Opened, draws: Rng, tell: Tell) -> Attacked:
    """Attack rows with what private steps at the run's last weights would tell of them.

    Args:
        it: A private run.
        draws: Source of all randomness.
        tell: Hears how it goes.
    """
    run, objective, train, planned = it.run, it.objective, it.train, it.asked.provenance.private
    if not isinstance(planned, Guarantee):
        return Attacked({})
    network = load_model(run, file=run.weights).network.to(get_engine().device)
    if objective is None or (why := _why_not(network, train)):
        why = "the loss of this model needs an older model" if objective is None else why
        return Attacked({}, notes=(f"no row is read from gradients: {why}",))
    tell.task("reading rows from gradients")
    size = sum(weight.numel() for weight in trainable_params(network).values())
    count = min(ROWS, max(LEAST, SPACE // (ROUNDS * FEWEST * size)))
    which = torch.randperm(len(train), generator=draws.stream("rows").shared_generator())[:count].sort().values
    attack = Attack(network, objective, train, which, planned, draws)
    found = told(attack, attack.found(read_counters(run)["step"]))
    tell.done()
    return found


def _why_not(network: nn.Module, train: Dataset) -> str:
    """Say why gradients cannot be inverted; nothing where they can."""
    numbers = numbers_of(train.modality.encode(train.values))
    if numbers is None:
        return "rows are symbols to this model"
    if not numbers.flatten(1).double().var(0, correction=0).any():
        return "all rows are alike"
    if not _is_flat(train.modality.space()):
        return "rows are points of a curved space"
    if sharp := nonsmooth_layers(network):
        return f"{sharp[0]} jumps in its slope, so that no information bounds what is told"
    size = sum(weight.numel() for weight in trainable_params(network).values())
    return f"its {size:,} weights are too many to lay out" if size > LARGEST else ""


def _is_flat(space: Space) -> bool:
    return isinstance(space.leaf_spaces.get(NUMBERS) if isinstance(space, Product) else space, Euclidean)
