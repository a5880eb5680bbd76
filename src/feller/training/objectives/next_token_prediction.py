"""Maximum likelihood of autoregressive models of texts and of table rows."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from feller.core.errors import check_number
from feller.core.rng import Rng
from feller.networks.condition_dropout import check_cond_dropout
from feller.spaces import Space
from feller.spaces.table_tokens import TableTokens
from feller.spaces.tokens import mask_until_end
from feller.training.losses import CrossEntropy
from feller.training.objective import Batch, ConditionalObjective, Example, SelfContainedObjective


@dataclass(frozen=True)
class NextTokenPrediction(ConditionalObjective):
    """Next-token prediction: cross-entropy of each token given the tokens before it, in nats per place of the space.

    All texts have equal weight: the sum over the tokens of a text is divided by the length of the space. A mean over
    the tokens of each text would give short texts more weight, and the model would generate too many of them.
    """

    family: ClassVar[str] = "autoregressive"
    space: Space
    """Space of token sequences of fixed length."""
    cond_dropout: float = 0.1
    """Probability of dropping the conditions of an example, for classifier-free guidance."""
    eos_token_id: int | None = None
    """Token that ends a text; the loss ignores tokens after its first occurrence."""

    def __post_init__(self) -> None:
        check_cond_dropout(self.cond_dropout)

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        """Return the data as both state and target, and drop the conditions of random examples."""
        x_1, cond = batch["x_1"], batch.get("given", {})
        if self.eos_token_id is not None:
            valid = mask_until_end(x_1, self.eos_token_id)
            cond = {**cond, "valid": valid & cond["valid"] if "valid" in cond else valid}
        return {
            "x_t": x_1,
            "t": torch.zeros(len(x_1), device=x_1.device),
            "target": x_1,
            "given": self.drop_conditions(cond, rng, network),
        }

    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        x_t, t, cond = example["x_t"], example["t"], example["given"]
        valid = cond.get("valid")
        mean = CrossEntropy()(network(x_t, t, cond), example["target"], x_t, t, valid)
        return mean if valid is None else mean * valid.to(mean.dtype).mean(1)


@dataclass(frozen=True)
class RowLikelihood(SelfContainedObjective):
    """Negative log-likelihood -log p(row) in nats: the sum of -log p(column | previous columns) in a column order.

    Training on random orders makes exact conditional sampling possible, with observed columns first. The loss of a row
    is the mean over several orders, so that DP-SGD can clip one gradient per row. Source: Sablayrolles et al. 2023,
    arXiv 2306.04803.
    """

    family: ClassVar[str] = "rows"
    space: TableTokens
    shuffle_prob: float = 1.0
    """Probability that a column order is random; otherwise it is the order of the table."""
    num_orders: int = 1
    """Number of column orders per row and step."""
    marginals_budget: float = 0.5
    """Fraction of a privacy budget for one- and two-way marginals, which are used to pretrain the network; 0 measures
    one-way marginals only, without pretraining."""
    cond_dropout: float = 0.0
    """Unused: observed values are columns of a row, not conditions."""

    def __post_init__(self) -> None:
        check_cond_dropout(self.cond_dropout)
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
        """Sample the orders in which the columns of each row are generated.

        With probability `shuffle_prob` an order is random, else it is that of the table.
        """
        shape = (len(x_1), self.num_orders, len(self.space.columns))
        stream = rng.stream("order")
        keys = stream.uniform(shape, torch.float64, x_1.device)
        is_shuffled = stream.uniform((*shape[:2], 1), torch.float64, x_1.device) < self.shuffle_prob
        column_order = torch.arange(shape[2], dtype=keys.dtype, device=keys.device)
        return torch.where(is_shuffled, keys, column_order).argsort(-1)

    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        x_t = example["x_t"]
        logits = network(x_t, example["t"], example["given"])
        has_orders = logits.ndim == 4
        target = x_t[:, None].expand(logits.shape[:-1]) if has_orders else x_t
        nll = -logits.log_softmax(-1).gather(-1, target[..., None])[..., 0].sum(-1)
        return nll.mean(1) if has_orders else nll
