"""Model families that map data to predictions, codes or sounds and generate no samples."""

from dataclasses import dataclass
from typing import Any, ClassVar

from feller.data.modality import Target
from feller.models.families.model_family import ModelFamily
from feller.paths import Mixture
from feller.spaces import Space


@dataclass(frozen=True)
class RegressionModel(ModelFamily):
    """Regressor or classifier: the network maps data to targets, [b, outputs].

    Outputs are standardised numbers, or logits of the classes.
    """

    name: ClassVar[str] = "regressor"
    why_no_samples: ClassVar[str] = (
        "this run predicts targets and generates no samples; evaluate it with `feller evaluate --data`, or use it as"
        " a --reward of another run"
    )
    output_kind: ClassVar[str] = "estimates"
    target: Target

    @classmethod
    def from_objective(cls, objective: Any) -> "ModelFamily":
        return cls(objective.target)

    def describe(self) -> str:
        return f"predicts {', '.join(self.target.names)}"

    @property
    def prediction_target(self) -> Target:
        return self.target

    def sampling_steps(self, space: Space) -> list[str]:
        return ["answer * target.scales + target.means, or logits of target.classes; x is the data's state"]


@dataclass(frozen=True)
class AutoencoderModel(ModelFamily):
    """Image autoencoder with discrete codes."""

    name: ClassVar[str] = "autoencoder"
    why_no_samples: ClassVar[str] = (
        "this run is an image tokenizer and generates no samples; evaluate its reconstructions with `feller evaluate"
        " --data`, or train a model of text and images on its codes"
    )
    why_no_export: ClassVar[str] = (
        "an image tokenizer cannot be exported: it is no function of state and time; load it with feller"
    )

    def describe(self) -> str:
        return "encodes images as discrete codes"


@dataclass(frozen=True)
class LatentAutoencoderModel(ModelFamily):
    """Image autoencoder with continuous latents."""

    name: ClassVar[str] = "latent-autoencoder"
    why_no_samples: ClassVar[str] = (
        "this run is an image autoencoder and generates no samples; evaluate its reconstructions with `feller evaluate"
        " --data`, or train a flow of its latents with `feller fit IMAGES --latent RUN`"
    )
    why_no_export: ClassVar[str] = (
        "an image autoencoder cannot be exported: it is no function of state and time; load it with feller"
    )

    def describe(self) -> str:
        return "encodes images as latents"


@dataclass(frozen=True)
class VocoderModel(ModelFamily):
    """Vocoder from log-mel spectrograms to waveforms."""

    name: ClassVar[str] = "vocoder"
    why_no_samples: ClassVar[str] = (
        "this run is a vocoder, which converts log-mel spectrograms to sound and generates no samples; evaluate it with"
        " `feller evaluate --data`, or use it as the vocoder of a speech model"
    )
    why_no_export: ClassVar[str] = (
        "a vocoder cannot be exported: it is no function of state and time; load it with feller"
    )

    def describe(self) -> str:
        return "converts log-mel spectrograms to sound"


@dataclass(frozen=True)
class EmbeddingModel(ModelFamily):
    """Embedding model: the network maps data to vectors, [b, d], which are similar for similar data."""

    name: ClassVar[str] = "embedding"
    why_no_samples: ClassVar[str] = "this network embeds data and generates no samples; use its vectors"

    def describe(self) -> str:
        return "embeds data as vectors"


@dataclass(frozen=True)
class ExpectationModel(ModelFamily):
    """Model that predicts the mean of the missing data given the conditions, without sampling."""

    name: ClassVar[str] = "expectation"
    why_no_samples: ClassVar[str] = (
        "this run predicts missing data by their mean and generates no samples; give it data to fill in"
    )

    def describe(self) -> str:
        return "predicts missing data by their mean"


@dataclass(frozen=True)
class PlannerModel(ModelFamily):
    """Planner of a masked model: the network maps completed sequences to the log odds that each token is right."""

    name: ClassVar[str] = "planner"
    why_no_samples: ClassVar[str] = (
        "this run is a planner of a masked model and generates no samples; pass its network to LearnedOrder"
    )
    path: Mixture
    """Path of the masked model."""

    @classmethod
    def from_objective(cls, objective: Any) -> "ModelFamily":
        return cls(objective.path)

    def describe(self) -> str:
        return "tells which tokens of a completed sequence are right"
