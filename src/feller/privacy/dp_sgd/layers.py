"""How kinds of layers tell the gradients of single examples: from what went in, and the slopes of what came out.

A kind joins with `register`, or by two methods of its own: `per_example(inputs, slopes)`, squared norms [b] of its
gradients, and `weighted(inputs, slopes, factors)`, their sums under the names of its weights, each example's times its
factor, [b]. There `inputs` is the argument of the call, or the tuple of them where there are several.

Source: Bu, Wang, Zha and Karypis 2022, "Differentially private optimization on large model at small cost",
arXiv 2210.00038; Li et al. 2022, arXiv 2110.05679, for the norms of linear layers.
"""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from feller.privacy.dp_sgd.common_rules import OfEmbedding, OfLinear, OfNorm
from feller.privacy.dp_sgd.convolution_rule import OfConvolution
from feller.privacy.dp_sgd.grad_samplers import Call, Rule


def register(kind: type[nn.Module], rule: Rule) -> None:
    """Let layers of exactly this kind be told by a rule."""
    _RULES[kind] = rule


def rule_of(layer: nn.Module) -> Rule | None:
    """Return the rule of a layer, if there is one that takes it."""
    rule = _RULES.get(type(layer))
    if rule is None and hasattr(layer, "per_example") and hasattr(layer, "weighted"):
        rule = Own()
    return rule if rule is not None and rule.takes(layer) else None


class Own(Rule):
    """A layer that tells by itself."""

    def squares(self, layer: Any, calls: Sequence[Call]) -> Float[Tensor, " b"] | None:
        """Ask it, where it was called once."""
        return layer.per_example(calls[0].inputs, calls[0].slopes) if len(calls) == 1 else None

    def weighted(self, layer: Any, call: Call, factors: Float[Tensor, " b"]) -> dict[str, Tensor]:
        """Ask it."""
        return layer.weighted(call.inputs, call.slopes, factors)


def _layer_norm(layer: nn.LayerNorm, x: Tensor) -> Tensor:
    return F.layer_norm(x, layer.normalized_shape, eps=layer.eps)


def _rms_norm(layer: nn.RMSNorm, x: Tensor) -> Tensor:
    return F.rms_norm(x, layer.normalized_shape, eps=layer.eps)


def _group_norm(layer: nn.GroupNorm, x: Tensor) -> Tensor:
    return F.group_norm(x, layer.num_groups, eps=layer.eps)


_RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: OfLinear(),
    nn.Embedding: OfEmbedding(),
    nn.LayerNorm: OfNorm(_layer_norm),
    nn.RMSNorm: OfNorm(_rms_norm),
    nn.GroupNorm: OfNorm(_group_norm, channels=True),
    nn.Conv1d: OfConvolution(),
    nn.Conv2d: OfConvolution(),
}
