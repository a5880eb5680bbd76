"""Maximum likelihood of autoregressive models: next tokens of texts, columns of rows."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from feller.core.errors import check_number
from feller.core.rng import Rng
from feller.spaces import Space
from feller.spaces.table_tokens import TableTokens
from feller.spaces.tokens import mask_until_end
from feller.training.losses import CrossEntropy
from feller.training.objective import Batch, ConditionalObjective, Example, SelfContainedObjective


@dataclass(frozen=True)
class NextTokenPrediction(ConditionalObjective):
    """Cross-entropy of each token given those before it: -log p(x_1) in nats per token of the text."""

    family: ClassVar[str] = "autoregressive"
    space: Space
    """Texts of one length, as `Tokens`."""
    cond_dropout: float = 0.1
    """Chance that an example's conditions are dropped, for guidance and for sampling without them."""
    eos_token_id: int | None = None
    """Symbol with which a text ends; what follows its first is not counted."""

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        """Return the data as state and as target; nothing is random but which conditions are dropped."""
        x_1, cond = batch["x_1"], batch.get("given", {})
        if self.eos_token_id is not None:
            within = mask_until_end(x_1, self.eos_token_id)
            cond = {**cond, "valid": within & cond["valid"] if "valid" in cond else within}
        return {
            "x_t": x_1,
            "t": torch.zeros(len(x_1), device=x_1.device),
            "target": x_1,
            "given": self.drop_conditions(cond, rng, network),
        }

    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        x_t, t, cond = example["x_t"], example["t"], example["given"]
        return CrossEntropy()(network(x_t, t, cond), example["target"], x_t, t, cond.get("valid"))


@dataclass(frozen=True)
class RowLikelihood(SelfContainedObjective):
    """-log p(row) in nats: what each column costs given those written before it, added up.

    Where a network is trained in any order, rows with known columns are drawn exactly, the known ones first. Several
    serialisations of a row are averaged inside its own loss, so that its gradient can be bounded as that of one row.
    Source: Sablayrolles et al. 2023, arXiv 2306.04803.
    """

    family: ClassVar[str] = "rows"
    space: TableTokens
    shuffle_prob: float = 1.0
    """Share of the serialisations whose columns come in an order drawn by chance; the others come as in the table."""
    num_orders: int = 1
    """Of each row in each step."""
    marginals_budget: float = 0.5
    """Share of a private budget that is spent on counts of columns and pairs, of whose law the network is taught before
    it sees a row; 0 counts single columns alone, and teaches nothing."""
    cond_dropout: float = 0.0
    """There are no conditions to drop: what is known of a row are columns of its own."""

    def __post_init__(self) -> None:
        check_number("shuffle_prob", self.shuffle_prob, ge=0, le=1)
        check_number("num_orders", self.num_orders, ge=1)
        check_number("marginals_budget", self.marginals_budget, ge=0, lt=1)

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        x_1 = batch["x_1"]
        example = {"x_t": x_1, "t": torch.zeros(len(x_1), device=x_1.device), "given": {}}
        if self.shuffle_prob:
            example["given"] = {"order": self._orders(x_1, rng)}
        return example

    def _orders(self, x_1: Tensor, rng: Rng) -> Int64[Tensor, "b serialisations columns"]:
        """Return some orders of each row."""
        shape = (len(x_1), self.num_orders, len(self.space.columns))
        stream = rng.stream("order")
        keys = stream.uniform(shape, torch.float64, x_1.device)
        is_shuffled = stream.uniform((*shape[:2], 1), torch.float64, x_1.device) < self.shuffle_prob
        column_order = torch.arange(shape[2], dtype=keys.dtype, device=keys.device)
        return torch.where(is_shuffled, keys, column_order).argsort(-1)

    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        x_t = example["x_t"]
        logits = network(x_t, example["t"], example["given"])
        several = logits.ndim == 4
        target = x_t[:, None].expand(logits.shape[:-1]) if several else x_t
        nll = -logits.log_softmax(-1).gather(-1, target[..., None])[..., 0].sum(-1)
        return nll.mean(1) if several else nll
