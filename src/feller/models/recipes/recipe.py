"""Recipe: every choice of a fit as one frozen dataclass."""

from dataclasses import dataclass, field
from typing import TypeVar

from feller.core.errors import UsageError, check_kind
from feller.data.batches import check_share
from feller.data.modality import Dataset, Modality
from feller.models.families.model_family import family_of
from feller.models.spec import Description, frequencies, shapes
from feller.networks.architecture import Architecture
from feller.networks.condition_dropout import check_cond_dropout
from feller.sampling.sampler_config import SamplerConfig
from feller.spaces import Space
from feller.training.objective import ObjectiveConfig
from feller.training.optimizer import Training


@dataclass(frozen=True)
class DocumentParts:
    """Those of documents, before the model is."""

    tokenizer: Training
    """Of what writes pictures as codes."""
    vectors: Training
    """Of what finds documents that are like one."""


@dataclass(frozen=True)
class SpeechParts:
    """Those of speech, which say how long phones last."""

    durations: Training
    """Of the likeliest durations."""
    rhythm: Training
    """Of durations that are drawn."""


Parts = DocumentParts | SpeechParts
"""Each network of a modality has its own field."""


SIZES = ("tiny", "small", "base")
Kind = TypeVar("Kind", bound=Modality)


def need(modality: Modality, kind: type[Kind], recipe: str, what: str) -> Kind:
    """Return the modality of the data, if it is of the kind that a recipe needs."""
    if isinstance(modality, kind):
        return modality
    raise UsageError(
        f"the recipe `{recipe}` needs {what}, and these data are {modality.called}", remedy="Use --recipe auto"
    )


def check_states(space: Space, modality: Modality) -> None:
    """Refuse a space whose states have other leaves or shapes than those of the data."""
    ours, theirs = shapes(space), shapes(modality.space())
    if ours != theirs:
        raise UsageError(
            f"the recipe's space has states of {ours}, and these data, {modality.called}, make states of {theirs}",
            remedy="Give the recipe the modality's own space, or the `modality` that its space is for",
        )


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What to train, for how long, and how to sample."""

    architecture: Architecture
    objective: ObjectiveConfig
    """What the network learns: path, source, loss, times, coupling."""
    modality: Modality | None = None
    """The data as the model sees them, where that is not as they were read: levels of pictures as symbols."""
    parts: Parts | None = None
    """How the networks of the modality are trained, where it has any."""
    pairs: int = 0
    """Train on so many pairs of source and end that the older model draws, instead of on the data (reflow)."""
    held_out: float = 0.1
    """Share of the data kept back to judge the samples; none is kept of a set that has its own test part."""
    train: Training = field(default_factory=Training)
    sampling: SamplerConfig = field(default_factory=SamplerConfig)

    def __post_init__(self) -> None:
        check_kind("architecture", self.architecture, Architecture, "feller.MLP(width=64, depth=2)")
        check_kind("objective", self.objective, ObjectiveConfig, "feller.FlowMatching(feller.Affine(), space)")
        check_kind("train", self.train, Training, "feller.Training(steps=1000)")
        check_kind("sampling", self.sampling, SamplerConfig, "feller.SamplerConfig()")
        check_cond_dropout(self.objective.cond_dropout)
        check_share(self.held_out)

    def describe(self, data: Dataset) -> Description:
        """Return what the model will be, from the data that it learns.

        Raises:
            InputError: If the data lack a condition of their modality.
            UsageError: If the recipe is for other states than theirs.
        """
        objective = self.objective
        check_states(objective.space, data.modality)
        return Description(
            data.modality,
            objective.space,
            family_of(objective),
            self.architecture,
            frequencies(data),
            objective.sampling(self.sampling),
            objective.cond_dropout,
            objective.conditionable,
        )
