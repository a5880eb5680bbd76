"""Recipes: frozen dataclasses with all settings of a fit."""

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
    """Training settings of the two networks that a document model needs: image tokenizer and retrieval encoder."""

    tokenizer: TrainConfig
    """Training settings of the image tokenizer."""
    vectors: TrainConfig
    """Training settings of the document encoder for retrieval."""


@dataclass(frozen=True)
class SpeechAuxNetworks:
    """Training settings of the two networks that a speech model needs: both predict durations of phones."""

    durations: TrainConfig
    """Training settings of the deterministic duration model."""
    duration_sampler: TrainConfig
    """Training settings of the stochastic duration model."""


@dataclass(frozen=True)
class LatentAuxNetworks:
    """Training settings of the autoencoder whose latents a model of images generates.

    Source: Rombach et al. 2022, "High-resolution image synthesis with latent diffusion models", arXiv 2112.10752.
    """

    autoencoder: TrainConfig
    """Training settings of the autoencoder."""
    adversarial_weight: float = 0.5
    """Weight of the adversarial loss of the autoencoder; 0 trains without a discriminator."""


AuxNetworks = DocumentAuxNetworks | SpeechAuxNetworks | LatentAuxNetworks
"""Training settings of a modality's auxiliary networks, with one field per network."""


SIZES = ("tiny", "small", "base", "large", "xl")
"""Sizes of models, smallest first."""
USUAL_SIZES = SIZES[:3]
"""Sizes that every recipe has."""
Kind = TypeVar("Kind", bound=Modality)


def require_modality(modality: Modality, modality_type: type[Kind], recipe: str, needed: str) -> Kind:
    """Return the modality of the data as the type that a recipe needs; UsageError if it has another type."""
    if isinstance(modality, modality_type):
        return modality
    raise UsageError(
        f"the recipe `{recipe}` needs {needed}, but these data are {modality.display_name}", remedy="Use --recipe auto"
    )


def selected_dropout(modality: Modality) -> float:
    """Return the condition dropout of a model whose own conditions cannot be dropped, such as a number of atoms.

    Conditions that the user selected are dropped with the default probability; without any, nothing is dropped.
    """
    return 0.1 if modality.selected_conditions else 0.0


def check_states(space: Space, modality: Modality) -> None:
    """Check that states of a space have the components and shapes of the modality's states; UsageError otherwise."""
    ours, theirs = state_shapes(space), state_shapes(modality.space())
    if ours != theirs:
        raise UsageError(
            f"the recipe's space has states of {ours}, but the data ({modality.display_name}) have states of {theirs}",
            remedy="Use the modality's space in the recipe, or set the recipe's `modality`",
        )


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of a fit: network, objective, training and sampling."""

    architecture: NetworkConfig
    objective: ObjectiveConfig
    """Training objective, including path, source, loss, time distribution and coupling."""
    modality: Modality | None = None
    """Modality of the model if it differs from that of the data files, for example with pixel levels as tokens."""
    aux_networks: AuxNetworks | None = None
    """Training settings of the modality's auxiliary networks; None if there are none."""
    reflow_pairs: int = 0
    """Number of (source, end) pairs sampled from the older model as training data for reflow; 0 to train on the
    data."""
    held_out: float = 0.1
    """Fraction of the data held out for validation; ignored if the data have a test split."""
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
        """Return the model specification for a dataset.

        Raises:
            InputError: If the data lack a condition of their modality.
            UsageError: If the states of the recipe's objective do not match the data.
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
