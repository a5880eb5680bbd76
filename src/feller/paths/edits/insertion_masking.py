"""Insertion-only masking: sequences grow by mask tokens, which are then replaced by tokens, in any order."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from feller.core.errors import check_kind
from feller.core.rng import RandomStream
from feller.paths.edits.edit_path import EditPath, EditTarget, LogEditRates, rates_at
from feller.paths.edits.embeddings import MAX_SLOTS, one_hot_tokens, slot_posterior
from feller.spaces.sequences import EmptySequence


@dataclass(frozen=True, kw_only=True)
class InsertionMasking(EditPath):
    """Insertion-only masking: each token of the data is absent, then a mask token, then itself.

    The network predicts how many tokens are missing in each gap, and the token of each mask. Source: Kim et al. 2025,
    "Any-order flexible length masked diffusion" (FlexMDM), arXiv 2509.01025.
    """

    def __post_init__(self) -> None:
        check_kind("source", self.space.source, EmptySequence, "feller.EmptySequence()")

    @property
    def inserts_masks(self) -> bool:
        return True

    def sample_stages(
        self, z_0: Int64[Tensor, "b n"], z_1: Int64[Tensor, "b n"], t: Float[Tensor, " b"], rng: RandomStream
    ) -> Int64[Tensor, "b n"]:
        sigma = self.sigma(t)[:, None]
        at_insertion, until_unmasking = (rng.uniform(z_1.shape, torch.float64, z_1.device) for _ in range(2))
        at_unmasking = at_insertion * until_unmasking  # values of sigma at both jumps, which have rate 1 in tau
        return (at_insertion >= sigma).long() + (at_unmasking >= sigma)

    def slots(
        self, z_0: Int64[Tensor, "b n"], z_1: Int64[Tensor, "b n"], stage: Int64[Tensor, "b n"]
    ) -> Int64[Tensor, "b n"]:
        is_masked = (stage == 1) & (z_1 != self.space.pad_token_id)
        return torch.where(stage == 2, z_1, torch.where(is_masked, self.space.mask_token_id, self.space.pad_token_id))

    def slot_target(
        self, z_0: Int64[Tensor, "b n"], z_1: Int64[Tensor, "b n"], stage: Int64[Tensor, "b n"]
    ) -> EditTarget:
        pad, places = self.space.pad_token_id, self.space.max_length + 1
        is_missing, is_masked = ((z_1 != pad) & (stage == k) for k in (0, 1))
        position = (self.slots(z_0, z_1, stage) != pad).cumsum(1)
        unmask = rates_at(position, z_1.where(is_masked, 0), is_masked.double(), (places, self.space.vocab_size))
        insert = rates_at(position, torch.zeros_like(z_1), is_missing.double(), (places, 1))
        return self._target(insert, unmask)

    def mean_target(self, x_t: Int64[Tensor, "b l"], x_1: Int64[Tensor, "b l"]) -> EditTarget | None:
        if x_1.shape[1] > MAX_SLOTS:
            return None
        is_mask = (x_t == self.space.mask_token_id)[:, :, None]
        match = ((x_t[:, :, None] == x_1[:, None]) | is_mask) & (x_t != self.space.pad_token_id)[:, :, None]
        missing, held = slot_posterior(match, self.space.lengths(x_t), self.space.lengths(x_1))
        unmask = (held * is_mask) @ one_hot_tokens(x_1, self.space.vocab_size)
        return self._target(missing.sum(2, keepdim=True), torch.nn.functional.pad(unmask, (0, 0, 1, 0)))

    def _target(self, insert: Float[Tensor, "b l1 1"], unmask: Float[Tensor, "b l1 K"]) -> EditTarget:
        return {"insert": insert, "substitute": unmask, "delete": torch.zeros_like(insert[..., 0])}

    def log_rates(
        self, prediction: dict[str, Tensor], x_t: Int64[Tensor, "b l"], t: Float[Tensor, " b"]
    ) -> LogEditRates:
        insert = prediction["insert"] + self.log_prior(t)[0]
        is_mask = torch.nn.functional.pad(x_t == self.space.mask_token_id, (1, 0))
        never = torch.full_like(insert, -torch.inf)
        unmask = torch.zeros_like(insert).where(is_mask, never)  # every mask is replaced at rate 1
        return LogEditRates(insert, torch.zeros_like(insert)[..., None], unmask, prediction["insert_token"], never)
