"""Rows that are planted in a private training, and what an attacker makes of them who sees every noisy gradient.

Two games are played with planted rows. In the first, each row is there by a fair coin, and is scored by how much
likelier the noisy sums are if it is: an audit in one run (Steinke, Nasr and Jagielski 2023, arXiv 2305.08846). There
the attacker must not know the coins of the others, so what these may add is noise to them. In the second, a place holds
one of several candidates, and whoever knows all else names the likeliest one: the informed attacker of Balle, Cherubin
and Hayes 2022, arXiv 2201.04845, and Hayes, Mahloujifar and Balle 2023, arXiv 2302.07225.

What a planted row meets at a step, such as its time and its noise, follows from its own number, and is known to the
attacker: the guarantee holds for each such draw, as no other row's changes with it.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor, nn

from feller.core.errors import UsageError, check_number
from feller.core.gradient import Gradient, LossFunction
from feller.core.pytree import num_examples, tree_map
from feller.privacy.dp_sgd.clip_norm import FixedClipNorm
from feller.privacy.dp_sgd.per_example_clipping import trainable_params
from feller.privacy.dp_sgd.per_example_gradients import CHUNK_SIZE, per_sample_gradients
from feller.privacy.dp_sgd.private_gradient import DPSGD
from feller.privacy.noise.grid_noise import Noise

CanaryExamplesFn = Callable[[nn.Module, int], dict[str, Any]]
"""From the network and the number of a step to the examples of all that may be planted: each from its own row."""


def log_mixture_ratio(rate: float, exponent: Float64[Tensor, " *n"]) -> Float64[Tensor, " *n"]:
    """Return log(1 - rate + rate e^exponent): of a sum that holds a row with a chance, over one that does not."""
    if rate == 1:
        return exponent
    return torch.logaddexp(torch.full_like(exponent, math.log1p(-rate)), math.log(rate) + exponent)


def row_log_likelihood_ratios(
    gram: Float64[Tensor, "n n"], projections: Float64[Tensor, " n"], scale: float, chances: Float64[Tensor, " n"]
) -> Float64[Tensor, " n"]:
    """Return for each row log p(sum | it is added) / p(sum | it is not), where the others are added by chance.

    What the others add is taken for normal, of the mean and variance that their chances give it; that changes how good
    the attack is, and not what it proves.

    Args:
        gram: Inner products of the rows' gradients.
        projections: Inner products of these with the noisy sum, without all that is known.
        scale: Standard deviation of the noise.
        chances: Of each row to be in the sum, as far as is known.
    """
    spread = chances * (1 - chances)
    noisy = scale**2 * torch.eye(len(gram), dtype=gram.dtype, device=gram.device) + gram * spread
    solved = torch.linalg.solve(noisy, torch.cat([gram, projections[:, None]], 1))
    precise, projected = solved[:, :-1], solved[:, -1]
    own = precise.diagonal()
    alone = 1 - spread * own  # what is left once the row's own part of the variance is taken out
    return (projected - precise @ chances + own * chances) / alone - own / alone / 2


@dataclass(frozen=True, eq=False)
class Canaries:
    """What is planted, by the numbers of the examples: first those by a coin, then the candidates of each place."""

    present: Bool[Tensor, " n"]
    """Rows by a coin that are there."""
    chosen: Int64[Tensor, " places"]
    """The candidate that is at each place."""
    num_candidates: int
    """Of each place."""

    @property
    def included(self) -> Int64[Tensor, " m"]:
        """Numbers of the examples that are in the training."""
        first = len(self.present) + self.num_candidates * torch.arange(len(self.chosen))
        return torch.cat([self.present.nonzero()[:, 0], first + self.chosen])


class CanaryAttacker:
    """The account of an attacker, over all steps."""

    def __init__(self, canaries: Canaries, examples: CanaryExamplesFn, *, rate: float, noise: Noise) -> None:
        """Begin before the first step."""
        check_number("rate", rate, gt=0, le=1)
        self.canaries, self.examples, self.rate, self.noise = canaries, examples, rate, noise
        self.coin_scores = torch.zeros(len(canaries.present), dtype=torch.float64)
        """Log likelihood ratio of each row by a coin: high where it seems to be there."""
        self.candidate_scores = torch.zeros(len(canaries.chosen), canaries.num_candidates, dtype=torch.float64)
        """The same of each candidate."""
        self.steps = 0

    def sample(self) -> Int64[Tensor, " m"]:
        """Return the examples that are in the sample of this step, each by a coin of its own."""
        there = self.canaries.included
        return there if self.rate == 1 else there[self.noise.bernoulli(self.rate, (len(there),))]

    def observe(
        self, loss: LossFunction, network: nn.Module, example: Any, sampled: Tensor, total: Tensor, params: "StepParams"
    ) -> None:
        """Add what a step tells; noise that is less than what is charged is noticed by its size, and made use of.

        Args:
            loss: (network, example) -> [b].
            network: Before the step.
            example: Of all that may be planted.
            sampled: Numbers of those in the sample.
            total: The noisy sum without the rows that are known, as one vector.
            params: It was cut and noised.
        """
        n, scale = len(self.coin_scores), min(params.scale, total.square().mean().sqrt().item())
        by_coin = _chunked_gradients(loss, network, _select_rows(example, torch.arange(n)), params.clip)
        in_places = sampled[sampled >= n]
        own = dict(
            zip(
                in_places.tolist(),
                _chunked_gradients(loss, network, _select_rows(example, in_places), params.clip),
                strict=True,
            )
        )
        residual_sum = total - sum(own.values()) if own else total
        if n:
            gram, projections = (by_coin @ by_coin.T).double(), (by_coin @ residual_sum).double()
            chances = self.rate * self.coin_scores.sigmoid().to(gram.device)  # of the others, by what was heard before
            self.coin_scores += log_mixture_ratio(
                self.rate, row_log_likelihood_ratios(gram, projections, scale, chances)
            ).cpu()
        rest = residual_sum - by_coin[sampled[sampled < n].to(residual_sum.device)].sum(0)
        size = max(1, CHUNK_SIZE // (self.canaries.num_candidates * len(total)))
        for first in range(0, len(self.candidate_scores), size):
            places = torch.arange(first, min(first + size, len(self.candidate_scores)))
            candidate_index = (
                n + places[:, None] * self.canaries.num_candidates + torch.arange(self.canaries.num_candidates)
            ).flatten()
            rows = per_sample_gradients(loss, network, _select_rows(example, candidate_index), params.clip).view(
                len(places), -1, len(total)
            )
            mine = (n + places * self.canaries.num_candidates + self.canaries.chosen[places]).tolist()
            heard = torch.stack([rest + own[i] if i in own else rest for i in mine])
            fits = torch.einsum("kcp,kp->kc", rows, heard).double() - rows.double().square().sum(2) / 2
            self.candidate_scores[places] += log_mixture_ratio(self.rate, fits / scale**2).cpu()
        self.steps += 1


@dataclass(frozen=True)
class StepParams:
    """How a step cut and noised."""

    clip: float
    """Longest gradient of a row."""
    scale: float
    """Standard deviation of the noise of the sum, as the ledger counts it."""


def _select_rows(example: Any, which: Tensor) -> Any:
    return tree_map(lambda leaf: leaf[which.to(leaf.device)], example)


def _chunked_gradients(loss: LossFunction, network: nn.Module, example: Any, clip: float) -> Tensor:
    """Return what `per_sample_gradients` does, of no example too; of no more at once than may lie beside each other."""
    weights = list(trainable_params(network).values())
    p = sum(weight.numel() for weight in weights)
    parts = torch.arange(num_examples(example)).split(max(1, CHUNK_SIZE // p))
    if not num_examples(example):
        return weights[0].new_zeros(0, p)
    return torch.cat([per_sample_gradients(loss, network, _select_rows(example, part), clip) for part in parts])


@dataclass(frozen=True, kw_only=True)
class AuditedGradient(Gradient):
    """A private gradient of a batch with planted rows beside it, every noisy sum of which an attacker hears."""

    inner: DPSGD
    """Cuts and noises, as it does without planted rows."""
    attacker: CanaryAttacker
    sigma: float | None = None
    """Noise in clip norms that the ledger counts; by default what the gradient says of itself."""
    _noiseless: dict[float, DPSGD] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.inner.sigma:
            raise UsageError("without noise everything is told; there is nothing to hear")

    def __call__(
        self, loss: LossFunction, network: nn.Module, micro_batches: Iterable[dict[str, Any]], expected_size: float
    ) -> Tensor:
        batches, clip = list(micro_batches), self.inner.clip
        how = StepParams(clip.norm, clip.sum_sigma(self.inner.sigma if self.sigma is None else self.sigma) * clip.norm)
        example, sampled = self.attacker.examples(network, self.attacker.steps), self.attacker.sample()
        value = self.inner(loss, network, [*batches, _select_rows(example, sampled)], expected_size)
        weights = list(trainable_params(network).values())
        noisy = [weight.grad for weight in weights]
        for weight in weights:
            weight.grad = None
        self._without_noise(how.clip)(loss, network, batches, expected_size)
        pairs = zip(noisy, weights, strict=True)
        total = (
            torch.cat(
                [
                    (_require_gradient(noisy_gradient) - _require_gradient(weight.grad)).flatten()
                    for noisy_gradient, weight in pairs
                ]
            )
            * expected_size
        )
        for weight, noisy_gradient in zip(weights, noisy, strict=True):
            weight.grad = noisy_gradient
        self.attacker.observe(loss, network, example, sampled, total, how)
        return value

    def _without_noise(self, norm: float) -> DPSGD:
        """Return what sums the rows that the attacker knows; it is checked once, where the norm stays."""
        if norm not in self._noiseless:
            self._noiseless.clear()
            self._noiseless[norm] = DPSGD(sigma=0.0, clip=FixedClipNorm(norm))
        return self._noiseless[norm]


def _require_gradient(gradient: Tensor | None) -> Tensor:
    if gradient is None:
        raise TypeError("expected a gradient in each weight after a private step")
    return gradient
