"""Document vocabulary: ids of text tokens, image codes and structural tokens.

A document starts with `<eos>`. Then come segments, each followed by `<break>`; a segment is a text, or an image as a
fixed number of codes. Then come the contents of the document's holes, in order: `<infill>` and the content of the first
`<mask>`, and so on. The `<eos>` of the next document, or a final `<eos>`, ends the document. Source: Yu et al. 2023,
"Scaling autoregressive multi-modal models", arXiv 2309.02591.
"""

from dataclasses import dataclass

from jaxtyping import Bool, Int64
from torch import Tensor

from feller.core.errors import UsageError


@dataclass(frozen=True)
class DocumentVocabulary:
    """Token ids of documents; the inputs of a network are below `num_inputs`, its outputs below `num_outputs`."""

    text: int
    """Number of text tokens; their ids are 0 to text - 1."""
    codes: int
    """Number of image codes; their ids are text to text + codes - 1."""
    picture: int
    """Number of codes per image."""

    def __post_init__(self) -> None:
        if min(self.text, self.codes, self.picture) < 1:
            raise UsageError("vocabulary sizes of at least 1", self)

    @property
    def eos(self) -> int:
        """Id of `<eos>`, which starts each document and ends the last document."""
        return self.text + self.codes

    @property
    def break_token(self) -> int:
        """Id of `<break>`, which ends each segment."""
        return self.eos + 1

    @property
    def mask(self) -> int:
        """Id of `<mask>`, which stands for a hole; the content of the hole follows after the document."""
        return self.eos + 2

    @property
    def infill(self) -> int:
        """Id of `<infill>`, which precedes the content of a hole."""
        return self.eos + 3

    @property
    def num_outputs(self) -> int:
        """Number of token ids that a network can predict."""
        return self.eos + 4

    @property
    def pad(self) -> int:
        """Id of padding, which networks read but never predict."""
        return self.num_outputs

    @property
    def num_inputs(self) -> int:
        """Number of token ids that a network can read."""
        return self.num_outputs + 1

    @property
    def answer_start(self) -> int:
        """Id that marks the start of an answer in the data, which training turns into a hole; never a network input."""
        return self.num_outputs + 1

    @property
    def answer_end(self) -> int:
        """Id that marks the end of an answer in the data, which training turns into a hole; never a network input."""
        return self.num_outputs + 2

    @property
    def num_data_tokens(self) -> int:
        """Number of token ids that can occur in the training data, including the ids that mark answers."""
        return self.num_outputs + 3

    def is_text(self, tokens: Int64[Tensor, " *n"]) -> Bool[Tensor, " *n"]:
        """Return True for each token that is a text token."""
        return tokens < self.text

    def is_code(self, tokens: Int64[Tensor, " *n"]) -> Bool[Tensor, " *n"]:
        """Return True for each token that is an image code."""
        return (tokens >= self.text) & (tokens < self.eos)
