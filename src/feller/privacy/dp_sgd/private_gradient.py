"""DP-SGD gradients: clip per example, sum, add Gaussian noise."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from feller.core.errors import UsageError, check_number
from feller.core.gradient import Gradient, LossFunction
from feller.core.pytree import num_examples, tree_map
from feller.privacy.accounting.dp_events import PoissonSubsampledGaussian
from feller.privacy.dp_sgd.clip_norm import ClipNorm, FixedClipNorm
from feller.privacy.dp_sgd.correlated_noise import CorrelatedNoise
from feller.privacy.dp_sgd.ghost_clipping import clipped_by_ghost
from feller.privacy.dp_sgd.per_example_clipping import ClippedSum, UnsupportedError, trainable_params
from feller.privacy.dp_sgd.per_example_gradients import check_no_batch_mixing, clipped_by_loop, clipped_by_vmap
from feller.privacy.dp_sgd.self_check import first_examples, self_check
from feller.privacy.noise.grid_noise import Noise, SecureNoise


@dataclass(frozen=True, kw_only=True)
class DPSGD(Gradient):
    """DP-SGD gradient: sum of clipped per-example gradients plus Gaussian noise, divided by the expected batch size.

    Batches must be Poisson samples with one example per row, and the loss of a row must not depend on other rows. Ghost
    clipping is verified once per network against a loop over examples; if the verification fails, `vmap` is used. Rows
    with a non-finite gradient contribute zero. Source: Abadi et al. 2016, arXiv 1607.00133.
    """

    sigma: float
    """Noise multiplier: standard deviation of the noise, in units of the clipping norm; 0 gives no privacy."""
    clip: ClipNorm = field(default_factory=FixedClipNorm)
    """Per-example gradient clipping norm."""
    noise: Noise = field(default_factory=SecureNoise)
    correlation: CorrelatedNoise | None = None
    """Correlation of the noise over steps (default: none). Needs batches of `poisson_batches` with as many groups of
    rows as bands."""
    rank: int = 0
    """Rank of this process; rank 0 adds the noise for all processes."""
    all_reduce: Callable[[list[Tensor]], list[Tensor]] | None = None
    """Function that sums tensors over all processes, before noise is added, so that the sum lies on the noise grid.

    If set, only rank 0 accumulates a gradient, such that the mean over the processes is the full gradient.
    """
    _ghost_unsupported: WeakKeyDictionary[nn.Module, str] = field(
        default_factory=WeakKeyDictionary, init=False, repr=False, compare=False
    )
    """Verified networks -> reason why ghost clipping does not apply, or an empty string."""

    def __post_init__(self) -> None:
        check_number("sigma", self.sigma, ge=0, remedy="`calibrate` computes it from epsilon")
        if self.rank and not isinstance(self.clip, FixedClipNorm):
            raise UsageError(
                "an adaptive clipping norm needs a single process", remedy="Use FixedClipNorm with several processes"
            )
        self.clip.sum_sigma(self.sigma)

    def dp_event(self, rate: float, steps: int, label: str = "training") -> PoissonSubsampledGaussian:
        """Return the DP event of `steps` Poisson-sampled steps; it does not depend on the clipping norm.

        `rate` is the mean probability that a row is in the batch of a step, and `label` names the event in reports.
        """
        bands = 1 if self.correlation is None else self.correlation.bands
        return PoissonSubsampledGaussian(label, self.sigma, rate, steps, bands)

    def __call__(
        self, loss: LossFunction, network: nn.Module, micro_batches: Iterable[dict[str, Any]], expected_size: float
    ) -> Tensor:
        """Accumulate the noisy gradient into `weight.grad` of each trainable weight; an empty batch gives noise only.

        Returns:
            NaN: the mean loss would be an unaccounted release. Measure losses on public rows, or pay for them.
        """
        check_no_batch_mixing(network)
        weights, norm = trainable_params(network), self.clip.norm
        sums: dict[str, Tensor] = {}
        norms: list[Tensor] = []
        for example in micro_batches:
            if num_examples(example):
                clipped = self._clipped(loss, network, example, norm)
                norms.append(clipped.norms)
                for name, clipped_sum in clipped.sums.items():
                    sums[name] = sums[name] + clipped_sum if name in sums else clipped_sum
        scale = self.clip.sum_sigma(self.sigma) * norm if self.sigma and not self.rank else 0.0
        if self.all_reduce is not None:
            local_sums = [sums[name] if name in sums else torch.zeros_like(weight) for name, weight in weights.items()]
            global_sums = self.all_reduce(local_sums)
            sums = {} if self.rank else dict(zip(weights, global_sums, strict=True))
        for name, weight in weights.items():
            total = sums.pop(name) if name in sums else torch.zeros_like(weight)
            # (sum + N(0, (sigma C)^2)) / E[B]: the size of the Poisson sample is private, its expectation is public
            noisy_mean = (self._add_noise(name, total, scale) if scale else total) / expected_size
            noisy_mean = noisy_mean.to(weight.dtype)
            weight.grad = noisy_mean if weight.grad is None else weight.grad + noisy_mean
        self.clip.update(torch.cat(norms) if norms else torch.zeros(0), expected_size, self.noise)
        return torch.full((), torch.nan)

    def _add_noise(self, name: str, total: Tensor, scale: float) -> Tensor:
        if self.correlation is None:
            return self.noise.add_gaussian(total, scale)
        return self.correlation.add(name, total, scale, self.noise)

    def _clipped(self, loss: LossFunction, network: nn.Module, example: dict[str, Any], norm: float) -> ClippedSum:
        clipped = self._clipped_once(loss, network, example, norm)
        is_finite = clipped.norms.isfinite()
        if is_finite.all():
            return clipped
        valid = tree_map(lambda leaf: leaf[is_finite], example)
        retry = (
            self._clipped(loss, network, valid, norm)
            if num_examples(valid)
            else ClippedSum({}, clipped.norms[is_finite])
        )
        return ClippedSum(retry.sums, clipped.norms.masked_scatter(is_finite, retry.norms))

    def _clipped_once(self, loss: LossFunction, network: nn.Module, example: dict[str, Any], norm: float) -> ClippedSum:
        """Return the sum of clipped gradients of the examples, in one piece.

        A single example needs one backward pass. For several, ghost clipping is used if the network supports it, else
        `vmap`.
        """
        if num_examples(example) == 1:
            return clipped_by_loop(loss, network, example, norm)
        try:
            if network not in self._ghost_unsupported:
                self._ghost_unsupported[network] = self_check(loss, network, first_examples(example)).reason
            if not self._ghost_unsupported[network]:
                return clipped_by_ghost(loss, network, example, norm)
        except UnsupportedError as error:
            self._ghost_unsupported[network] = str(error)
        return clipped_by_vmap(loss, network, example, norm)
