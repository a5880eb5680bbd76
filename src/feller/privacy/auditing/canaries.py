"""Canaries: rows planted in private training, and attacks on them by an adversary who sees every noisy gradient.

There are two kinds of canaries. A membership canary is in the training set with probability 1/2; its score is the
log-likelihood ratio of the noisy sums. This is an audit in one run (Steinke, Nasr and Jagielski 2023, arXiv
2305.08846). The attacker must not know which other canaries are present, so their contributions count as noise. A
reconstruction canary is a slot that holds one of several candidate rows. An attacker who knows all other rows picks the
most likely candidate: the informed adversary of Balle, Cherubin and Hayes 2022, arXiv 2201.04845, and Hayes,
Mahloujifar and Balle 2023, arXiv 2302.07225.

Random numbers of a canary (its time and noise at each step) depend only on its own index and are known to the attacker.
The guarantee holds for any values of them, because the random numbers of other rows do not depend on the canary.
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
"""(network, step) -> the training examples of all canaries, each derived from its own row only."""


def log_mixture_ratio(rate: float, exponent: Float64[Tensor, " *n"]) -> Float64[Tensor, " *n"]:
    """Return log(1 - rate + rate e^exponent): the log-likelihood ratio of a row sampled with probability `rate`.

    `exponent` is the log-likelihood ratio for a row that is certainly in the sample.
    """
    if rate == 1:
        return exponent
    return torch.logaddexp(torch.full_like(exponent, math.log1p(-rate)), math.log(rate) + exponent)


def row_log_likelihood_ratios(
    gram: Float64[Tensor, "n n"], projections: Float64[Tensor, " n"], scale: float, chances: Float64[Tensor, " n"]
) -> Float64[Tensor, " n"]:
    """Return log(p(sum | row present) / p(sum | row absent)) of each row; the other rows are present at random.

    The other rows' contribution is approximated as Gaussian with the mean and covariance of their membership. This
    affects the strength of the attack, not its validity.

    Args:
        gram: Inner products of the rows' clipped gradients.
        projections: Inner products of the gradients with the noisy sum, after subtracting all known rows.
        scale: Standard deviation of the noise.
        chances: Probability that each row is in the sum, given the attacker's evidence.
    """
    variances = chances * (1 - chances)
    covariance = scale**2 * torch.eye(len(gram), dtype=gram.dtype, device=gram.device) + gram * variances
    solution = torch.linalg.solve(covariance, torch.cat([gram, projections[:, None]], 1))
    solved_gram, solved_projections = solution[:, :-1], solution[:, -1]
    leverage = solved_gram.diagonal()
    loo_factor = 1 - variances * leverage  # leave-one-out: removes the row's own part of the variance
    return (solved_projections - solved_gram @ chances + leverage * chances) / loo_factor - leverage / loo_factor / 2


@dataclass(frozen=True, eq=False)
class Canaries:
    """Record of the planted rows that are in the training set.

    The examples of planted rows are in this order: membership canaries, then the candidates of each slot
    (reconstruction canary).
    """

    present: Bool[Tensor, " n"]
    """True for each membership canary that is in the training set."""
    chosen: Int64[Tensor, " places"]
    """Index of the candidate that is in the training set, for each slot."""
    num_candidates: int
    """Number of candidates per slot."""

    @property
    def included(self) -> Int64[Tensor, " m"]:
        """Indices of the examples that are in the training set."""
        slot_start = len(self.present) + self.num_candidates * torch.arange(len(self.chosen))
        return torch.cat([self.present.nonzero()[:, 0], slot_start + self.chosen])


class CanaryAttacker:
    """Attacker that accumulates log-likelihood ratios of the canaries over the steps."""

    def __init__(self, canaries: Canaries, examples: CanaryExamplesFn, *, rate: float, noise: Noise) -> None:
        check_number("rate", rate, gt=0, le=1)
        self.canaries, self.examples, self.rate, self.noise = canaries, examples, rate, noise
        self.coin_scores = torch.zeros(len(canaries.present), dtype=torch.float64)
        """Log-likelihood ratio of each membership canary; a high value suggests that it is in the training set."""
        self.candidate_scores = torch.zeros(len(canaries.chosen), canaries.num_candidates, dtype=torch.float64)
        """Log-likelihood ratio of each candidate of each slot."""
        self.steps = 0

    def sample(self) -> Int64[Tensor, " m"]:
        """Sample the canaries of one step: a Poisson sample of those in the training set; return their indices."""
        included = self.canaries.included
        return included if self.rate == 1 else included[self.noise.bernoulli(self.rate, (len(included),))]

    def observe(
        self, loss: LossFunction, network: nn.Module, example: Any, sampled: Tensor, total: Tensor, params: "StepParams"
    ) -> None:
        """Update the score of each canary with the noisy gradient sum of one step.

        The attacker assumes that the noise has the standard deviation in `params`. If the root mean square of the
        entries of `total` is below it, the attacker assumes this smaller value. So the attack becomes stronger if the
        training added too little noise.

        Args:
            loss: Function (network, example) -> loss of each example, [b].
            network: Network before the step.
            example: Training examples of all canaries.
            sampled: Indices of the canaries in this step's Poisson sample.
            total: Noisy gradient sum, flattened, after subtracting the gradients of the known rows.
            params: Clipping norm and noise standard deviation of the step.
        """
        n, scale = len(self.coin_scores), min(params.scale, total.square().mean().sqrt().item())
        coin_gradients = _chunked_gradients(loss, network, _select_rows(example, torch.arange(n)), params.clip)
        sampled_candidates = sampled[sampled >= n]
        candidate_gradients = dict(
            zip(
                sampled_candidates.tolist(),
                _chunked_gradients(loss, network, _select_rows(example, sampled_candidates), params.clip),
                strict=True,
            )
        )
        residual_sum = total - sum(candidate_gradients.values()) if candidate_gradients else total
        if n:
            gram, projections = (coin_gradients @ coin_gradients.T).double(), (coin_gradients @ residual_sum).double()
            # sampling probability given the previous steps; fair-coin prior
            probs = self.rate * self.coin_scores.sigmoid().to(gram.device)
            self.coin_scores += log_mixture_ratio(
                self.rate, row_log_likelihood_ratios(gram, projections, scale, probs)
            ).cpu()
        slot_sum = residual_sum - coin_gradients[sampled[sampled < n].to(residual_sum.device)].sum(0)
        chunk_size = max(1, CHUNK_SIZE // (self.canaries.num_candidates * len(total)))
        for start in range(0, len(self.candidate_scores), chunk_size):
            slots = torch.arange(start, min(start + chunk_size, len(self.candidate_scores)))
            candidate_index = (
                n + slots[:, None] * self.canaries.num_candidates + torch.arange(self.canaries.num_candidates)
            ).flatten()
            gradients = per_sample_gradients(loss, network, _select_rows(example, candidate_index), params.clip).view(
                len(slots), -1, len(total)
            )
            true_candidates = (n + slots * self.canaries.num_candidates + self.canaries.chosen[slots]).tolist()
            residuals = torch.stack(
                [slot_sum + candidate_gradients[i] if i in candidate_gradients else slot_sum for i in true_candidates]
            )
            scores = torch.einsum("kcp,kp->kc", gradients, residuals).double() - gradients.double().square().sum(2) / 2
            self.candidate_scores[slots] += log_mixture_ratio(self.rate, scores / scale**2).cpu()
        self.steps += 1


@dataclass(frozen=True)
class StepParams:
    """Clipping norm and noise standard deviation of a DP-SGD step."""

    clip: float
    """Clipping norm."""
    scale: float
    """Standard deviation of the noise of the gradient sum, as charged to the ledger."""


def _select_rows(example: Any, index: Tensor) -> Any:
    return tree_map(lambda leaf: leaf[index.to(leaf.device)], example)


def _chunked_gradients(loss: LossFunction, network: nn.Module, example: Any, clip: float) -> Tensor:
    """Return the clipped gradient of each example, [b, weights]; examples are processed in chunks to limit memory."""
    weights = list(trainable_params(network).values())
    p = sum(weight.numel() for weight in weights)
    chunks = torch.arange(num_examples(example)).split(max(1, CHUNK_SIZE // p))
    if not num_examples(example):
        return weights[0].new_zeros(0, p)
    return torch.cat([per_sample_gradients(loss, network, _select_rows(example, chunk), clip) for chunk in chunks])


@dataclass(frozen=True, kw_only=True)
class AuditedGradient(Gradient):
    """DP-SGD gradient of a batch plus canaries, observed by an attacker.

    Each step adds the sampled canaries to the batch, and shows the noisy gradient sum to the attacker.
    """

    inner: DPSGD
    """DP-SGD gradient that clips and adds noise."""
    attacker: CanaryAttacker
    sigma: float | None = None
    """Noise multiplier recorded in the ledger, which the attacker assumes (default: that of `inner`)."""
    _noiseless: dict[float, DPSGD] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.inner.sigma:
            raise UsageError("a canary audit needs a gradient with noise", remedy="Set a noise multiplier above 0")

    def __call__(
        self, loss: LossFunction, network: nn.Module, micro_batches: Iterable[dict[str, Any]], expected_size: float
    ) -> Tensor:
        batches, clip = list(micro_batches), self.inner.clip
        params = StepParams(
            clip.norm, clip.sum_sigma(self.inner.sigma if self.sigma is None else self.sigma) * clip.norm
        )
        example, sampled = self.attacker.examples(network, self.attacker.steps), self.attacker.sample()
        mean_loss = self.inner(loss, network, [*batches, _select_rows(example, sampled)], expected_size)
        weights = list(trainable_params(network).values())
        noisy_gradients = [weight.grad for weight in weights]
        for weight in weights:
            weight.grad = None
        self._without_noise(params.clip)(loss, network, batches, expected_size)
        pairs = zip(noisy_gradients, weights, strict=True)
        total = (
            torch.cat(
                [
                    (_require_gradient(noisy_gradient) - _require_gradient(weight.grad)).flatten()
                    for noisy_gradient, weight in pairs
                ]
            )
            * expected_size
        )
        for weight, noisy_gradient in zip(weights, noisy_gradients, strict=True):
            weight.grad = noisy_gradient
        self.attacker.observe(loss, network, example, sampled, total, params)
        return mean_loss

    def _without_noise(self, norm: float) -> DPSGD:
        """Return a noiseless DP-SGD gradient for the rows that the attacker knows, cached per clipping norm."""
        if norm not in self._noiseless:
            self._noiseless.clear()
            self._noiseless[norm] = DPSGD(sigma=0.0, clip=FixedClipNorm(norm))
        return self._noiseless[norm]


def _require_gradient(gradient: Tensor | None) -> Tensor:
    if gradient is None:
        raise TypeError("expected a gradient in each weight after a private step")
    return gradient
