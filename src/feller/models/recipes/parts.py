"""How the networks are trained that the data need, beside the model itself."""

from dataclasses import dataclass

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
