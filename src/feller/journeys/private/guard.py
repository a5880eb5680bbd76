"""What a private fit may know of its rows before it is trained, and what that costs."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from feller.at_once import AtOnce
from feller.couplings import Independent
from feller.data.found import FoundTable
from feller.data.images.modality import Images
from feller.data.modality import Dataset
from feller.data.table.crosstab import Crosstab
from feller.data.table.kept import Kept
from feller.data.table.mixed import as_table
from feller.data.table.modality import Table
from feller.data.table.private import Charge, Drowned, find_domain
from feller.data.table.schema import Schema
from feller.errors import InputError, UsageError
from feller.journeys.private.guarantee import Guarantee
from feller.journeys.private.untold import refusal
from feller.marginals.counting import SHARES, Counting
from feller.marginals.model import MarginalModel
from feller.objective import Bound, Objective
from feller.paths import Estimates
from feller.privacy.accountant import rho
from feller.privacy.calibrate import calibrate, steps_within
from feller.privacy.concentrated import rho_of
from feller.privacy.expense import Concentrated, Expense, Gaussian
from feller.privacy.ledger import Ledger, default_delta
from feller.privacy.noise import Noise, source
from feller.privacy.one_way import SHARE, check_budget, one_way_sigma
from feller.privacy.simplex import on_simplex
from feller.recipes import Recipe
from feller.times import Stratified

CLASSES = 0.02
"""Share of the budget, in rho, that counting classes takes, where these are all that is counted."""
COLUMNS = 0.1
"""Share of the budget, in rho, and of delta, that finding columns takes, where no schema says what they are."""
NOT_PUBLIC = (
    "these data are {}, whose model holds statistics of the rows that no noise covers; private training takes tables"
    " with a schema (--schema), and pictures"
)
ASKED = 3
"""How often a column is counted for that, at most."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a person asks of privacy."""

    epsilon: float | None = None
    """To be spent; noise is chosen so that the planned steps spend it."""
    delta: float | None = None
    """Chance that the guarantee does not cover; by default min(1e-5, 1 / n^1.1)."""
    noise: float | None = None
    """Noise of the gradients in clip norms, instead of epsilon."""
    stop_at: float | None = None
    """Epsilon before which training stops, with `noise`."""
    clip: float = 1.0
    """Longest gradient of one row; of the first step where it adapts."""
    adaptive: bool = False
    """Whether the clip follows the middle of the lengths, by a noisy count that is paid for."""
    unsafe_seed: int | None = None
    """Seed from which anybody can tell the noise, for tests; without one it comes from the system."""
    key: bytes | None = field(default=None, repr=False)
    """Secret of several processes, by which they all draw the same noise; it is written nowhere."""

    def __post_init__(self) -> None:
        if (self.epsilon is None) == (self.noise is None):
            raise UsageError("private training takes --epsilon, or --noise with --stop-at-epsilon; give one of both")
        if self.epsilon is not None and self.stop_at is not None:
            raise UsageError("--stop-at-epsilon goes with --noise; --epsilon alone is spent by the planned steps")
        if self.noise is not None and self.stop_at is None:
            raise UsageError("--noise needs --stop-at-epsilon, which says when to stop")
        positive = {"--epsilon": self.epsilon, "--noise": self.noise, "--stop-at-epsilon": self.stop_at}
        for name, value in {**positive, "--clip": self.clip}.items():
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"{name} must be above 0 and finite, got {value:g}")

    @property
    def most(self) -> float:
        """Epsilon that may be spent."""
        return self.epsilon if self.epsilon is not None else self.stop_at or 0.0

    def source(self, *name: object) -> Noise:
        """Return noise of a name, which must not come twice."""
        return source(self.unsafe_seed, *name, key=self.key)

    def chance(self, n: int) -> float:
        """Return delta for n rows."""
        return default_delta(n) if self.delta is None else self.delta


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


@dataclass(frozen=True, eq=False)
class Charged:
    """What was paid for columns that no schema described."""

    expenses: tuple[Expense, ...] = ()
    delta: float = 0.0
    """Chance that a word of one row alone was told."""
    kept: tuple[Kept, ...] = ()
    """What becomes of rare words, by the counts that were paid for."""


def find_columns(
    wish: Wish, found: FoundTable, data: str, paid: Callable[[Ledger], None] = lambda ledger: None
) -> tuple[Schema, Charged]:
    """Find what the columns of a table hold, with noise.

    Args:
        wish: How private.
        found: The table.
        data: Where it was read.
        paid: Hears the most that it can cost before a row is looked at, and then what it did.

    Raises:
        UsageError: If delta does not suit so many rows.
        InputError: If the noise hides all columns, or all but one; where their kinds are hidden, nothing else is spent.
    """
    n, k = len(found.values), len(found.columns)
    delta = wish.chance(n)
    sigma = math.sqrt(ASKED * k / (2 * COLUMNS * rho_of(wish.most, delta)))
    whole = Gaussian("finding the columns", sigma / math.sqrt(ASKED * k))
    paid(Ledger((whole,), delta, n, COLUMNS * delta))

    def pay(charges: tuple[Charge, ...]) -> Charged:
        spent = tuple(Gaussian(charge.what, charge.sigma) for charge in charges)
        charged = Charged(spent, sum(charge.delta for charge in charges))
        paid(Ledger(charged.expenses, delta, n, charged.delta))
        return charged

    try:
        schema, charges, kept = find_domain(found, sigma, COLUMNS * delta, wish.source("columns"))
    except Drowned as drowned:
        pay(drowned.charges)
        raise InputError(refusal(drowned.untold, k, n, sigma, data)) from drowned
    return schema, replace(pay(charges), kept=kept)


def guard(wish: Wish, dataset: Dataset, learned: Dataset, charged: Charged, counted: float = 0.0) -> Guarded:
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
    delta = wish.chance(n)
    ledger = Ledger(charged.expenses, delta, n, charged.delta)
    if isinstance(kind, Table) and counted:
        return _counted(wish, dataset, kind, learned, ledger, counted)
    if isinstance(kind, Table):
        shares, cost = _shares(wish, kind, learned, delta)
        return Guarded(replace(dataset, modality=kind.with_shares(shares)), ledger.with_(cost), {})
    if isinstance(kind, Images):
        found, costs = _classes(wish, kind, learned, delta)
        return Guarded(dataset, replace(ledger, expenses=costs), found)
    raise UsageError(NOT_PUBLIC.format(kind.called))


def _counted(wish: Wish, dataset: Dataset, kind: Table, rows: Dataset, ledger: Ledger, counted: float) -> Guarded:
    """Count columns and pairs with noise, as a model by counts would, with a share of the budget."""
    space = kind.by_levels().space()
    counting = Counting(space)
    whole = rho_of(wish.most, ledger.open)
    share = counted * (1 - sum(map(rho, ledger.expenses)) / whole)
    check_budget(wish.most, ledger.delta, space.counts, len(rows), max(share * SHARES[counting.method], SHARE))
    release = counting.release(kind.levels(rows), share * whole, wish.source("shares"))
    for what, cost in release.expenses:
        ledger = ledger.with_(Concentrated(what, cost))
    shares = tuple(tuple(release.model.marginal((j,)).tolist()) for j in range(len(space.counts)))
    told = tuple(
        Crosstab(one.columns, tuple(one.values.shape), tuple(one.values.flatten().tolist()), one.sigma)
        for one in release.measured
    )
    seen = replace(kind, shares=shares, told=told, rows=len(rows))
    return Guarded(replace(dataset, modality=seen), ledger, {}, release.model)


def _shares(wish: Wish, kind: Table, rows: Dataset, delta: float) -> tuple[tuple[tuple[float, ...], ...], Expense]:
    """Count the values of each column with noise, all columns at once."""
    rooms = tuple(len(column.coarse_names) for column in kind.schema.modelled)
    check_budget(wish.most, delta, rooms, len(rows))
    sigma, noise = one_way_sigma(wish.most, delta, len(rooms)), wish.source("shares")
    levels = kind.levels(rows).T
    shares = tuple(_noisy(level, room, sigma, noise) for level, room in zip(levels, rooms, strict=True))
    k = len(rooms)
    return shares, Gaussian("counts of the values of each column", sigma / math.sqrt(k), whole=k)


def _classes(
    wish: Wish, kind: Images, rows: Dataset, delta: float
) -> tuple[dict[str, tuple[float, ...]], tuple[Expense, ...]]:
    """Count the classes with noise."""
    found, costs = {}, []
    for name, classes in kind.conditions.items():
        sigma = one_way_sigma(wish.most, delta, 1, CLASSES)
        found[name] = _noisy(rows.given[name], len(classes), sigma, wish.source("classes", name))
        costs.append(Gaussian(f"counts of each {name}", sigma, whole=1))
    return found, tuple(costs)


def _noisy(codes: Int64[Tensor, " n"], room: int, sigma: float, noise: Noise) -> tuple[float, ...]:
    """Return the shares of codes by counts with noise."""
    counts = torch.bincount(codes, minlength=room) + noise.discrete_normal(sigma, (room,))
    return tuple(on_simplex(counts.double() / len(codes)).tolist())


def plan(wish: Wish, guarded: Guarded, recipe: Recipe) -> tuple[Recipe, Guarantee]:
    """Choose the noise for the planned steps, or the steps for a noise.

    Raises:
        UsageError: If the recipe cannot be private, counts minutes, or the budget is too small for one step.
    """
    recipe = apart(recipe)
    ledger, train = guarded.ledger, recipe.train
    may = check_plan(wish, recipe, ledger)
    n, steps = ledger.n, train.steps or may
    rate = train.batch / n
    if wish.noise is None:
        sigma = calibrate(wish.most, ledger.open, rate, steps, ledger.expenses)
    else:
        sigma, steps = wish.noise, min(may, steps)
    guarantee = Guarantee(
        epsilon=wish.most,
        delta=ledger.delta,
        n=n,
        sigma=sigma,
        clip=wish.clip,
        adaptive=wish.adaptive,
        batch=train.batch,
        steps=steps,
        by_noise=wish.noise is not None,
        unsafe_seed=wish.unsafe_seed,
    )
    return replace(recipe, train=replace(train, steps=steps, minutes=None)), guarantee


def check_plan(wish: Wish, recipe: Recipe, ledger: Ledger) -> int:
    """Refuse a training that cannot be private for what is left, before rows are looked at for it.

    Returns:
        The most steps that a noise that is given allows; 0 where none is.

    Raises:
        UsageError: If the recipe cannot be private, counts minutes, or the budget is too small for one step.
    """
    check_private(recipe)
    train, n = recipe.train, ledger.n
    if train.batch > n:
        raise UsageError(f"a batch of {train.batch:,} is more than the {n:,} rows; take --train.batch {max(1, n // 4)}")
    if train.steps is None and (wish.noise is None or train.minutes is not None):
        raise UsageError("private training counts the steps that its noise is planned for: give --steps, not --minutes")
    if wish.noise is None:
        return 0
    may = steps_within(wish.most, ledger.open, wish.noise, train.batch / n, ledger.expenses)
    if not may:
        raise UsageError(
            f"with --noise {wish.noise:g} a single step spends more than epsilon {wish.most:g}; take more noise, or"
            " smaller batches (--train.batch)"
        )
    return may


def apart(recipe: Recipe) -> Recipe:
    """Return a recipe whose times are drawn for each row by itself: on a comb, one row more would move all others."""
    objective: Any = recipe.objective
    law = getattr(objective, "law", None)
    return replace(recipe, objective=replace(objective, law=law.law)) if isinstance(law, Stratified) else recipe


def check_private(recipe: Recipe) -> None:
    """Refuse what makes rows look at each other, or learns from more than the rows.

    Raises:
        UsageError: Then; names it.
    """
    objective: Any = recipe.objective
    taught = isinstance(objective, Bound) or type(objective).taught is not Objective.taught
    coupling = getattr(objective, "coupling", Independent())
    refused: dict[str, bool] = {
        f"the coupling {type(coupling).__name__}, by which rows choose each other's noise": not isinstance(
            coupling, Independent
        ),
        "pairs of an older model": recipe.pairs > 0,
        f"the objective {type(objective).__name__}, by which rows look at each other": not objective.independent,
        f"the objective {type(objective).__name__}, which learns from an older model": taught,
        "a regressor that is trained by steps": isinstance(objective.path, Estimates)
        and not isinstance(objective, AtOnce),
        "a codebook that follows whole batches, by which rows look at each other": getattr(
            getattr(recipe.architecture, "quantiser", None), "follows", False
        ),
        "times on a comb, of which each row moves the others'": isinstance(getattr(objective, "law", None), Stratified),
        "examples that serve several steps": recipe.train.replay > 1,
        "sharded weights (--train.sharded), since the gradient of each row needs them whole": recipe.train.sharded,
        "compiled networks (--train.compile), which the gradients of single rows go around": recipe.train.compile,
        "networks that write and find the data, which no noise covers": recipe.parts is not None,
    }
    wrong = next((what for what, found in refused.items() if found), None)
    if wrong is not None:
        raise UsageError(f"private training refuses {wrong}; take another recipe")


def check_goes_on(planned: Guarantee, recipe: Recipe) -> None:
    """Refuse changes with which the ledger of a resumed run would lie.

    Raises:
        UsageError: Then.
    """
    check_private(recipe)
    train = recipe.train
    if train.batch != planned.batch:
        raise UsageError(
            f"this run's privacy was planned for batches of {planned.batch:,}, not {train.batch:,}: its ledger would"
            " lie; leave --train.batch out, or start a new run"
        )
    if train.steps is None or train.steps > planned.steps:
        raise UsageError(
            f"this run's privacy was planned for {planned.steps:,} steps; more would spend more than epsilon"
            f" {planned.epsilon:g}: start a new run"
        )
