"""Numbers of the symbols of documents: those of text, then codes of pictures, then what structures them.

A document is `<eos>`, then segments with `<break>` behind each: a text, or a picture of always as many codes. Behind
the last `<break>` may stand what fills its holes: `<infill>` and the content of the first `<mask>`, `<infill>` and that
of the second, and so on. What comes then is the `<eos>` of the next document, or the last. Source: Yu et al. 2023,
"Scaling autoregressive multi-modal models", arXiv 2309.02591.
"""

from dataclasses import dataclass

from jaxtyping import Bool, Int64
from torch import Tensor

from feller.core.errors import UsageError


@dataclass(frozen=True)
class DocumentVocabulary:
    """How many symbols there are of each kind.

    A network reads those below `num_inputs`, and answers those below `num_outputs`.
    """

    text: int
    """Symbols of text: 0 to text - 1."""
    codes: int
    """Codes of pictures: text to text + codes - 1."""
    picture: int
    """Codes of each picture."""

    def __post_init__(self) -> None:
        if min(self.text, self.codes, self.picture) < 1:
            raise UsageError("numbers of 1 or more", self)

    @property
    def eos(self) -> int:
        """Where a document begins, and the last one ends."""
        return self.text + self.codes

    @property
    def break_token(self) -> int:
        """`<break>`, behind each segment."""
        return self.eos + 1

    @property
    def mask(self) -> int:
        """A hole, whose content follows behind the document."""
        return self.eos + 2

    @property
    def infill(self) -> int:
        """What announces the content of a hole."""
        return self.eos + 3

    @property
    def num_outputs(self) -> int:
        """Symbols that a network answers with."""
        return self.eos + 4

    @property
    def pad(self) -> int:
        """What fills rows up; read, and never answered."""
        return self.num_outputs

    @property
    def num_inputs(self) -> int:
        """Symbols that a network reads."""
        return self.num_outputs + 1

    @property
    def answer_start(self) -> int:
        """Mark of data before what is always hidden in training; no network sees it."""
        return self.num_outputs + 1

    @property
    def answer_end(self) -> int:
        """Mark of data behind what is always hidden in training; no network sees it."""
        return self.num_outputs + 2

    @property
    def num_data_tokens(self) -> int:
        """Numbers that rows of data hold."""
        return self.num_outputs + 3

    def is_text(self, tokens: Int64[Tensor, " *n"]) -> Bool[Tensor, " *n"]:
        """Tell which are of text."""
        return tokens < self.text

    def is_code(self, tokens: Int64[Tensor, " *n"]) -> Bool[Tensor, " *n"]:
        """Tell which are of pictures."""
        return (tokens >= self.text) & (tokens < self.eos)
