"""Infilling of audio frames and phone durations by a trained network; observed frames and durations are unchanged."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor

from feller.core.errors import InputError, UsageError
from feller.core.pytree import Cond, zero_invalid
from feller.core.rng import Rng
from feller.data.speech.durations import DurationModel, log_durations
from feller.data.speech.phones import PLACES
from feller.networks.audio.frame_infiller import FrameInfiller, FrameInfillerNetwork
from feller.networks.blocks.time_conditioning import NoTimeConditioning, TimeToken
from feller.paths import Affine, Network
from feller.sampling import simulate
from feller.sampling.guidance import cfg
from feller.sampling.sampler_config import SamplerConfig
from feller.spaces import Euclidean
from feller.training.objectives.duration_infilling import DurationInfilling
from feller.training.objectives.frame_infilling import noise_like

DROPPED_TOGETHER = ("phone", "context", "known")
"""Conditions that are dropped together in classifier-free guidance."""
DEFAULT_SAMPLER = SamplerConfig(nfe=32)


@torch.no_grad()
def infill(
    network: Network,
    path: Affine | None,
    frames: Float[Tensor, "b n bands"],
    observed_mask: Bool[Tensor, "b marks"],
    phone: Int[Tensor, "b labels"],
    *,
    rng: Rng,
    valid: Bool[Tensor, "b n"] | None = None,
    sampling: SamplerConfig = DEFAULT_SAMPLER,
    guidance: float = 1.0,
) -> Float[Tensor, "b n bands"]:
    """Infill frames: generate unobserved frames, copy observed frames, and set padding to zero.

    As in training, observed frames in the state are noised along the path. The network's velocity at observed frames is
    not used, since the training loss is computed at masked frames only.

    Args:
        network: Network trained with `Infilling`.
        path: Path used in training; None for a network that predicts frames directly.
        frames: Frames, of which unobserved ones are ignored.
        observed_mask: True for observed frames.
        phone: Phone label of each frame.
        rng: Random streams for the noise.
        valid: False for padding; by default no frame is padding.
        sampling: Solver and NFE per sample; guidance doubles the number of network evaluations.
        guidance: Classifier-free guidance scale, where 1 is conditional; alpha in the Voicebox paper is guidance - 1.

    Raises:
        InputError: If frames have infinite or NaN values.
    """
    if not frames.shape[:2] == observed_mask.shape == phone.shape:
        raise UsageError(
            f"masks and labels of shape {tuple(frames.shape[:2])}, one per frame",
            f"{tuple(observed_mask.shape)} and {tuple(phone.shape)}",
            "Repeat labels by their durations first",
        )
    valid = torch.ones_like(observed_mask) if valid is None else valid
    observed = observed_mask & valid
    context = zero_invalid(frames, observed)
    cond = {"valid": valid, "phone": phone, "context": context, "known": observed}
    guided = cfg(network, guidance, droppable=DROPPED_TOGETHER)
    if path is None:
        x = guided(torch.zeros_like(frames), frames.new_zeros(len(frames)), cond)
    else:
        x = _sample_frames(guided, path, cond, rng, sampling)
    if not zero_invalid(x, valid & ~observed).isfinite().all():
        raise InputError("frames became infinite: the model is damaged or undertrained")
    return torch.where(observed[:, :, None], frames, zero_invalid(x, valid))


def infill_durations(
    network: Network,
    objective: DurationInfilling,
    durations: Int[Tensor, "b m"],
    observed_mask: Bool[Tensor, "b m"],
    phone: Int[Tensor, "b m"],
    *,
    rng: Rng,
    valid: Bool[Tensor, "b m"] | None = None,
    sampling: SamplerConfig = DEFAULT_SAMPLER,
    guidance: float = 1.0,
) -> Int[Tensor, "b m"]:
    """Infill integer phone durations, in frames; observed durations are unchanged, and padding is 0.

    Other arguments and errors are those of `infill`. `objective` is the training objective: if it has no path, each
    duration is the rounded predicted median, else durations are sampled.
    """
    valid = torch.ones_like(observed_mask) if valid is None else valid
    observed = observed_mask & valid
    log_values = objective.encode(log_durations(torch.where(observed, durations, 0)))
    x = infill(
        network,
        objective.path,
        log_values,
        observed_mask,
        phone,
        rng=rng,
        valid=valid,
        sampling=sampling,
        guidance=guidance,
    )
    return torch.where(observed, durations, objective.decode(x).where(valid, 0))


def _sample_frames(
    network: Network, path: Affine, cond: Cond, rng: Rng, sampling: SamplerConfig
) -> Float[Tensor, "b n bands"]:
    """Sample mel frames from noise by simulating the path.

    At each time t, the observed frames of the network's input are replaced by the path from noise to these frames.
    """
    sampler_path, solver, times = sampling.resolve(path, Euclidean())
    context, observed = cond["context"], cond["known"][:, :, None]
    x_0 = zero_invalid(noise_like(context, rng.fold_in("source")), cond["valid"])

    def network_with_observed(x_t: Tensor, t: Tensor, given: Cond) -> Tensor:
        return network(torch.where(observed, path.sample(x_0, context, t), x_t), t, given)

    return simulate(sampler_path.process(network_with_observed, cond), path.initial_state(x_0), times, solver, rng)


@dataclass(frozen=True)
class LearnedDurations(DurationModel):
    """Duration model that infills phone durations with a network, deterministically or by sampling."""

    architecture: FrameInfiller
    num_phones: int
    """Size of the phone inventory."""
    objective: DurationInfilling
    sampling: SamplerConfig = field(default_factory=lambda: SamplerConfig("midpoint", 16))
    """Sampler settings for stochastic durations."""
    network: FrameInfillerNetwork = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        network = self.architecture.build((1, 1), {"phone": self.num_phones}, Rng(0))
        object.__setattr__(self, "network", network)

    @classmethod
    def deterministic(cls, size: int, num_phones: int, durations: Int64[Tensor, " n"]) -> "LearnedDurations":
        """Create an untrained model that predicts median durations.

        Args:
            size: Size of the network, see `FrameInfiller.from_size`.
            num_phones: Size of the phone inventory.
            durations: Training durations, by whose mean and standard deviation log durations are standardised.
        """
        return cls(
            FrameInfiller.from_size(size, NoTimeConditioning(), group_size=len(PLACES)),
            num_phones,
            DurationInfilling.deterministic(Euclidean()).with_statistics_of(durations),
        )

    @classmethod
    def stochastic(cls, size: int, num_phones: int, durations: Int64[Tensor, " n"]) -> "LearnedDurations":
        """Create an untrained model that samples durations; arguments as for `deterministic`."""
        return cls(
            FrameInfiller.from_size(size, TimeToken(), group_size=len(PLACES)),
            num_phones,
            DurationInfilling.stochastic(Euclidean()).with_statistics_of(durations),
        )

    @property
    def module(self) -> FrameInfillerNetwork:
        return self.network

    def infill(
        self,
        duration: Int64[Tensor, "b m"],
        observed: Bool[Tensor, "b m"],
        phone: Int64[Tensor, "b m"],
        *,
        rng: Rng,
        valid: Bool[Tensor, "b m"] | None = None,
    ) -> Int64[Tensor, "b m"]:
        return infill_durations(
            self.network.eval(), self.objective, duration, observed, phone, rng=rng, valid=valid, sampling=self.sampling
        )
