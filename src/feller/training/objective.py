"""Objectives: what a recipe records of one, what a training gives it, and what draws examples and takes losses."""

import abc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from feller.core.errors import UsageError, check_kind, check_number
from feller.core.pytree import Cond, State, append_dims, broadcast_time, leaves, num_examples, submask, tree_map
from feller.core.rng import Rng
from feller.core.user_code import is_user_defined
from feller.data.modality import Dataset
from feller.networks.condition_dropout import check_cond_dropout, check_null, drop_conditions
from feller.paths import Network, Path
from feller.paths.path import check_times
from feller.paths.time_distributions import LeafTimes, Stratified, TimeDistribution
from feller.sampling.sampler_config import SamplerConfig
from feller.spaces import Space, Tokens
from feller.training.batch_checks import (
    FAILED,
    MAX_POINTS_CHECKED,
    check_data,
    check_logits,
    check_pieces,
    check_source,
    diagnose_network_error,
    not_drawn,
    read_batch,
    warn_coupling,
    warn_levels,
    warn_repeated_rng,
)
from feller.training.couplings import Coupling, IndependentCoupling, ignores_conditions
from feller.training.losses import CrossEntropy, Loss, SquaredError

Batch = dict[str, Any]
"""x_1: the data; x_0: the source, where the data are pairs; t: times of one's own; conditions under their names, or all
under given."""
Example = dict[str, Any]
"""A tree of tensors with one entry per example."""


RewardFunction = Callable[[State, Cond], Tensor]
"""(states at t = 1, conditions) -> reward, [b]."""


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainingContext:
    """What a training has that no record can hold; every objective takes what it needs of it."""

    data: Dataset | None = None
    """All that is learned from."""
    teacher: Network | None = None
    """An older network to learn from."""
    reference: Network | None = None
    """Network that is fine-tuned, as it was before; its weights are frozen."""
    reward: RewardFunction | None = None
    null: Mapping[str, int | float] | None = None
    """Value of each condition that stands for "not given"."""

    def check(self, config: "ObjectiveConfig") -> None:
        """Refuse to build what lacks something.

        Raises:
            UsageError: Then; names it.
        """
        for name in config.requires:
            if getattr(self, name) is None:
                raise UsageError(
                    argument=name,
                    expected=f"a {name}, which {type(config).__name__} learns from",
                    found="none",
                    remedy=_REMEDIES[name],
                )


_REMEDIES = {
    "data": "Give TrainingContext(data=...)",
    "teacher": "Name the run of an older model with --start-from, or give TrainingContext(teacher=network)",
    "reference": "Tune a model with `feller tune`, or give TrainingContext(reference=network)",
    "reward": "Tune to a reward with `feller tune`, or give TrainingContext(reward=function)",
}


class Objective(abc.ABC):
    """What is trained: all randomness in `draw`, none in `loss`. Implement these two to train something else."""

    @property
    def shardable(self) -> bool:
        """Whether several processes may share a batch; else each of them needs all of it."""
        return True

    @abc.abstractmethod
    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        """Return training examples, with all that is random; there may be more than the batch holds.

        Args:
            batch: Data and conditions.
            rng: Another one for each step, `rng.step(i)`: the same give the same noise and times.
            network: What is trained, for objectives that sample from it or ask it for null values of conditions.
        """

    @abc.abstractmethod
    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        """Return one number per example; no randomness, so that it can be taken apart by `vmap`."""

    def metrics(self, example: Example) -> dict[str, Tensor]:
        """Return numbers about drawn examples that are worth following beside the loss, scalars under their names."""
        return {}

    @property
    def flow_matching(self) -> "FlowMatching | None":
        """The regression on a path whose pieces can be looked at one by one; None where it is none."""
        return None


class ObjectiveConfig(abc.ABC):
    """What a recipe records of an objective; `build` returns the objective. Path and space say what is trained."""

    requires: ClassVar[tuple[str, ...]] = ()
    """Fields of `TrainingContext` without which it cannot be built."""

    family: ClassVar[str] = "process"
    """Name of what the trained network means, see `feller.models.families`; a process is on the path."""

    is_one_shot: ClassVar[bool] = False
    """Whether the model is found of all rows at once, without steps; such an objective is an `OneShotObjective`."""

    needs_plain_network: ClassVar[bool] = False
    """Whether it differentiates the network inside a simulation, where nothing may shard, compile or checkpoint it."""

    finetune_lr_scale: ClassVar[float] = 1.0
    """Share of the usual learning rate, for going on from an older model."""

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
        def cond_dropout(self) -> float:
            """Chance that an example's conditions are dropped, for guidance and for sampling without them."""
            ...

    @property
    def length_bucketing(self) -> bool:
        """Whether padding is cut off that no example of a batch needs, so that like lengths are learned together."""
        return False

    @property
    def conditionable(self) -> tuple[str, ...]:
        """Leaves of the state that are given in some examples, so that the others can be drawn beside them."""
        return ()

    @property
    def has_independent_examples(self) -> bool:
        """Whether an example depends on its own row of the batch alone, as private training asks."""
        return True

    def for_finetuning(self, path: Path | None, space: Space, cond_dropout: float) -> "ObjectiveConfig":
        """Return it for an older model, whose path, space and dropped conditions are given; what it lacks stays out."""
        return self

    def sampler_config(self, default: SamplerConfig) -> SamplerConfig:
        """Return how the model samples by itself, where a recipe says what is usual."""
        return default

    @abc.abstractmethod
    def build(self, context: TrainingContext) -> Objective:
        """Return what is trained.

        Raises:
            UsageError: If the context lacks something; names it.
        """


class SelfContainedObjective(ObjectiveConfig, Objective):
    """A config that is its own objective: it needs no more than its record."""

    def build(self, context: TrainingContext) -> Objective:
        return self


@dataclass(frozen=True)
class ConditionalObjective(SelfContainedObjective):
    """A plain objective that drops conditions."""

    null: dict[str, int | float] | None = field(default=None, kw_only=True)
    """Value of each condition that stands for "not given", such as the number of classes; by default the network's."""

    def build(self, context: TrainingContext) -> Objective:
        return self if self.null is not None or context.null is None else replace(self, null=dict(context.null))

    def drop_conditions(self, cond: Cond, rng: Rng, network: Any) -> Cond:
        """Replace all conditions of some examples by their null values; errors as for the function."""
        return drop_conditions(cond, self.null, self.cond_dropout, rng, network)


class BatchCoupledObjective(SelfContainedObjective):
    """An objective whose rows look at each other, so that private training refuses it; conditions tell it nothing."""

    @property
    def cond_dropout(self) -> float:
        """None: there are no conditions."""
        return 0.0

    @property
    def has_independent_examples(self) -> bool:
        return False


def sample_source(space: Space, x_1: State, rng: Rng) -> State:
    """Draw as many source states as there are data, where those are."""
    return cast_like(space.sample_base(num_examples(x_1), rng.stream("source"), next(leaves(x_1)).device), x_1)


def cast_like(x: State, other: State) -> State:
    """Return a state in the precision of another."""
    return tree_map(lambda a, b: a.to(b.dtype), x, other)


def sample_observed_mask(x_1: Tensor, prob: float, rng: Rng) -> Bool[Tensor, " b *d"]:
    """Mark what is known: in some examples a share of the entries, which is as often small as large."""
    stream, one = rng.stream("known"), (len(x_1), *(1,) * (x_1.ndim - 1))
    fraction = stream.uniform(one, device=x_1.device)
    is_partly_observed = stream.uniform(one, device=x_1.device) < prob
    return is_partly_observed & (stream.uniform(x_1.shape, device=x_1.device) < fraction)


def loss_mask(cond: Cond, t: State) -> State | None:
    """Return the entries that the loss counts, or some for each leaf: real ones that are not known; None for all.

    A leaf at t = 1 beside others is given: nothing is asked about it.
    """
    valid, observed = cond.get("valid"), cond.get("known")
    if not isinstance(t, dict):
        return _unobserved(valid, observed)
    return {k: _and_masks(time < 1, _unobserved(submask(valid, k), submask(observed, k))) for k, time in t.items()}


def _unobserved(valid: Tensor | None, observed: Tensor | None) -> Tensor | None:
    return valid if observed is None else _and_masks(valid, ~observed)


def _and_masks(mask: Tensor | None, other: Tensor | None) -> Tensor | None:
    """Return what both mark, of which the second may go deeper; None marks all."""
    return mask if other is None else other if mask is None else other & append_dims(mask, other)


@dataclass(frozen=True)
class FlowMatching(ConditionalObjective):
    """Regress a network on a path's conditional target; the minimiser drives the path's marginals.

    Source: Lipman et al. 2024, arXiv 2412.06264, theorem 4.
    """

    path: Path
    space: Space
    criterion: Loss = field(default_factory=SquaredError)
    time_distribution: TimeDistribution = field(default_factory=Stratified)
    """Of the training time."""
    coupling: Coupling = field(default_factory=IndependentCoupling)
    cond_dropout: float = 0.1
    """Chance that an example's conditions are dropped, for guidance and for sampling without them."""
    leaf_times: LeafTimes = field(default_factory=LeafTimes)
    """How the leaves of a product share their time: by default it is one for all, and none is ever given."""
    _checks_times: ClassVar[bool]
    """Whether the law of times is the user's: those of ours give no others."""
    _is_new: ClassVar[bool]
    """Whether nothing was drawn yet."""
    _ignores: ClassVar[bool]
    """Whether the coupling ignores conditions, of which nothing was said yet."""
    inpaint_prob: float = 0.0
    """Chance that parts of an example are known from the start, a random share of them: so that a network whose states
    do not show it, other than masks, learns to fill in."""

    def __post_init__(self) -> None:
        check_pieces(self.path, self.space, self.criterion)
        check_kind("time_distribution", self.time_distribution, TimeDistribution, "feller.LogitNormal()")
        check_kind("coupling", self.coupling, Coupling, "feller.MinibatchOT()")
        check_cond_dropout(self.cond_dropout)
        check_null(self.null)
        vars(self)["_checks_times"] = is_user_defined(self.time_distribution)
        vars(self)["_is_new"] = True
        vars(self)["_ignores"] = ignores_conditions(self.coupling)
        check_number("inpaint_prob", self.inpaint_prob, ge=0, le=1)
        if getattr(self.path, "noise", None) is not None and not isinstance(self.coupling, IndependentCoupling):
            raise UsageError(
                argument="coupling",
                expected="IndependentCoupling(), since the path has noise",
                found=type(self.coupling).__name__,
                remedy="Leave out the coupling or the noise",
            )
        tokens = self.space if isinstance(self.space, Tokens) else None
        cost = getattr(self.path, "distance", None)
        if cost is not None and tokens is not None and tokens.vocab_size != cost.vocab_size:
            expected = f"{cost.vocab_size} symbols, between which the path has distances"
            raise UsageError(argument="space", expected=expected, found=str(tokens.vocab_size))
        source = getattr(self.path, "source", None)
        if source is not None and tokens is not None and tokens.source != source:
            remedy = "Give path and space the same source"
            raise UsageError(argument="space", expected=f"{source}", found=f"{tokens.source}", remedy=remedy)
        self.path.check_space(self.space)

    @property
    def flow_matching(self) -> "FlowMatching":
        return self

    def for_finetuning(self, path: Path | None, space: Space, cond_dropout: float) -> "FlowMatching":
        return replace(self, path=path or self.path, space=space, cond_dropout=cond_dropout)

    @property
    def conditionable(self) -> tuple[str, ...]:
        return (self.leaf_times.conditionable or self.path.leaf_names) if self.leaf_times.observed_prob else ()

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        """Draw ends, time and the state between.

        Args:
            batch: `x_1`, the data, [b, ...]; `x_0`, the source, where the data are pairs; `t`, times of your own, [b],
                in place of the law's; conditions, under their names or all under `given`.
            rng: Another one for each step, `rng.step(i)`: the same give the same source, times and noise.
            network: Says the null values of conditions that are dropped, where `null` does not.

        Raises:
            UsageError: If shapes or types are not those of the space, times not one for each example in [0, 1], or
                conditions are dropped that have no null value.
            InputError: If there are no data, or they are not finite, out of range, or off their manifold.
        """
        x_1, cond = read_batch(batch, rng, own_times=True)
        warn_repeated_rng(self, rng, x_1)
        first = next(leaves(x_1))
        n, device = len(first), first.device
        rows = None  # all of the first batch, and of the others some
        if self._is_new:
            warn_levels(self, first)
        elif n:
            rows = slice(rng.seed % n, rng.seed % n + MAX_POINTS_CHECKED)
        x_0, paired = self.space.sample_base(n, rng.stream("source"), device), "x_0" in batch
        if paired:
            check_source(batch["x_0"], x_0)
        check_data(x_1, x_0, self.space, cond.get("valid"), rows=rows)
        if paired:
            x_0 = cast_like(batch["x_0"], x_1)
        else:
            if self._ignores and cond:
                warn_coupling(self, cond)
            x_0 = self.coupling(cast_like(x_0, x_1), x_1, cond, rng.stream("coupling"))
        t = batch.get("t")
        own = t is not None
        if not own:
            t = self.time_distribution(n, rng.stream("time"), device)
        if own or self._checks_times:
            check_times(t, first)
        t = self.leaf_times(broadcast_time(t, x_1), self.time_distribution, rng)
        x_t, target = self.path.sample_with_target(x_0, x_1, t, rng.stream("path"))
        cond = self.drop_conditions(cond, rng, network)
        if self.inpaint_prob:
            observed_mask = sample_observed_mask(x_1, self.inpaint_prob, rng)
            x_t, cond = torch.where(observed_mask, x_1, x_t), {**cond, "known": observed_mask}
        return {"x_t": x_t, "t": t, "target": target, "given": cond}

    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        """Compare prediction and target, over valid entries.

        Raises:
            UsageError: If the network takes or answers with something else.
        """
        try:
            x_t, t, cond = example["x_t"], example["t"], example["given"]
        except (IndexError, KeyError, TypeError) as error:
            raise not_drawn(network, example) from error
        prediction = FAILED
        try:
            prediction = network(x_t, t, cond)
            output = self.path.complete_prediction(prediction, x_t, t)
            if isinstance(self.criterion, CrossEntropy):
                check_logits(output, x_t, self.space)
            return self.criterion(output, example["target"], x_t, t, loss_mask(cond, t))
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError) as error:
            wrong = diagnose_network_error(network, prediction, x_t, t, cond, self.space, error)
            if wrong is None:
                raise
            raise wrong from error
