"""Computation of the generalised KL divergence between jump rates of a mixture path, from logits of the data."""

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from feller.core.pytree import append_dims, maybe_any
from feller.paths.discrete.token_schedules import TokenSchedule
from feller.paths.path import Places
from feller.paths.schedules import AlphaSigma, Linear, Schedule
from feller.spaces.space import Points
from feller.training.losses.loss import Loss

MIN_LOG_PROB = -80.0
"""Log-probability below which float32 softmax loses digits."""


class _RateDivergence(torch.autograd.Function):
    """Autograd function of the generalised KL for one rate per token; backward overwrites the softmax of forward."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        logits: Float[Tensor, "*d K"], x_1: Int[Tensor, "*d 1"], x_t: Int[Tensor, "*d 1"], weight: Float[Tensor, "*d 1"]
    ) -> tuple[Float[Tensor, "*d 1"], Float[Tensor, "*d K"]]:
        p = logits.softmax(-1)
        log_p = p.gather(-1, x_1).log()
        if maybe_any(log_p < MIN_LOG_PROB):
            mode = logits.argmax(-1, keepdim=True)  # its probability never underflows
            log_p = logits.gather(-1, x_1) - logits.gather(-1, mode) + p.gather(-1, mode).log()
        miss = torch.where(x_t == x_1, 0.0, log_p)  # avoids 0 * inf if p(x_1) = 0
        return weight * ((x_t == x_1).to(p.dtype) - _at(p, x_t) - miss), p

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(output[1], *inputs[1:])

    @staticmethod
    @once_differentiable
    def backward(  # pyrefly: ignore[bad-override] - the decorator hides the name of the first argument
        ctx: Any, *grad_outputs: Any
    ) -> tuple[Tensor, None, None, None]:
        """Return w [p (1 - D + p_xt) - (1 - D) e_x1 - p_xt e_xt], written over p."""
        p, x_1, x_t, weight = ctx.saved_tensors
        scale, differs, p_xt = weight * grad_outputs[0], (x_t != x_1).to(p.dtype), _at(p, x_t)
        p.mul_(scale * (differs + p_xt))
        p.scatter_add_(-1, x_1, -scale * differs)
        p.scatter_add_(-1, x_t.clamp(max=p.shape[-1] - 1), -scale * p_xt)
        return p, None, None, None


def _at(p: Float[Tensor, "*d K"], x: Int[Tensor, "*d 1"]) -> Float[Tensor, "*d 1"]:
    """Return the probability p of token x; 0 for the mask token."""
    vocab_size = p.shape[-1]
    return torch.where(x < vocab_size, p.gather(-1, x.clamp(max=vocab_size - 1)), 0.0)


@dataclass(frozen=True)
class GeneralizedKL(Loss):
    """Generalised KL between conditional and predicted jump rates of a mixture path: an upper bound on -log p(x_1).

    The weight alpha' / (1 - alpha) is infinite at t = 1, so use the time distribution `Rescaled`. With one schedule for
    all tokens, forward and backward pass share memory, so the backward pass can run only once and cannot be
    differentiated.
    Source: Shaul et al. 2024, arXiv 2412.03487, for token-dependent schedules.
    """

    schedule: Schedule | TokenSchedule = field(default_factory=Linear)

    def entries(self, prediction: Float[Tensor, "b *d K"], target: Places, x_t: Places, t: Tensor) -> Points:
        """Return w [(D - 1) log p(x_1) + D - p(x_t)] with D = 1 if x_t = x_1, else 0.

        w is the weight alpha' / (1 - alpha); p are the predicted probabilities, 0 for the mask token.
        """
        x_1, x_t, t = target[..., None], x_t[..., None], append_dims(t, prediction)
        if isinstance(self.schedule, TokenSchedule):
            return _token_dependent(self.schedule, prediction, x_1, x_t, t)[..., 0]
        weight = _rate(self.schedule(t)).expand(t.shape).to(prediction.dtype)
        return _RateDivergence.apply(prediction, x_1, x_t, weight.expand(x_1.shape))[0][..., 0]


def _rate(scales: AlphaSigma) -> Tensor:
    """Return alpha' / (1 - alpha), the rate of jumps to the data token of a mixture path."""
    return torch.as_tensor(scales.d_alpha) / torch.as_tensor(scales.sigma)


def _token_dependent(schedule: TokenSchedule, logits: Tensor, x_1: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    """Return the generalised KL of jump rates r_a that depend on the data token a, up to terms without logits, [*d, 1].

    This is sum_a r_a p(a) - r_xt p(x_t) - [x_t != x_1] r_x1 (1 + log p(x_1)), with p the softmax of the logits.
    """
    tokens = torch.arange(logits.shape[-1], device=logits.device)
    rates = _rate(schedule(t, tokens)).to(logits.dtype).expand(logits.shape)
    log_p = logits.log_softmax(-1)
    flow = rates * log_p.exp()
    jump = torch.where(x_t == x_1, 0.0, rates.gather(-1, x_1) * (1 + log_p.gather(-1, x_1)))
    return flow.sum(-1, keepdim=True) - _at(flow, x_t) - jump
