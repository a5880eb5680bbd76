"""Base class of paths of sequences of variable length: insertions, deletions and substitutions are jumps.

Data and source are aligned, with blanks where a token is inserted or deleted. The slots of the alignment change
independently given source and data, at rates that are constant in the time tau = -log sigma(t). The state consists of
the tokens of the slots without the blanks. Source: Havasi et al. 2025, "Edit Flows", arXiv 2506.09018.
"""

import abc
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from feller.core.pytree import State
from feller.core.rng import RandomStream
from feller.paths.discrete.token_sampler import TokenSampler
from feller.paths.edits.alignment import Alignment, LeftAlignment
from feller.paths.edits.apply_edits import Edits, apply_edits
from feller.paths.path import Path, check_times, require_rng
from feller.paths.processes import Characteristics, Jumps
from feller.paths.schedules import Linear, Schedule
from feller.spaces.sequences import Sequences, compact

MAX_TIME = 0.999
"""Latest time at which networks are trained and evaluated, since the rates per unit of time are infinite at t = 1."""
MIN_ALPHA = 1 / 16
"""Summand of alpha in the prior rate of insertions, which bounds it by 16 tokens per gap."""
MAX_COUNT = 8192
"""Maximum number of tokens inserted into one gap in a step."""
EditTarget = dict[str, Tensor]
"""Rates per unit of tau of the edits that remain: `insert` [b, places, V] of each token into each gap, `substitute`
[b, places, K] of each token for that at each position, and `delete` [b, places], with places as in `LogEditRates`."""


class LogEditRates(NamedTuple):
    """Logarithms of predicted rates per unit of tau = -log sigma(t).

    Position 0 stands for the start of the sequence, position j for its j-th token, and gap j follows position j. Rates
    at positions after the end are 0.
    """

    insert: Float[Tensor, "b places"]
    """Log of the expected number of tokens that are missing in each gap."""
    insert_token: Float[Tensor, "b places V"]
    """Logits of the inserted token."""
    substitute: Float[Tensor, "b places"]
    """Log rate of substituting each token."""
    substitute_token: Float[Tensor, "b places K"]
    """Logits of the token that replaces it."""
    delete: Float[Tensor, "b places"]
    """Log rate of deleting each token."""


@dataclass(frozen=True, kw_only=True)
class EditPath(Path):
    """Path of sequences that change by edits; subclasses implement the stages of a slot and the predicted rates."""

    has_jumps = True
    space: Sequences
    """Space of the sequences, with the source."""
    schedule: Schedule = field(default_factory=Linear)
    """Schedule whose sigma(t) determines the time tau = -log sigma(t); alpha + sigma = 1."""
    alignment: Alignment = field(default_factory=LeftAlignment)
    """Alignment of source and data."""
    token_sampler: TokenSampler = field(default_factory=TokenSampler)
    """Sampler of tokens from logits (temperature, top-k, top-p)."""

    @abc.abstractmethod
    def sample_stages(
        self, z_0: Int64[Tensor, "b n"], z_1: Int64[Tensor, "b n"], t: Float[Tensor, " b"], rng: RandomStream
    ) -> Int64[Tensor, "b n"]:
        """Sample the stage of each slot at time t: 0 as in the source, and the last stage as in the data."""

    @abc.abstractmethod
    def slots(
        self, z_0: Int64[Tensor, "b n"], z_1: Int64[Tensor, "b n"], stage: Int64[Tensor, "b n"]
    ) -> Int64[Tensor, "b n"]:
        """Return the token or blank of each slot in its stage."""

    @abc.abstractmethod
    def slot_target(
        self, z_0: Int64[Tensor, "b n"], z_1: Int64[Tensor, "b n"], stage: Int64[Tensor, "b n"]
    ) -> EditTarget:
        """Return the edits that remain, given the stages."""

    @abc.abstractmethod
    def log_rates(
        self, prediction: dict[str, Tensor], x_t: Int64[Tensor, "b l"], t: Float[Tensor, " b"]
    ) -> LogEditRates:
        """Return the log rates that a network's prediction stands for, relative to `log_prior`."""

    @property
    @abc.abstractmethod
    def inserts_masks(self) -> bool:
        """True if mask tokens are inserted, any number in a step; else one token per gap and step."""

    def sample(self, x_0: Tensor, x_1: Tensor, t: Tensor, rng: RandomStream | None = None) -> Tensor:
        z_0, z_1, stage = self._sample_slots(x_0, x_1, t, rng)
        return self.without_blanks(self.slots(z_0, z_1, stage))

    def target(self, x_t: State, x_0: State, x_1: State, t: State) -> State:
        """Raise a TypeError, since the remaining edits depend on how the state arose; see `sample_with_target`."""
        raise TypeError("the remaining edits depend on how the state arose; call `sample_with_target`")

    def sample_with_target(
        self,
        x_0: Int64[Tensor, "b l"],
        x_1: Int64[Tensor, "b l"],
        t: Float[Tensor, " b"],
        rng: RandomStream | None = None,
    ) -> tuple[Int64[Tensor, "b l"], EditTarget]:
        z_0, z_1, stage = self._sample_slots(x_0, x_1, t, rng)
        x_t = self.without_blanks(self.slots(z_0, z_1, stage))
        mean = self.mean_target(x_t, x_1)
        return x_t, self.slot_target(z_0, z_1, stage) if mean is None else mean

    def _sample_slots(
        self, x_0: Tensor, x_1: Tensor, t: Tensor, rng: RandomStream | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the aligned sequences, and the stage of each slot at time t."""
        rng = require_rng(rng)
        check_times(t, x_1)
        z_0, z_1 = self.alignment(x_0, x_1, self.space.pad_token_id)
        return z_0, z_1, self.sample_stages(z_0, z_1, t, rng)

    def mean_target(self, x_t: Int64[Tensor, "b l"], x_1: Int64[Tensor, "b l"]) -> EditTarget | None:
        """Return the mean rates of the edits that remain, given the state and the data, over all alignments.

        They have the same mean as the rates given the alignment, less variance, and a tighter likelihood bound. None if
        they are not known in closed form.
        """
        return None

    def without_blanks(self, z_t: Int64[Tensor, "b n"]) -> Int64[Tensor, "b l"]:
        """Return the tokens of the slots without blanks, padded to the maximum length, and cut there."""
        length, pad = self.space.max_length, self.space.pad_token_id
        x_t = compact(z_t, pad)[:, :length]
        return torch.nn.functional.pad(x_t, (0, length - x_t.shape[1]), value=pad)

    def tau_speed(self, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return d tau / dt = alpha'(t) / sigma(t), the factor from rates per unit of tau to rates per unit of time."""
        scales = self.schedule(t)
        return torch.as_tensor(scales.d_alpha) / torch.as_tensor(scales.sigma)

    def log_prior(self, t: Float[Tensor, " b"]) -> tuple[Float[Tensor, "b 1"], Float[Tensor, "b 1"]]:
        """Return log rates per unit of tau that do not depend on the data: of insertions per gap, and of changes.

        Networks predict the logarithm of the ratio to these rates. In a long sequence of which the fraction alpha is
        present, sigma / alpha tokens are missing per gap.
        """
        scales = self.schedule(t)
        alpha, sigma = (torch.as_tensor(scale).to(t).expand(t.shape)[:, None] for scale in scales[:2])
        log_sigma = sigma.clamp(min=torch.finfo(t.dtype).tiny).log()
        return log_sigma - (alpha + MIN_ALPHA).log(), log_sigma

    def completed(self, t: Float[Tensor, " b"], s: float | Tensor) -> Float64[Tensor, " b"]:
        """Return 1 - sigma(s) / sigma(t), the fraction of the remaining edits that are made between t and s."""
        end = torch.as_tensor(s, dtype=torch.float64, device=t.device).expand(t.shape)
        return 1 - self.sigma(end) / self.sigma(t).clamp(min=1e-300)

    def sigma(self, t: Float[Tensor, " b"]) -> Float64[Tensor, " b"]:
        """Return the sigma of the schedule, exp(-tau), in float64."""
        return torch.as_tensor(self.schedule(t.double()).sigma, dtype=torch.float64)

    def characteristics(self, prediction: State, x_t: Int64[Tensor, "b l"], t: Float[Tensor, " b"]) -> Characteristics:
        """Return jumps of whole sequences; a step makes any number of edits at different positions."""
        log_rates = self.log_rates(prediction, x_t, t)
        total = edit_rates_per_place(log_rates, x_t, self.space.pad_token_id).sum(1)

        def hazard(s: float | Tensor) -> Tensor:
            return self.completed(t, s) * total

        def select(hazard: Tensor, s: float | Tensor, rng: RandomStream) -> Tensor:
            return hazard > 0  # sequences without an edit stay as they are

        def sample_destination(s: float | Tensor, mask: Tensor, rng: RandomStream) -> Tensor:
            edits = self._sample_edits(log_rates, x_t, self.completed(t, s), rng)
            return apply_edits(x_t, edits, self.space, inserts_masks=self.inserts_masks)[mask]

        return Characteristics(jumps=Jumps(hazard, sample_destination, select=select))

    def _sample_edits(self, log_rates: LogEditRates, x: Tensor, fraction: Tensor, rng: RandomStream) -> Edits:
        """Sample the edits of a step in which this fraction of the remaining edits is made."""
        is_token, is_gap = token_places(x, self.space.pad_token_id)
        u_insert, u_inserted, u_change, u_changed = (
            rng.uniform(is_gap.shape, torch.float64, x.device) for _ in range(4)
        )
        fraction = fraction[:, None]
        expected = torch.where(is_gap, fraction * log_rates.insert.double().exp(), 0.0)
        counts = poisson_quantile(expected, u_insert) if self.inserts_masks else (u_insert < expected).long()
        delete, substitute = (
            torch.where(is_token, fraction * rate.double().exp(), 0.0)
            for rate in (log_rates.delete, log_rates.substitute)
        )
        is_deleted = u_change < delete
        is_substituted = ~is_deleted & (u_change < delete + substitute)
        return Edits(
            counts,
            self._sample_tokens(log_rates.insert_token, counts > 0, u_inserted),
            is_deleted,
            is_substituted,
            self._sample_tokens(log_rates.substitute_token, is_substituted, u_changed),
        )

    def _sample_tokens(self, logits: Tensor, mask: Tensor, u: Tensor) -> Int64[Tensor, " m"]:
        return self.token_sampler(logits[mask], u[mask])


def token_places(x: Int64[Tensor, "b l"], pad: int) -> tuple[Bool[Tensor, "b l1"], Bool[Tensor, "b l1"]]:
    """Return the positions that hold tokens, and those that a gap follows: the start and all tokens."""
    is_token = torch.nn.functional.pad(x != pad, (1, 0))
    is_gap = is_token.clone()
    is_gap[:, 0] = True
    return is_token, is_gap


def edit_rates_per_place(log_rates: LogEditRates, x: Int64[Tensor, "b l"], pad: int) -> Float[Tensor, "b l1"]:
    """Return the total rate of edits at each position, per unit of tau."""
    is_token, is_gap = token_places(x, pad)
    changes = log_rates.substitute.exp() + log_rates.delete.exp()
    return torch.where(is_gap, log_rates.insert.exp(), 0.0) + torch.where(is_token, changes, 0.0)


def poisson_quantile(mean: Float64[Tensor, "b n"], u: Float64[Tensor, "b n"]) -> Int64[Tensor, "b n"]:
    """Return the quantiles of Poisson distributions at probabilities u, by summation of their probabilities."""
    probability = (-mean).exp()
    cumulative, count = probability.clone(), torch.zeros_like(mean, dtype=torch.int64)
    k = 0
    while (is_open := u >= cumulative).any() and k < MAX_COUNT:
        k += 1
        count += is_open
        probability = probability * mean / k
        cumulative += probability
    return count


def rates_at(
    position: Int64[Tensor, "b n"], token: Int64[Tensor, "b n"], rate: Float[Tensor, "b n"], shape: tuple[int, int]
) -> Float[Tensor, "b places K"]:
    """Return the sums of the rates of the slots with equal position and token, for a number of places and tokens."""
    places, num_tokens = shape
    out = rate.new_zeros(len(rate), places * num_tokens)
    return out.scatter_add(1, position * num_tokens + token, rate).unflatten(1, shape)
