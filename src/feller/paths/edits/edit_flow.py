"""Edit flows: sequences change by insertions, deletions and substitutions of tokens."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from feller.core.errors import check_number
from feller.core.rng import RandomStream
from feller.paths.edits.edit_path import EditPath, EditTarget, LogEditRates, rates_at
from feller.paths.edits.embeddings import MAX_SLOTS, one_hot_tokens, slot_posterior
from feller.spaces.sequences import EmptySequence


@dataclass(frozen=True, kw_only=True)
class EditFlow(EditPath):
    """Edit flow: each slot of the alignment changes once, from the source token or blank to that of the data.

    Without propagation, a slot has changed by time t with probability alpha(t). Source: Havasi et al. 2025, "Edit
    Flows", arXiv 2506.09018.
    """

    propagation: float = 0.0
    """Rate at which a changed slot changes each of its neighbours, relative to the rate of independent changes: above
    0, changes are localized. Each slot then changes earlier than with probability alpha(t)."""

    def __post_init__(self) -> None:
        check_number("propagation", self.propagation, ge=0, lt=float("inf"))

    @property
    def inserts_masks(self) -> bool:
        return False

    def sample_stages(
        self, z_0: Int64[Tensor, "b n"], z_1: Int64[Tensor, "b n"], t: Float[Tensor, " b"], rng: RandomStream
    ) -> Int64[Tensor, "b n"]:
        sigma = self.sigma(t)[:, None]
        survival = rng.uniform(z_1.shape, torch.float64, z_1.device)
        if not self.propagation:
            return (survival >= sigma).long()
        is_used = self._is_used(z_0, z_1)
        own_time = torch.where(is_used, -survival.clamp(min=1e-300).log(), torch.inf)
        passages = [-rng.uniform(z_1.shape, torch.float64, z_1.device).clamp(min=1e-300).log() for _ in range(2)]
        forward = first_passage(own_time, passages[0] / self.propagation)
        backward = first_passage(own_time.flip(1), passages[1] / self.propagation).flip(1)
        return (torch.minimum(forward, backward) <= -sigma.log()).long()

    def slots(
        self, z_0: Int64[Tensor, "b n"], z_1: Int64[Tensor, "b n"], stage: Int64[Tensor, "b n"]
    ) -> Int64[Tensor, "b n"]:
        return torch.where(stage > 0, z_1, z_0)

    def slot_target(
        self, z_0: Int64[Tensor, "b n"], z_1: Int64[Tensor, "b n"], stage: Int64[Tensor, "b n"]
    ) -> EditTarget:
        pad, is_done, z_t = self.space.pad_token_id, stage > 0, self.slots(z_0, z_1, stage)
        rate = ((z_0 != z_1) & ~is_done).double() * self._slot_rates(is_done & self._is_used(z_0, z_1))
        is_blank, becomes_blank = z_t == pad, z_1 == pad
        places = self.space.max_length + 1
        # the number of tokens up to a slot is the position of its token, counted from 1, or the gap of its blank
        position = (~is_blank).cumsum(1).clamp(max=places - 1)
        token, shape = z_1.masked_fill(becomes_blank, 0), (places, self.space.vocab_size)
        deletions = rates_at(position, torch.zeros_like(token), rate * (~is_blank & becomes_blank), (places, 1))
        return {
            "insert": rates_at(position, token, rate * is_blank, shape),
            "substitute": rates_at(position, token, rate * ~(is_blank | becomes_blank), shape),
            "delete": deletions[..., 0],
        }

    def mean_target(self, x_t: Int64[Tensor, "b l"], x_1: Int64[Tensor, "b l"]) -> EditTarget | None:
        is_unknown = self.propagation or not isinstance(self.space.source, EmptySequence)
        if is_unknown or x_1.shape[1] > MAX_SLOTS:
            return None
        pad, vocab_size = self.space.pad_token_id, self.space.vocab_size
        match = (x_t[:, :, None] == x_1[:, None]) & (x_t != pad)[:, :, None]
        missing, _ = slot_posterior(match, self.space.lengths(x_t), self.space.lengths(x_1))
        insert = missing @ one_hot_tokens(x_1, vocab_size)
        return {"insert": insert, "substitute": torch.zeros_like(insert), "delete": torch.zeros_like(insert[..., 0])}

    def log_rates(
        self, prediction: dict[str, Tensor], x_t: Int64[Tensor, "b l"], t: Float[Tensor, " b"]
    ) -> LogEditRates:
        insert_prior, change_prior = self.log_prior(t)
        insert, tokens = prediction["insert"], prediction["insert_token"]
        never = torch.full_like(insert, -torch.inf)
        return LogEditRates(
            insert + insert_prior,
            tokens,
            prediction.get("substitute", never) + change_prior,
            prediction.get("substitute_token", tokens),
            prediction.get("delete", never) + change_prior,
        )

    def _is_used(self, z_0: Tensor, z_1: Tensor) -> Bool[Tensor, "b n"]:
        return (z_0 != self.space.pad_token_id) | (z_1 != self.space.pad_token_id)

    def _slot_rates(self, is_done: Bool[Tensor, "b n"]) -> Float64[Tensor, "b n"]:
        """Return the rate of each slot per unit of tau: 1, and the propagation from each changed neighbour."""
        neighbours = torch.nn.functional.pad(is_done.double(), (1, 1))
        return 1 + self.propagation * (neighbours[:, :-2] + neighbours[:, 2:])


def first_passage(own_time: Float64[Tensor, "b n"], passage: Float64[Tensor, "b n"]) -> Float64[Tensor, "b n"]:
    """Return the first time at which each slot changes, by itself or from the left.

    Args:
        own_time: Time at which the slot changes by itself.
        passage: Time from the change of the left neighbour to that of the slot.
    """
    total = passage.cumsum(1)
    return total + (own_time - total).cummin(1).values
