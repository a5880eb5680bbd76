"""Model family of block diffusion: blocks of tokens are sampled one after another, each by masked diffusion."""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, cast

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.precision import autocast, check_precision, float32_matmul
from feller.core.pytree import State
from feller.core.rng import Rng
from feller.models.families.model_family import LogProb, LogProbRequest, ModelFamily, SampleRequest
from feller.models.families.path_process import check_observed_tokens, up_to_last, without_early_end
from feller.models.families.stratified_bound import stratified_bound
from feller.networks.sequence.language_attention import CLEAN
from feller.paths import Mixture
from feller.paths.processes import clamp
from feller.sampling.autoregressive.block_decoding import CachedBlocks
from feller.spaces import MaskSource, Tokens
from feller.spaces.tokens import mask_until_end
from feller.training.objectives.block_diffusion import block_nats, block_size_of, mask_blocks


@dataclass(frozen=True)
class BlockDiffusionModel(ModelFamily):
    """Block diffusion model: p(x) is the product over blocks of p(block | previous blocks)."""

    name: ClassVar[str] = "blocks"
    is_process: ClassVar[bool] = True
    is_discrete: ClassVar[bool] = True
    has_bounds_only: ClassVar[bool] = True
    output_kind: ClassVar[str] = "logits"
    why_no_export: ClassVar[str] = "blocks are sampled with a cache of the tokens before them; use `feller sample`"
    path: Mixture = field(default_factory=lambda: Mixture(source=MaskSource()))
    """Path of the tokens of a block."""

    @classmethod
    def from_objective(cls, objective: Any) -> "ModelFamily":
        return cls()

    def describe(self) -> str:
        return "generates blocks of tokens one after another, each by unmasking"

    def require_path(self) -> Mixture:
        return self.path

    def check_request(self, request: SampleRequest) -> None:
        super().check_request(request)
        sampling = request.sampling
        if sampling.solver != "euler" or request.solver is not None:
            name = sampling.solver if request.solver is None else type(request.solver).__name__
            raise UsageError(f"{name} does not support blocks of tokens", remedy="Use euler")

    def sample(self, network: Any, request: SampleRequest, rng: Rng) -> tuple[State, State]:
        precision, device = request.sampling.precision, next(network.parameters()).device
        check_precision(precision, device, option="precision")
        x_0 = request.space.sample_base(request.n, rng.stream("source"), device)
        observed = torch.zeros_like(x_0, dtype=torch.bool)
        if request.observed is not None:
            check_observed_tokens(request.observed, cast(Tokens, request.space).vocab_size)
            observed = request.observed.mask
            x_0 = torch.where(observed, request.observed.values, x_0)
        with autocast(precision, device), float32_matmul(precision, device):
            x = self._sample_blocks(network, request, x_0, observed, rng)
        request.on_progress(1.0)
        return x_0, x

    def _sample_blocks(
        self, network: Any, request: SampleRequest, x_0: Int64[Tensor, "n l"], observed: Bool[Tensor, "n l"], rng: Rng
    ) -> Int64[Tensor, "n l"]:
        """Return the texts x_0 with sampled tokens where they are not observed, from the first block to the last."""
        x, eos, sampling = x_0.clone(), request.eos_token_id, request.sampling
        starts = range(0, x.shape[1], block_size_of(network))
        if sampling.nfe < len(starts):
            expected = f"at least {len(starts)}, one for each block of {starts.step} tokens"
            raise UsageError(argument="nfe", expected=expected, found=sampling.nfe)
        blocks, must_continue = CachedBlocks(network, x), up_to_last(observed)
        path, solver, _ = sampling.resolve(self.path, request.space)
        guided = sampling.guidance.apply(blocks, request.guidance, path, request.droppable)
        times = sampling.times.grid(sampling.nfe // max(len(starts), 1))
        is_open = torch.ones(len(x), dtype=torch.bool, device=x.device)
        for i, start in enumerate(starts):
            block = slice(start, start + starts.step)
            if eos is not None:
                is_open = ~((x[:, :start] == eos) & ~must_continue[:, :start]).any(1)
                x[~is_open, block] = eos
            blocks.move_to(start, is_open.nonzero()[:, 0])
            if not is_open.any() or observed[:, block].all():
                continue
            block_network = guided if eos is None else without_early_end(guided, must_continue[:, block], eos)
            process = clamp(path.process(block_network, request.cond), observed[:, block])

            def on_step(t: float, y: State, i: int = i, block: slice = block) -> None:
                whole = x.clone()
                whole[:, block] = cast(Tensor, y)
                request.on_step((i + t) / len(starts), whole)

            def on_progress(fraction: float, i: int = i) -> None:
                request.on_progress((i + fraction) / len(starts))

            of_block = replace(request, on_step=on_step, on_progress=on_progress)
            x[:, block] = cast(Tensor, of_block.simulate(process, x[:, block].clone(), times, solver, rng.fold_in(i)))
        return x if eos is None else x.where(mask_until_end(x, eos) | must_continue, eos)

    def log_prob(self, network: Any, request: LogProbRequest, rng: Rng) -> LogProb:
        """Return an estimate of the lower bound, from stratified numbers of masked tokens."""
        return stratified_bound(partial(self._nats, network, request), cast(Tensor, request.x_1), request.times, rng)

    def _nats(self, network: Any, request: LogProbRequest, u: Tensor, rng: Rng) -> Tensor:
        """Return the weighted negative log probabilities of masked tokens, whose numbers depend on u."""
        x_1, vocab_size = cast(Tensor, request.x_1), cast(Tokens, request.space).vocab_size
        x_t, weight = mask_blocks(x_1, u, block_size_of(network), vocab_size, rng.stream("path"), request.eos_token_id)
        t = torch.zeros(len(x_1), device=x_1.device)
        return block_nats(network(x_t, t, {**request.cond, CLEAN: x_1}).double(), x_1, weight)
