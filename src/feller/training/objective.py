"""Base classes of training objectives and of their configuration, which a run stores; and flow matching."""

import abc
from collections.abc import Callable, Mapping, Sequence
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
from feller.networks.image.image_conditions import add_noise
from feller.networks.unwrapping import condition_noise
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
from feller.training.losses import CrossEntropy, Loss, check_criterion, default_loss
from feller.training.observed_masks import ObservedMasks, RandomEntries

Batch = dict[str, Any]
"""Dict with x_1 (data), optionally x_0 (source of paired data) and t (times), and conditions, by name or in `given`."""
Example = dict[str, Any]
"""Tree of tensors with one entry per example."""


RewardFunction = Callable[[State, Cond], Tensor]
"""(states at t = 1, conditions) -> reward, [b]."""


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainingContext:
    """Runtime inputs of an objective beyond its configuration; each objective uses the fields that it needs."""

    data: Dataset | None = None
    """Training set."""
    teacher: Network | None = None
    """Trained network to distill."""
    reference: Network | None = None
    """Frozen copy of the network before fine-tuning."""
    reward: RewardFunction | None = None
    null: Mapping[str, int | float] | None = None
    """Null value of each condition, which stands for an absent condition."""

    def check(self, config: "ObjectiveConfig") -> None:
        """Check that the fields required by an objective are present.

        Raises:
            UsageError: If a field is missing; the error's `argument` names the field.
        """
        for name in config.requires:
            if getattr(self, name) is None:
                raise UsageError(
                    argument=name,
                    expected=f"a {name}, required by {type(config).__name__}",
                    found="none",
                    remedy=_REMEDIES[name],
                )


_REMEDIES = {
    "data": "Pass TrainingContext(data=...)",
    "teacher": "Name the run of a trained model with --start-from, or pass TrainingContext(teacher=network)",
    "reference": "Fine-tune a model with `feller tune`, or pass TrainingContext(reference=network)",
    "reward": "Fine-tune on a reward with `feller tune`, or pass TrainingContext(reward=function)",
}


class Objective(abc.ABC):
    """Training objective: `draw` samples training examples at random, `loss` is deterministic given an example."""

    shardable: ClassVar[bool] = True
    """True if a batch may be split over ranks; otherwise each rank needs the whole batch."""

    @abc.abstractmethod
    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        """Sample training examples from a batch; the number of examples may differ from the batch size.

        Args:
            batch: Data and conditions.
            rng: Random stream of the step, `rng.step(i)`; the same stream gives the same noise and times.
            network: Network in training, for objectives that sample from it or read its null values.
        """

    @abc.abstractmethod
    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        """Return the loss of each example; deterministic, so that it can be vmapped."""

    def similar_examples(self, example: Example) -> Sequence[Example]:
        """Split drawn examples into groups of similar size, each with little padding; default: a single group.

        Neither the loss nor the gradient of an example depends on its group, up to rounding.
        """
        return (example,)

    def metrics(self, example: Example) -> dict[str, Tensor]:
        """Return additional metrics to log for a batch of drawn examples: name -> scalar tensor."""
        return {}

    def at(self, progress: float) -> "Objective":
        """Return the objective of a step, by the spent fraction of the training budget; default: this objective."""
        return self

    @property
    def flow_matching(self) -> "FlowMatching | None":
        """Underlying flow matching objective; None if there is none."""
        return None


class ObjectiveConfig(abc.ABC):
    """Configuration of an objective, which a run stores; `build` returns the objective."""

    requires: ClassVar[tuple[str, ...]] = ()
    """Fields of `TrainingContext` that `build` requires."""

    family: ClassVar[str] = "process"
    """Name of the model family, see `feller.models.families`; models of the family "process" have a path."""

    is_one_shot: ClassVar[bool] = False
    """True for a `OneShotObjective`, which fits the model in closed form without training steps."""

    needs_plain_network: ClassVar[bool] = False
    """True if the loss differentiates the network or a simulation, which excludes FSDP, compile and checkpointing."""

    finetune_lr_scale: ClassVar[float] = 1.0
    """Factor by which the learning rate is multiplied when training starts from a trained model."""

    if TYPE_CHECKING:  # fields of the subclasses; real properties would become their defaults

        @property
        def path(self) -> Path:
            """Path of the process that the network drives, for the family `process`."""
            ...

        @property
        def space(self) -> Space:
            """Space of the states; its base distribution is the source."""
            ...

        @property
        def cond_dropout(self) -> float:
            """Probability of dropping the conditions of an example, for classifier-free guidance."""
            ...

    @property
    def flow_matching(self) -> "FlowMatching | None":
        """Flow matching objective that this one is or contains; None if there is none."""
        return None

    @property
    def length_bucketing(self) -> bool:
        """True if batches are trimmed to their longest sequence and bucketed by length."""
        return False

    @property
    def conditionable(self) -> tuple[str, ...]:
        """Leaves (components) of the state that some training examples observe; sampling can condition on them."""
        return ()

    @property
    def has_independent_examples(self) -> bool:
        """True if each example depends on its own row only, as DP-SGD requires."""
        return True

    def for_finetuning(self, path: Path | None, space: Space, cond_dropout: float) -> "ObjectiveConfig":
        """Return the objective for fine-tuning a trained model.

        Subclasses with a path return a copy with the path, space and condition dropout of that model.
        """
        return self

    def sampler_config(self, default: SamplerConfig) -> SamplerConfig:
        """Return the default sampler settings of a model trained with this objective; `default` unless overridden."""
        return default

    @abc.abstractmethod
    def build(self, context: TrainingContext) -> Objective:
        """Return the objective.

        Raises:
            UsageError: If the context lacks a required field; the error's `argument` names the field.
        """


class SelfContainedObjective(ObjectiveConfig, Objective):
    """Objective that is also its own configuration, because it needs no training context."""

    def build(self, context: TrainingContext) -> Objective:
        return self


@dataclass(frozen=True)
class ConditionalObjective(SelfContainedObjective):
    """Base class of objectives with condition dropout, for classifier-free guidance."""

    null: dict[str, int | float] | None = field(default=None, kw_only=True)
    """Value that replaces each dropped condition, such as the number of classes (default: those of the network)."""

    def build(self, context: TrainingContext) -> Objective:
        return self if self.null is not None or context.null is None else replace(self, null=dict(context.null))

    def drop_conditions(self, cond: Cond, rng: Rng, network: Any) -> Cond:
        """Replace the conditions of random examples by their null values; see `condition_dropout.drop_conditions`."""
        return drop_conditions(cond, self.null, self.cond_dropout, rng, network)


class BatchCoupledObjective(SelfContainedObjective):
    """Unconditional objective whose examples depend on each other, which excludes DP-SGD."""

    @property
    def cond_dropout(self) -> float:
        """Zero, because the objective has no conditions."""
        return 0.0

    @property
    def has_independent_examples(self) -> bool:
        return False


def sample_source(space: Space, x_1: State, rng: Rng) -> State:
    """Sample one source state per datum, on the device and with the dtype of the data."""
    return cast_like(space.sample_base(num_examples(x_1), rng.stream("source"), next(leaves(x_1)).device), x_1)


def cast_like(x: State, other: State) -> State:
    """Cast a state to the dtypes of another state."""
    return tree_map(lambda a, b: a.to(b.dtype), x, other)


def sample_observed_mask(
    x_1: Tensor, prob: float, rng: Rng, masks: ObservedMasks | None = None
) -> Bool[Tensor, " b *d"]:
    """Sample a mask of observed entries, for training of inpainting.

    With probability `prob`, the mask of an example is one of `masks` (default: a random fraction of the entries), else
    nothing is observed.
    """
    stream, shape = rng.stream("known"), (len(x_1), *(1,) * (x_1.ndim - 1))
    if masks is None or isinstance(masks, RandomEntries):  # in this order, so that seeded fits stay the same
        fraction = stream.uniform(shape, device=x_1.device)
        is_partly_observed = stream.uniform(shape, device=x_1.device) < prob
        return is_partly_observed & (stream.uniform(x_1.shape, device=x_1.device) < fraction)
    return (stream.uniform(shape, device=x_1.device) < prob) & masks.sample(x_1, stream)


def loss_mask(cond: Cond, t: State) -> State | None:
    """Return the mask of the entries that count in the loss, per leaf; None for all entries.

    These entries are valid and not observed, according to the masks `valid` and `known` in `cond`. A leaf
    (component) of a product space whose time in `t` is 1 is observed, and excluded from the loss.
    """
    valid, observed = cond.get("valid"), cond.get("known")
    if not isinstance(t, dict):
        return _unobserved(valid, observed)
    return {k: _and_masks(time < 1, _unobserved(submask(valid, k), submask(observed, k))) for k, time in t.items()}


def _without_missing(x_t: State, x_0: State, valid: State | None) -> State:
    """Replace the missing entries of real states by the source: the values that fill them are not data."""
    if not isinstance(x_t, Tensor) or not isinstance(valid, Tensor) or not x_t.is_floating_point():
        return x_t
    return torch.where(append_dims(valid, x_t), x_t, x_0)


def _unobserved(valid: Tensor | None, observed: Tensor | None) -> Tensor | None:
    return valid if observed is None else _and_masks(valid, ~observed)


def _and_masks(mask: Tensor | None, other: Tensor | None) -> Tensor | None:
    """Return the logical AND of two masks; None stands for all True, and `other` may have more axes."""
    return mask if other is None else other if mask is None else other & append_dims(mask, other)


@dataclass(frozen=True)
class FlowMatching(ConditionalObjective):
    """Flow matching: regression of a network's prediction on the conditional target of a path.

    The minimiser generates the marginals of the path. Source: Lipman et al. 2024, arXiv 2412.06264, theorem 4.
    """

    path: Path
    space: Space
    criterion: Loss = None  # pyrefly: ignore[bad-assignment] - `__post_init__` sets the loss of the path
    """Loss of the prediction (default: cross-entropy for tokens, else squared error; on a product, one per leaf)."""
    time_distribution: TimeDistribution = field(default_factory=Stratified)
    """Distribution of the training time."""
    coupling: Coupling = field(default_factory=IndependentCoupling)
    cond_dropout: float = 0.1
    """Probability of dropping the conditions of an example, for classifier-free guidance. Each of several conditions is
    also dropped alone with this probability, so that any subset can be given in sampling."""
    always_given: tuple[str, ...] = ()
    """Names of the conditions that are never dropped, such as the number of atoms."""
    leaf_times: LeafTimes = field(default_factory=LeafTimes)
    """Joint distribution of the times of leaves (components) in a product space (default: one time, none observed)."""
    _checks_times: ClassVar[bool]
    """True if the time distribution is user code, whose samples are therefore validated."""
    _is_new: ClassVar[bool]
    """True before the first call of `draw`."""
    _ignores: ClassVar[bool]
    """True if the coupling ignores conditions and no warning was given yet."""
    inpaint_prob: float = 0.0
    """Probability that a random fraction of an example's entries is observed from the start, to train a network for
    inpainting; not needed with mask tokens, which mark the unobserved entries."""
    observed_masks: ObservedMasks = field(default_factory=RandomEntries)
    """Distribution of the masks of observed entries with `inpaint_prob`."""

    def __post_init__(self) -> None:
        check_pieces(self.path, self.space)
        if self.criterion is None:
            object.__setattr__(self, "criterion", default_loss(self.path))
        check_criterion(self.path, self.criterion)
        check_kind("time_distribution", self.time_distribution, TimeDistribution, "feller.LogitNormal()")
        check_kind("coupling", self.coupling, Coupling, "feller.MinibatchOT()")
        check_cond_dropout(self.cond_dropout)
        check_null(self.null)
        vars(self)["_checks_times"] = is_user_defined(self.time_distribution)
        vars(self)["_is_new"] = True
        vars(self)["_ignores"] = ignores_conditions(self.coupling)
        check_number("inpaint_prob", self.inpaint_prob, ge=0, le=1)
        check_kind("observed_masks", self.observed_masks, ObservedMasks, "feller.EntriesGapsAndEnds()")
        if getattr(self.path, "noise", None) is not None and not isinstance(self.coupling, IndependentCoupling):
            raise UsageError(
                argument="coupling",
                expected="IndependentCoupling(), since the path has noise",
                found=type(self.coupling).__name__,
                remedy="Leave out the coupling or the noise",
            )
        token_space = self.space if isinstance(self.space, Tokens) else None
        distance = getattr(self.path, "distance", None)
        if distance is not None and token_space is not None and token_space.vocab_size != distance.vocab_size:
            expected = f"{distance.vocab_size} tokens, the number in the path's distance"
            raise UsageError(argument="space", expected=expected, found=str(token_space.vocab_size))
        source = getattr(self.path, "source", None)
        if source is not None and token_space is not None and token_space.source != source:
            remedy = "Use the same source for path and space"
            raise UsageError(argument="space", expected=f"{source}", found=f"{token_space.source}", remedy=remedy)
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
        """Sample the source, the time t, and the state x_t on the path between source and data.

        Args:
            batch: `x_1`, the data, [b, ...]; `x_0`, the source of paired data; `t`, times, [b], instead of sampled
                times; conditions, by name or all under `given`.
            rng: Random stream of the step, `rng.step(i)`; the same stream gives the same source, times and noise.
            network: Network that supplies the null values of dropped conditions if the objective's `null` is None.

        Raises:
            UsageError: If shapes or dtypes do not fit the space, times are not [b] in [0, 1], or a dropped condition
                has no null value.
            InputError: If the batch is empty, or values are not finite, out of range, or off the manifold.
        """
        x_1, cond = read_batch(batch, rng, own_times=True, null=self.null)
        warn_repeated_rng(self, rng, x_1)
        first_leaf = next(leaves(x_1))
        n, device = len(first_leaf), first_leaf.device
        rows = None  # all examples of the first batch, then a subset of each batch
        if self._is_new:
            warn_levels(self, first_leaf)
        elif n:
            rows = slice(rng.seed % n, rng.seed % n + MAX_POINTS_CHECKED)
        x_0, is_paired = self.space.sample_base(n, rng.stream("source"), device), "x_0" in batch
        if is_paired:
            check_source(batch["x_0"], x_0)
        check_data(x_1, x_0, self.space, cond.get("valid"), rows=rows)
        if is_paired:
            x_0 = cast_like(batch["x_0"], x_1)
        else:
            if self._ignores and cond:
                warn_coupling(self, cond)
            x_0 = self.coupling(cast_like(x_0, x_1), x_1, cond, rng.stream("coupling"))
        t = batch.get("t")
        has_times = t is not None
        if not has_times:
            t = self.time_distribution(n, rng.stream("time"), device)
        if has_times or self._checks_times:
            check_times(t, first_leaf)
        t = self.leaf_times(broadcast_time(t, x_1), self.time_distribution, rng)
        x_t, target = self.path.sample_with_target(x_0, x_1, t, rng.stream("path"))
        x_t = _without_missing(x_t, x_0, cond.get("valid"))
        if noise := condition_noise(network):
            cond = add_noise(cond, noise, rng)
        prob = self.cond_dropout
        cond = drop_conditions(cond, self.null, prob, rng, network, each_prob=prob, keep=self.always_given)
        if self.inpaint_prob:
            observed_mask = sample_observed_mask(x_1, self.inpaint_prob, rng, self.observed_masks)
            if isinstance(valid := cond.get("valid"), Tensor):  # a missing entry is not observed
                observed_mask = observed_mask & append_dims(valid, observed_mask)
            x_t, cond = torch.where(observed_mask, x_1, x_t), {**cond, "known": observed_mask}
        return {"x_t": x_t, "t": t, "target": target, "given": cond}

    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        """Return the loss of prediction against target for each example, averaged over the entries of the loss mask.

        Raises:
            UsageError: If the network's signature or the shape of its output is wrong.
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
            cause = diagnose_network_error(network, prediction, x_t, t, cond, self.space, error)
            if cause is None:
                raise
            raise cause from error
