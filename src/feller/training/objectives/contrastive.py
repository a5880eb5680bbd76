"""Training of a network that places pictures among texts: each nearest to its own."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from feller.core.errors import InputError, check_number
from feller.core.rng import RandomStream, Rng
from feller.data.documents.vocabulary import Symbols
from feller.networks.sequence.bi_encoder import pictures_of, with_gaps
from feller.spaces import Space
from feller.training.objective import Batch, BatchCoupledObjective, Example, Objective, TrainingContext

SAME = 1 - 1e-4
"""Likeness from which two texts are one: neither is a wrong answer to the other's picture."""


@dataclass(frozen=True)
class Contrastive(BatchCoupledObjective):
    """InfoNCE in both directions: which text is a picture's, and which picture a text's, among those of a group.

    An example is a whole group, so that its loss can be taken apart from the others'. Of several pictures of a document
    one is drawn; documents without text or picture are left out. Source: Radford et al. 2021, "Learning transferable
    visual models", arXiv 2103.00020.
    """

    shardable = False  # documents are told apart from all others of their batch
    family: ClassVar[str] = "embedding"
    space: Space
    """Rows of symbols."""
    symbols: Symbols
    group: int = 256
    """Documents that are told apart, at most: a batch is cut into equal groups."""
    dropout: float = 0.2
    """Chance that a code is not seen, as it is of queries."""

    def __post_init__(self) -> None:
        check_number("group", self.group, ge=2)
        check_number("dropout", self.dropout, ge=0, lt=1)

    def build(self, context: TrainingContext) -> Objective:
        """Return it as it is, if there is something to learn.

        Raises:
            InputError: If no document has text and picture.
        """
        if context.data is None:
            return self
        rows = context.data.modality.encode(context.data.values)
        _, owner = pictures_of(rows, self.symbols)
        if not self.symbols.is_text(rows[owner]).any():
            raise InputError("documents with a text and a picture", f"none among {len(rows):,}", "Add some")
        return self

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        """Draw a picture of each document and what is not seen of it, and look the texts up.

        Returns:
            Groups [g, group]: codes `x_t`, vectors of texts `target`, and `weight`, with which the losses of all
            groups, added up and divided by the batch, are the mean over pairs; 0 where there is no pair.
        """
        x_1 = batch["x_1"]
        with torch.no_grad():
            text, has_text = network.texts(x_1)
        seen = with_gaps(x_1, self.symbols, self.dropout, rng.stream("dropout"))
        codes, has_picture = _one_picture(seen, self.symbols, rng.stream("picture"))
        pair = has_text & has_picture
        weight = pair * (len(x_1) / pair.sum().clamp(min=1))
        x_t, target, weight = (_grouped(part, self.group) for part in (codes, text, weight))
        return {"x_t": x_t, "t": torch.zeros(len(x_t), device=x_1.device), "target": target, "weight": weight}

    def loss(self, network: Any, example: Example) -> Float[Tensor, " g"]:
        """Average both directions, over the pairs of a group by their weights."""
        x_t, target, weight = example["x_t"], example["target"], example["weight"]
        b, g = weight.shape
        answer = network(x_t.flatten(0, 1), example["t"].repeat_interleave(g), {}).unflatten(0, (b, g))
        logits = answer @ target.to(answer.dtype).mT  # [b, pictures, texts]
        own = torch.eye(g, dtype=torch.bool, device=logits.device)
        others = (weight[:, :, None] > 0) & (weight[:, None] > 0) & (target @ target.mT < SAME)
        logits = logits.masked_fill(~(own | others), -torch.inf)
        spent = [-logits.log_softmax(axis).diagonal(dim1=1, dim2=2) for axis in (1, 2)]
        return (weight * (spent[0] + spent[1]) / 2).sum(1)


def _one_picture(
    rows: Int64[Tensor, "n l"], symbols: Symbols, draw: RandomStream
) -> tuple[Int64[Tensor, "n picture"], Bool[Tensor, " n"]]:
    """Draw a picture of each document, and tell which have any."""
    codes, owner = pictures_of(rows, symbols)
    many = torch.bincount(owner, minlength=len(rows))
    which = (many * draw.uniform((len(rows),), torch.float64, rows.device)).long()
    found = torch.zeros(len(rows), symbols.picture, dtype=codes.dtype, device=rows.device)
    some = many > 0
    found[some] = codes[(many.cumsum(0) - many + which)[some]]
    return found, some


def _grouped(rows: Tensor, size: int) -> Tensor:
    """Cut rows into groups of one size, or a little less, the last filled up with zeros: [groups, size, ...]."""
    groups = max(1, -(-len(rows) // size))
    size = -(-len(rows) // groups)
    rest = groups * size - len(rows)
    return torch.cat([rows, rows.new_zeros(rest, *rows.shape[1:])]).unflatten(0, (groups, size))
