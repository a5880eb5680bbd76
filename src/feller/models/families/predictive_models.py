"""Networks that answer about data, and draw none."""

from dataclasses import dataclass
from typing import Any, ClassVar

from feller.data.modality import Target
from feller.models.families.model_family import ModelFamily
from feller.spaces import Space


@dataclass(frozen=True)
class RegressionModel(ModelFamily):
    """The network sees data and answers with a target, [b, answers].

    Answers are numbers less their means, in their deviations, or logits of classes.
    """

    name: ClassVar[str] = "regressor"
    why_no_samples: ClassVar[str] = (
        "this run tells of data and draws none; ask it about some with `feller evaluate --data`, or name it as"
        " a --reward of another run"
    )
    output_kind: ClassVar[str] = "estimates"
    target: Target
    """What is told of the data."""

    @classmethod
    def from_objective(cls, objective: Any) -> "ModelFamily":
        return cls(objective.target)

    def describe(self) -> str:
        return f"tells {', '.join(self.target.names)} of data"

    @property
    def prediction_target(self) -> Target:
        return self.target

    def sampling_steps(self, space: Space) -> list[str]:
        return ["answer * target.scales + target.means, or logits of target.classes; x is the data's state"]


@dataclass(frozen=True)
class AutoencoderModel(ModelFamily):
    """The network writes pictures as codes, and reads them back."""

    name: ClassVar[str] = "autoencoder"
    why_no_samples: ClassVar[str] = (
        "this run writes pictures as codes and draws none; see how it copies some with `feller evaluate --data`, or"
        " let a model of texts and pictures learn its codes"
    )
    why_no_export: ClassVar[str] = (
        "this network makes codes of pictures and is no function of state and time; load it with feller"
    )

    def describe(self) -> str:
        return "writes codes of data"


@dataclass(frozen=True)
class VocoderModel(ModelFamily):
    """The network makes sounds of log mels."""

    name: ClassVar[str] = "vocoder"
    why_no_samples: ClassVar[str] = (
        "this run is a vocoder, which makes sounds of log mels and draws none; see how it copies some with `feller"
        " evaluate --data`, or name it as the vocoder of a run that draws speech"
    )
    why_no_export: ClassVar[str] = (
        "this network makes sounds of log mels and is no function of state and time; load it with feller"
    )

    def describe(self) -> str:
        return "resynthesises data"


@dataclass(frozen=True)
class EmbeddingModel(ModelFamily):
    """The network answers with a vector, and like data with like ones, [b, d]."""

    name: ClassVar[str] = "embedding"
    why_no_samples: ClassVar[str] = "this network finds what data are like and draws none; ask it for vectors"

    def describe(self) -> str:
        return "finds what data are like"


@dataclass(frozen=True)
class ExpectationModel(ModelFamily):
    """The network answers with the expectation of data that are missing, from its conditions alone."""

    name: ClassVar[str] = "expectation"
    why_no_samples: ClassVar[str] = (
        "this run fills in what is missing by its expectation and draws none; give it something to fill in"
    )

    def describe(self) -> str:
        return "fills in what is missing by its expectation"
