"""Recipe: every choice of a fit as one frozen dataclass."""

from dataclasses import dataclass, field
from typing import TypeVar

from feller.core.errors import UsageError, check_kind
from feller.data.batches import check_held_out_fraction
from feller.data.modality import Dataset, Modality
from feller.models.families.model_family import family_for
from feller.models.spec import ModelSpec, class_frequencies, state_shapes
from feller.networks.condition_dropout import check_cond_dropout
from feller.networks.network_config import NetworkConfig
from feller.sampling.sampler_config import SamplerConfig
from feller.spaces import Space
from feller.training.objective import ObjectiveConfig
from feller.training.optimizer import TrainConfig


@dataclass(frozen=True)
class DocumentAuxNetworks:
    """Those of documents, before the model is."""

    tokenizer: TrainConfig
    """Of what writes pictures as codes."""
    vectors: TrainConfig
    """Of what finds documents that are like one."""


@dataclass(frozen=True)
class SpeechAuxNetworks:
    """Those of speech, which say how long phones last."""

    durations: TrainConfig
    """Of the likeliest durations."""
    duration_sampler: TrainConfig
    """Of durations that are drawn."""


AuxNetworks = DocumentAuxNetworks | SpeechAuxNetworks
"""Each network of a modality has its own field."""


SIZES = ("tiny", "small", "base")
Kind = TypeVar("Kind", bound=Modality)


def require_modality(modality: Modality, modality_type: type[Kind], recipe: str, needed: str) -> Kind:
    """Return the modality of the data, if it is of the kind that a recipe needs."""
    if isinstance(modality, modality_type):
        return modality
    raise UsageError(
        f"the recipe `{recipe}` needs {needed}, and these data are {modality.display_name}", remedy="Use --recipe auto"
    )


def check_states(space: Space, modality: Modality) -> None:
    """Refuse a space whose states have other leaves or shapes than those of the data."""
    ours, theirs = state_shapes(space), state_shapes(modality.space())
    if ours != theirs:
        raise UsageError(
            f"the recipe's space has states of {ours}, and these data, {modality.display_name}, make states of"
            f" {theirs}",
            remedy="Give the recipe the modality's own space, or the `modality` that its space is for",
        )


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What to train, for how long, and how to sample."""

    architecture: NetworkConfig
    objective: ObjectiveConfig
    """What the network learns: path, source, loss, times, coupling."""
    modality: Modality | None = None
    """The data as the model sees them, where that is not as they were read: levels of pictures as symbols."""
    aux_networks: AuxNetworks | None = None
    """How the networks of the modality are trained, where it has any."""
    reflow_pairs: int = 0
    """Train on so many pairs of source and end that the older model draws, instead of on the data (reflow)."""
    held_out: float = 0.1
    """Share of the data kept back to judge the samples; none is kept of a set that has its own test part."""
    train: TrainConfig = field(default_factory=TrainConfig)
    sampling: SamplerConfig = field(default_factory=SamplerConfig)

    def __post_init__(self) -> None:
        check_kind("architecture", self.architecture, NetworkConfig, "feller.MLP(width=64, depth=2)")
        check_kind("objective", self.objective, ObjectiveConfig, "feller.FlowMatching(feller.Affine(), space)")
        check_kind("train", self.train, TrainConfig, "feller.TrainConfig(steps=1000)")
        check_kind("sampling", self.sampling, SamplerConfig, "feller.SamplerConfig()")
        check_cond_dropout(self.objective.cond_dropout)
        check_held_out_fraction(self.held_out)

    def model_spec(self, data: Dataset) -> ModelSpec:
        """Return what the model will be, from the data that it learns.

        Raises:
            InputError: If the data lack a condition of their modality.
            UsageError: If the recipe is for other states than theirs.
        """
        objective = self.objective
        check_states(objective.space, data.modality)
        return ModelSpec(
            data.modality,
            objective.space,
            family_for(objective),
            self.architecture,
            class_frequencies(data),
            objective.sampler_config(self.sampling),
            objective.cond_dropout,
            objective.conditionable,
        )
