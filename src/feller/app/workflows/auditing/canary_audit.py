"""Canary audit: retraining of a run with extra rows (canaries) in its training set, and attacks that detect them."""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from feller.app.reporter import Reporter
from feller.app.workflows.auditing.attacks import AttackResults
from feller.app.workflows.auditing.audit_target import AuditTarget
from feller.app.workflows.auditing.retrain import Retrainer, concatenate_datasets
from feller.app.workflows.private.privacy_config import ClosedFormBudget, Guarantee
from feller.core.errors import UsageError
from feller.core.gradient import Gradient
from feller.core.pytree import Cond, num_examples, tree_map
from feller.core.rng import Rng
from feller.data.images.modality import Images
from feller.data.modality import Dataset, Modality
from feller.data.points.euclidean_points import Points
from feller.data.tables.constraints import repair
from feller.data.tables.histories import Histories
from feller.data.tables.mixed_table import as_table
from feller.data.tables.modality import Table
from feller.evaluation.attacks.attack_scores import canary_scores, identification_scores
from feller.evaluation.attacks.membership import example_losses
from feller.networks.network_config import count_parameters
from feller.privacy.auditing.canaries import AuditedGradient, Canaries, CanaryAttacker, CanaryExamplesFn
from feller.privacy.dp_sgd.private_gradient import DPSGD
from feller.privacy.leakage.rero import rero
from feller.privacy.noise.grid_noise import make_noise
from feller.training.engine import get_engine
from feller.training.objective import Example


def make_canaries(train: Dataset, held_out: Dataset, n: int, rng: Rng) -> Dataset:
    """Generate n canaries: extra rows, of which the audit adds a random selection to the training set.

    Table cells and pixel levels are sampled independently and uniformly from their possible values, and point
    coordinates uniformly from their range. A canary of histories is a person with all of their rows. For other
    modalities the canaries are held-out examples.

    Raises:
        UsageError: If there are fewer than n held-out examples for a modality that uses them.
    """
    modality = train.modality
    values = _random_values(modality, train, n, rng)
    if values is not None:
        cond, targets = modality.add_derived_conditions(_conditions(modality, n, rng)), _targets(train, n, rng)
        return Dataset(values, cond, modality, properties=targets, target=train.target)
    if n > len(held_out):
        raise UsageError(f"at most {len(held_out):,} canary rows, the number of held-out examples", n)
    return held_out.subset(torch.randperm(len(held_out), generator=rng.stream("held out").shared_generator())[:n])


def _random_values(modality: Modality, train: Dataset, n: int, rng: Rng) -> Tensor | None:
    if (table := as_table(train).modality.view(Table)) is not None:
        return _random_rows(table, n, rng)
    if (histories := modality.view(Histories)) is not None and histories.samples_as_frame:  # one table
        persons, steps = _random_rows(histories.persons, n, rng), histories.history.max_rows
        rows = _random_rows(histories.rows, n * steps, rng.fold_in("rows")).view(n, steps, -1)
        is_valid = torch.arange(steps) < persons[:, :1] + histories.history.min_rows
        return torch.cat([persons, (rows * is_valid[..., None]).flatten(1)], 1)
    if (images := modality.view(Images)) is not None:
        shape = (n, *train.values.shape[1:])
        return rng.stream("levels").randint(images.levels + 1, shape).to(train.values.dtype)
    if modality.view(Points) is not None:
        low, high = train.values.amin(0), train.values.amax(0)
        return low + (high - low) * rng.stream("numbers").uniform((n, len(low)), torch.float64).to(low.dtype)
    return None


def _random_rows(table: Table, n: int, rng: Rng) -> Tensor:
    counts = torch.tensor(table.counts)
    u = rng.stream("cells").uniform((n, len(counts)), torch.float64)
    codes = (u * counts).long()
    if not table.schema.pairs:
        return codes
    return torch.from_numpy(repair(codes.numpy(), table.schema.pairs, table.counts))


def _conditions(modality: Modality, n: int, rng: Rng) -> Cond:
    return {name: rng.stream(f"a {name}").randint(len(classes), (n,)) for name, classes in modality.conditions.items()}


def _targets(train: Dataset, n: int, rng: Rng) -> dict[str, Tensor]:
    """Sample the targets of canaries: class labels uniformly, numeric targets from other rows."""
    if train.target is None:
        return {}
    count, targets = len(train.target.classes), {}
    for name in train.target.names:
        stream, values = rng.stream(f"the target {name}"), train.properties[name]
        targets[name] = stream.randint(count, (n,)).double() if count else values[stream.randint(len(values), (n,))]
    return targets


MIN_CANARIES = 32
"""Minimum number of canaries for a meaningful audit."""
CANARIES_PER_PLACE = 4
"""Number of canaries for which there is one reconstruction slot (DP-SGD only).

A reconstruction slot adds one of several candidate rows to the training set; the attacker guesses which one.
"""
CANDIDATES = 10
"""Number of candidate rows per reconstruction slot; without the model, a guess is right with probability 1 / 10."""
MEMORY = 2**28
"""Maximum number of gradient entries in memory, in total over all membership canaries.

A membership canary is in the training set or not, with probability 1/2 each; the attacker guesses which.
"""


@dataclass(frozen=True, eq=False)
class CanaryPlacement:
    """Canary rows, and the random choice of canaries that are in the training set."""

    rows: Dataset
    """Canary rows: first the membership canaries, then the candidate rows of each reconstruction slot."""
    canaries: Canaries

    @property
    def coin_rows(self) -> Dataset:
        """Rows of the membership canaries."""
        return self.rows.subset(torch.arange(len(self.canaries.present)))


def check_canaries(again: Retrainer, train: Dataset, held_out: Dataset, count: int) -> None:
    """Raise an error, before the attacks, if `count` canaries are too few, or if memory or held-out examples are.

    Args:
        again: Retrainer of the run.
        train: Training set of the run.
        held_out: Held-out examples of the run.
        count: Number of canaries: those whose membership is guessed, plus those whose inserted value, one of several
            candidates, is guessed.

    Raises:
        UsageError: If the number is below `MIN_CANARIES`, or above what memory or held-out examples allow.
    """
    if count < MIN_CANARIES:
        raise UsageError(
            f"{MIN_CANARIES} canaries or more", count, "Use more canaries, such as 200", argument="canaries"
        )
    has_slots, problems, max_canaries = _has_visible_gradients(again.privacy_plan), list[str](), count
    if has_slots:
        p = count_parameters(again.description.build(Rng(0)))
        if MEMORY // p < count:
            problems.append(f"the gradients of {count:,} canaries for {p:,} weights need too much memory")
        max_canaries = min(max_canaries, MEMORY // p)
    if _random_values(train.modality, train, 1, Rng(0)) is None:
        n = len(held_out)
        if (rows := num_canary_rows(count, has_slots=has_slots)) > n:
            problems.append(
                f"{count:,} canaries take {rows:,} held-out examples of {train.modality.display_name}, of which there"
                f" are only {n:,}"
            )
        max_canaries = min(max_canaries, n)
        while max_canaries and num_canary_rows(max_canaries, has_slots=has_slots) > n:
            max_canaries -= 1
    if problems:
        raise UsageError(
            "; ".join(problems),
            remedy=f"Use --canaries {max_canaries:,} or fewer"
            if max_canaries >= MIN_CANARIES
            else f"Omit --canaries: at most {max_canaries:,} fit, below the minimum of {MIN_CANARIES}",
        )


def num_canary_rows(count: int, *, has_slots: bool) -> int:
    """Return the number of rows of `count` canaries: one each, and `CANDIDATES` for each reconstruction slot."""
    slots = num_slots(count, has_slots=has_slots)
    return count - slots + CANDIDATES * slots


def num_slots(count: int, *, has_slots: bool) -> int:
    """Return the number of reconstruction slots of `count` canaries."""
    return count // CANARIES_PER_PLACE if has_slots else 0


def place_canaries(again: Retrainer, train: Dataset, held_out: Dataset, count: int, rng: Rng) -> CanaryPlacement:
    """Generate canary rows, and choose at random the canaries that are in the training set.

    Args:
        again: Retrainer of the run.
        train: Training set of the run.
        held_out: Held-out examples of the run.
        count: Number of canaries: those whose membership is guessed, plus those whose inserted value, one of several
            candidates, is guessed.
        rng: Source of random numbers.
    """
    has_slots = _has_visible_gradients(again.privacy_plan)
    slots = num_slots(count, has_slots=has_slots)
    num_coins = count - slots
    rows = make_canaries(train, held_out, num_canary_rows(count, has_slots=has_slots), rng.fold_in("strangers"))
    present = rng.stream("coins").uniform((num_coins,), torch.float64) < 0.5
    chosen = rng.stream("chosen").randint(CANDIDATES, (slots,))
    return CanaryPlacement(rows, Canaries(present, chosen, CANDIDATES))


def canary_attack(
    it: AuditTarget, again: Retrainer, count: int, rng: Rng, reporter: Reporter, *, factor: float = 1.0
) -> AttackResults:
    """Retrain the run with canaries, and detect the canaries by their losses and, for DP-SGD, in the noisy gradients.

    Args:
        it: Run to audit.
        again: Retrainer of the run.
        count: Number of canaries: those whose membership is guessed, plus those whose inserted value, one of several
            candidates, is guessed.
        rng: Source of random numbers.
        reporter: Progress output.
        factor: Factor that multiplies the noise that training adds, but not the noise that the guarantee assumes. If
            it is below 1, the guarantee is wrong, and the audit should detect this.
    """
    placement, privacy_plan = place_canaries(again, it.train, it.held_out, count, rng), again.privacy_plan
    seed, attackers = rng.fold_in("again").seed, list[CanaryAttacker]()
    rows = it.train

    def wrap(gradient: DPSGD) -> Gradient:
        if not attackers:
            return gradient
        private_gradient = DPSGD(sigma=gradient.sigma * factor, clip=gradient.clip, noise=gradient.noise)
        return AuditedGradient(inner=private_gradient, attacker=attackers[0], sigma=gradient.sigma)

    if isinstance(privacy_plan, Guarantee) and _has_visible_gradients(privacy_plan):
        noise = make_noise(privacy_plan.unsafe_seed, "again", seed, "planted")
        attackers.append(
            CanaryAttacker(
                placement.canaries,
                _examples(placement.rows, again, rng),
                rate=privacy_plan.batch / privacy_plan.n,
                noise=noise,
            )
        )
    else:
        rows = concatenate_datasets(it.train, placement.rows.subset(placement.canaries.included))
    reporter.start("retraining with canaries")
    retrained = again.train(rows, seed, wrap=wrap, on_progress=reporter.progress)
    reporter.finish()
    objective, loss_rng = again.objective, rng.fold_in("loss")
    losses_before, losses_after = (
        example_losses(model.network, objective, placement.coin_rows, loss_rng) for model in (it.model, retrained)
    )
    metrics: dict[str, float | None] = {"canaries": float(count)}
    metrics |= canary_scores(losses_before - losses_after, placement.canaries.present, it.delta).with_prefix("planted")
    for attacker in attackers:
        metrics |= canary_scores(attacker.coin_scores, placement.canaries.present, it.delta).with_prefix("overheard")
        accuracy_bound = rero(1 / CANDIDATES, it.expenses)
        guesses = identification_scores(attacker.candidate_scores, placement.canaries.chosen, accuracy_bound)
        metrics |= {f"candidates_{name}": value for name, value in asdict(guesses).items()}
        metrics |= {"candidates_places": float(len(attacker.candidate_scores)), "candidates_blind": 1 / CANDIDATES}
    return AttackResults(metrics)


def _has_visible_gradients(privacy_plan: Guarantee | ClosedFormBudget | None) -> bool:
    """Return True if canaries are detected in noisy gradients: for DP-SGD whose steps have independent noise."""
    return isinstance(privacy_plan, Guarantee) and privacy_plan.bands == 1


def _examples(rows: Dataset, retrainer: Retrainer, rng: Rng) -> CanaryExamplesFn:
    """Return a function (network, step) -> training examples of the canaries, with the same randomness in all runs."""
    device, objective = get_engine().device, retrainer.objective
    batch = tree_map(lambda leaf: leaf.to(device), {"x_1": rows.modality.encode(rows.values), "given": rows.given})

    def build_examples(network: torch.nn.Module, step: int) -> Example:
        example = objective.draw(batch, rng.fold_in("planted", step), network)
        if num_examples(example) != len(rows):
            raise UsageError("a canary audit needs a recipe with one training example per row")
        return example

    return build_examples


def training_slowdown(again: Retrainer, count: int) -> float:
    """Return the approximate time of retraining with `count` canaries, as a multiple of the run's training time."""
    privacy_plan = again.privacy_plan
    if not isinstance(privacy_plan, Guarantee) or not _has_visible_gradients(privacy_plan):
        return 1.0
    return 2 + num_canary_rows(count, has_slots=True) / privacy_plan.batch
