"""Model family of block diffusion: blocks of tokens are sampled one after another, each by masked diffusion."""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, cast

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.precision import autocast, check_precision, float32_matmul
from feller.core.pytree import State
from feller.core.rng import Rng
from feller.models.families.model_family import LogProb, LogProbRequest, ModelFamily, SampleRequest
from feller.models.families.path_process import check_observed_tokens, without_early_end
from feller.networks.sequence.language_attention import CLEAN
from feller.paths import Mixture
from feller.paths.processes import clamp
from feller.sampling.autoregressive.block_decoding import CachedBlocks
from feller.spaces import MaskSource, Tokens
from feller.spaces.tokens import mask_until_end
from feller.training.objectives.block_diffusion import block_nats, block_size_of, mask_blocks, starts_before_end


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
            raise UsageError(f"{sampling.solver} does not support tokens", remedy="Use euler")

    def sample(self, network: Any, request: SampleRequest, rng: Rng) -> tuple[State, State]:
        precision, device = request.sampling.precision, next(network.parameters()).device
        check_precision(precision, device, option="precision")
        x = request.space.sample_base(request.n, rng.stream("source"), device)
        observed = torch.zeros_like(x, dtype=torch.bool)
        if request.observed is not None:
            check_observed_tokens(request.observed, cast(Tokens, request.space).vocab_size)
            observed = request.observed.mask
            x = torch.where(observed, request.observed.values, x)
        x_0 = x.clone()
        with autocast(precision, device), float32_matmul(precision, device):
            self._sample_blocks(network, request, x, observed, rng)
        request.on_progress(1.0)
        return x_0, x

    def _sample_blocks(
        self, network: Any, request: SampleRequest, x: Int64[Tensor, "n l"], observed: Bool[Tensor, "n l"], rng: Rng
    ) -> None:
        """Sample the blocks of `x` in place, from the first to the last."""
        length, eos = x.shape[1], request.eos_token_id
        blocks = CachedBlocks(network, x)
        path, solver, _ = request.sampling.resolve(self.path, request.space)
        guided = request.sampling.guidance.apply(blocks, request.guidance, path, request.droppable)
        must_continue = observed.flip(1).cumsum(1).flip(1) > 0  # at and before the last observed token
        size, nfe = block_size_of(network), request.sampling.nfe
        starts = range(0, length, size)
        if nfe < len(starts):
            expected = f"at least {len(starts)}, one for each block of {size} tokens"
            raise UsageError(argument="nfe", expected=expected, found=nfe)
        times = request.sampling.times.grid(nfe // max(len(starts), 1))
        for i, start in enumerate(starts):
            block = slice(start, min(start + size, length))
            if eos is not None:
                is_open = ~((x[:, :start] == eos) & ~must_continue[:, :start]).any(1)
                x[~is_open, block] = eos
                blocks.move_to(start, is_open.nonzero()[:, 0])
            else:
                blocks.move_to(start, blocks.open_rows)
            if not len(blocks.open_rows):
                continue
            if observed[:, block].all():
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
        if eos is not None:
            x.masked_fill_(~(mask_until_end(x, eos) | must_continue), eos)

    def log_prob(self, network: Any, request: LogProbRequest, rng: Rng) -> LogProb:
        """Return an estimate of the lower bound, from stratified numbers of masked tokens; two samples per stratum."""
        strata = -(-request.times // 2)
        draws = [
            [self._nats(network, request, (i, strata), rng.fold_in("time", i, j)) for j in range(2)]
            for i in range(strata)
        ]
        samples = torch.stack([torch.stack(pair) for pair in draws])  # [strata, 2, b]
        std_err = (samples.var(1) / 2).sum(0).sqrt() / strata
        return LogProb(-samples.mean((0, 1)), std_err)

    @torch.no_grad()
    def _nats(self, network: Any, request: LogProbRequest, stratum: tuple[int, int], rng: Rng) -> Tensor:
        """Return the weighted negative log probabilities of masked tokens, with uniform numbers of a stratum."""
        x_1, (i, strata), size = cast(Tensor, request.x_1), stratum, block_size_of(network)
        u = (i + rng.stream("time").uniform((len(x_1),), torch.float64, x_1.device)) / strata
        x_t, weight = mask_blocks(x_1, u, size, cast(Tokens, request.space).vocab_size, rng.stream("path"))
        if request.eos_token_id is not None:
            weight = weight * starts_before_end(x_1, size, request.eos_token_id)
        t = torch.zeros(len(x_1), device=x_1.device)
        return block_nats(network(x_t, t, {**request.cond, CLEAN: x_1}).double(), x_1, weight)
