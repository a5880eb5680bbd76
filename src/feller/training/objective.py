"""What is trained: all randomness in `draw`, none in `loss`."""

import abc
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.pytree import Given, State, branch, leaves, length, pad_right, spread, tree_map
from feller.core.rng import Draws
from feller.data.modality import Dataset
from feller.paths import Network, Path
from feller.paths.time_distributions import LeafTimes, Stratified, TimeLaw
from feller.spaces import Space, Tokens
from feller.training.batch_checks import check_data, check_logits, check_t
from feller.training.condition_dropout import drop_conditions
from feller.training.couplings import Coupling, Independent
from feller.training.losses import CrossEntropy, Loss, Squared

Batch = dict[str, Any]
"""x_1: the data; given: conditions; x_0: the source, where the data are pairs."""
Example = dict[str, Any]
"""A tree of tensors with one entry per example."""


class Objective(abc.ABC):
    """Implement two methods, and name space and path or family, to train something else."""

    family: ClassVar[str] = "process"
    """Name of what the trained network means, see `feller.models.families`; a process is on the path."""

    one_shot: ClassVar[bool] = False
    """Whether the model is found of all rows at once, without steps; such an objective is an `AtOnce`."""

    if TYPE_CHECKING:  # fields of the kinds that a model can be made of; a real property would become their default

        @property
        def path(self) -> Path:
            """What the trained network drives, where its family is a process."""
            ...

        @property
        def space(self) -> Space:
            """Where its states live; the space's reference law is the source."""
            ...

        @property
        def drop(self) -> float:
            """Chance that an example's conditions are dropped, for guidance and for sampling without them."""
            ...

    @property
    def cuts(self) -> bool:
        """Whether padding is cut off that no example of a batch needs, so that like lengths are learned together."""
        return False

    @property
    def fixable(self) -> tuple[str, ...]:
        """Leaves of the state that are given in some examples, so that the others can be drawn beside them."""
        return ()

    @property
    def independent(self) -> bool:
        """Whether an example depends on its own row of the batch alone, as private training asks."""
        return True

    @property
    def divides(self) -> bool:
        """Whether several processes may share a batch; else each of them needs all of it."""
        return True

    def beside(self, data: Dataset) -> "Objective":
        """Return the objective with all the data that are learned from, where its kind looks others up."""
        return self

    def taught(self, teacher: Network) -> "Objective":
        """Return the objective with an older network to learn from, where its kind wants one."""
        return self

    @abc.abstractmethod
    def draw(self, network: Any, batch: Batch, draws: Draws) -> Example:
        """Return training examples, with all that is random; there may be more than the batch holds.

        The same draws give the same noise and times, so each step needs others: `draws.step(i)`.
        """

    @abc.abstractmethod
    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        """Return one number per example; no randomness, so that it can be taken apart by `vmap`."""

    def notice(self, example: Example) -> dict[str, Tensor]:
        """Return numbers about drawn examples that are worth following beside the loss, scalars under their names."""
        return {}


class Together(Objective):
    """An objective whose rows look at each other, so that private training refuses it; conditions tell it nothing."""

    @property
    def drop(self) -> float:
        """None: there are no conditions."""
        return 0.0

    @property
    def independent(self) -> bool:
        """False."""
        return False


class Bound(Objective):
    """An objective together with what its record cannot hold, such as a network to learn from."""

    def __init__(self, rule: Objective) -> None:
        self.rule: Any = rule

    @property
    def path(self) -> Path:
        """That of the rule."""
        return self.rule.path

    @property
    def space(self) -> Space:
        """That of the rule."""
        return self.rule.space

    @property
    def drop(self) -> float:
        """That of the rule."""
        return self.rule.drop

    @property
    def independent(self) -> bool:
        """That of the rule."""
        return self.rule.independent

    @property
    def divides(self) -> bool:
        """That of the rule."""
        return self.rule.divides


def draw_source(space: Space, x_1: State, draws: Draws) -> State:
    """Draw as many source states as there are data, where those are."""
    return like(space.reference(length(x_1), draws.at("source"), next(leaves(x_1)).device), x_1)


def like(x: State, other: State) -> State:
    """Return a state in the precision of another."""
    return tree_map(lambda a, b: a.to(b.dtype), x, other)


def draw_known(x_1: Tensor, chance: float, draws: Draws) -> Bool[Tensor, " b *d"]:
    """Mark what is known: in some examples a share of the entries, which is as often small as large."""
    draw, one = draws.at("known"), (len(x_1), *(1,) * (x_1.ndim - 1))
    share = draw.uniform(one, device=x_1.device)
    some = draw.uniform(one, device=x_1.device) < chance
    return some & (draw.uniform(x_1.shape, device=x_1.device) < share)


def counted(given: Given, t: State) -> State | None:
    """Return the entries that the loss counts, or some for each leaf: real ones that are not known; None for all.

    A leaf at t = 1 beside others is given: nothing is asked about it.
    """
    valid, known = given.get("valid"), given.get("known")
    if not isinstance(t, dict):
        return _unknown(valid, known)
    return {k: _both(time < 1, _unknown(branch(valid, k), branch(known, k))) for k, time in t.items()}


def _unknown(valid: Tensor | None, known: Tensor | None) -> Tensor | None:
    return valid if known is None else _both(valid, ~known)


def _both(some: Tensor | None, marks: Tensor | None) -> Tensor | None:
    """Return what both mark, of which the second may go deeper; None marks all."""
    return some if marks is None else marks if some is None else marks & pad_right(some, marks)


@dataclass(frozen=True)
class Matching(Objective):
    """Regress a network on a path's conditional target; the minimiser drives the path's marginals.

    Source: Lipman et al. 2024, arXiv 2412.06264, theorem 4.
    """

    path: Path
    space: Space
    criterion: Loss = field(default_factory=Squared)
    law: TimeLaw = field(default_factory=Stratified)
    """Of the training time."""
    coupling: Coupling = field(default_factory=Independent)
    drop: float = 0.1
    """Chance that an example's conditions are dropped, for guidance and for sampling without them."""
    leaf_times: LeafTimes = field(default_factory=LeafTimes)
    """How the leaves of a product share their time: by default it is one for all, and none is ever given."""
    fill: float = 0.0
    """Chance that parts of an example are known from the start, a random share of them: so that a network whose states
    do not show it, other than masks, learns to fill in."""

    def __post_init__(self) -> None:
        for piece in (self.path, self.space, self.criterion, self.law, self.coupling):
            if isinstance(piece, type):
                raise UsageError(f"expected an object, got the class {piece.__name__}; say {piece.__name__}()")
        if not 0 <= self.fill <= 1:
            raise UsageError(f"fill is a chance, expected 0 to 1, got {self.fill:g}")
        if getattr(self.path, "noise", None) is not None and not isinstance(self.coupling, Independent):
            raise UsageError(
                f"noise needs a source independent of the data, and {type(self.coupling).__name__} pairs them; leave"
                " out one of the two"
            )
        cost = getattr(self.path, "cost", None)
        if cost is not None and isinstance(self.space, Tokens) and self.space.count != cost.count:
            raise UsageError(
                f"the path has distances of {cost.count} symbols, the space {self.space.count}; match them"
            )
        source = getattr(self.path, "source", None)
        if source is not None and isinstance(self.space, Tokens) and self.space.source != source:
            raise UsageError(
                f"path and space must start from one source, got {source} and {self.space.source}; give both the same"
            )

    @property
    def fixable(self) -> tuple[str, ...]:
        """Return the leaves that may be given."""
        return (self.leaf_times.which or self.path.leaf_names) if self.leaf_times.given else ()

    def draw(self, network: Any, batch: Batch, draws: Draws) -> Example:
        """Draw ends, time and the state between.

        Args:
            network: Its `nulls` stand for conditions that are dropped.
            batch: `x_1`, the data, [b, ...]; `given`, conditions; `x_0`, the source, where the data are pairs.
            draws: Another one for each step, `draws.step(i)`: the same give the same source, times and noise.

        Raises:
            UsageError: If shapes or types are not those of the space, or times not one for each example in [0, 1].
            InputError: If data are not finite, out of range, or off their manifold.
        """
        x_1, given = batch["x_1"], batch.get("given", {})
        if "x_0" in batch:
            check_data(x_1, batch["x_0"], self.space, given.get("valid"))
            x_0 = like(batch["x_0"], x_1)
        else:
            x_0 = self.space.reference(length(x_1), draws.at("source"), next(leaves(x_1)).device)
            check_data(x_1, x_0, self.space, given.get("valid"))
            x_0 = self.coupling(like(x_0, x_1), x_1, given, draws.at("coupling"))
        t = self.law(length(x_1), draws.at("time"), next(leaves(x_1)).device)
        check_t(t, length(x_1))
        t = self.leaf_times(spread(t, x_1), self.law, draws)
        x_t, target = self.path.sample_with_target(x_0, x_1, t, draws.at("path"))
        given = drop_conditions(given, getattr(network, "nulls", {}), self.drop, draws)
        if self.fill:
            known = draw_known(x_1, self.fill, draws)
            x_t, given = torch.where(known, x_1, x_t), {**given, "known": known}
        return {"x_t": x_t, "t": t, "target": target, "given": given}

    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        """Compare prediction and target, over valid entries."""
        x_t, t, given = example["x_t"], example["t"], example["given"]
        answer = self.path.read(network(x_t, t, given), x_t, t)
        if isinstance(self.criterion, CrossEntropy):
            check_logits(answer, self.space)
        return self.criterion(answer, example["target"], x_t, t, counted(given, t))
