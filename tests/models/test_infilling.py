"""Filling of gaps: copies are exact, calls are counted, and what comes out has the law that the path says."""

import math
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.models.infilling import infill, infill_durations
from feller.networks import FrameInfiller
from feller.paths import Affine, DataPrediction, NoisePrediction, VelocityPrediction
from feller.paths.schedules import VP, Cosine
from feller.sampling.sampler_config import SamplerConfig
from feller.spaces import Euclidean
from feller.training.objectives.duration_infilling import DurationInfilling
from feller.training.objectives.frame_infilling import Infilling, noise_like
from tests.oracle import F64, Normal, close

K, N, BANDS = 4, 12, 2
PATHS = {
    "flow": Affine(),
    "denoiser": Affine(Cosine(), DataPrediction()),
    "diffusion": Affine(VP(), NoisePrediction()),
    "at once": None,
}


class Spy(torch.nn.Module):
    """Answers like a perfect network for independent N(1, 1/4) frames, and writes down what it saw."""

    null_values: ClassVar = {"phone": K, "context": 0.0, "known": 0}

    def __init__(self, path: Affine) -> None:
        super().__init__()
        self.path, self.seen = path, []

    def forward(self, x_t: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
        self.seen.append((x_t, t, given))
        return Normal(self.path.schedule).predict(self.path.prediction, x_t, t.to(x_t.dtype))


def rows(b: int = 5) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    draw = Rng(0).stream("rows")
    valid = torch.arange(N) < N - draw.randint(5, (b, 1))
    return draw.normal((b, N, BANDS), F64), draw.uniform((b, N)) < 0.5, draw.randint(K, (b, N)), valid


def network() -> torch.nn.Module:
    made = FrameInfiller(16, 2, 2).build((N, BANDS), {"phone": K}, Rng(0)).double()
    torch.nn.init.normal_(made.head.weight, std=0.3, generator=torch.Generator().manual_seed(0))
    return made


@pytest.mark.parametrize("guidance", [0.0, 1.0, 1.7])
@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_kept_frames_are_copies_and_what_was_in_gaps_means_nothing(path: Affine | None, guidance: float) -> None:
    frames, kept, phone, valid = rows()

    def fill(frames: Tensor) -> Tensor:
        return infill(
            *(network(), path, frames, kept, phone),
            rng=Rng(1),
            valid=valid,
            sampling=SamplerConfig(nfe=8),
            guidance=guidance,
        )

    filled, known = fill(frames), kept & valid
    assert torch.equal(filled[known], frames[known])
    assert not filled[~valid].any()
    assert ((filled != frames).all(2) | kept | ~valid).all()
    assert torch.equal(fill(torch.where(known[:, :, None], frames, math.nan)), filled)
    assert torch.equal(fill(frames), filled)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_nothing_to_fill_and_nothing_kept(path: Affine | None) -> None:
    frames, kept, phone, _ = rows()
    settings = {"rng": Rng(1), "sampling": SamplerConfig(nfe=4)}
    assert torch.equal(infill(network(), path, frames, torch.ones_like(kept), phone, **settings), frames)
    none = torch.zeros_like(kept)
    first, other = (infill(network(), path, x, none, phone, **settings) for x in (frames, frames + 1))
    assert torch.equal(first, other)


def test_eight_calls_of_the_midpoint_are_four_steps() -> None:
    """At 0, 1/8, 1/4, ... 7/8; guidance looks at both branches in one call."""
    frames, kept, phone, _ = rows()
    spy = Spy(Affine())
    infill(spy, spy.path, frames, kept, phone, rng=Rng(1), sampling=SamplerConfig(nfe=8))
    assert [float(t[0]) for _, t, _ in spy.seen] == [i / 8 for i in range(8)]
    guided = Spy(Affine())
    infill(guided, guided.path, frames, kept, phone, rng=Rng(1), sampling=SamplerConfig(nfe=8), guidance=1.7)
    assert [len(x) for x, _, _ in guided.seen] == [10] * 8
    given = guided.seen[0][2]
    assert (given["phone"][5:] == K).all()
    assert not given["known"][5:].any()
    assert not given["context"][5:].any()
    assert torch.equal(given["context"][:5], frames * kept[:, :, None])


@pytest.mark.parametrize("path", [Affine(), Affine(Cosine(), VelocityPrediction()), Affine(VP(), NoisePrediction())])
def test_kept_frames_are_seen_where_training_has_them(path: Affine) -> None:
    """At each time alpha x_1 + sigma x_0 for their own noise, whatever the network says about them."""
    frames, kept, phone, _ = rows()
    spy = Spy(path)
    infill(spy, path, frames, kept, phone, rng=Rng(1), sampling=SamplerConfig(nfe=4))
    x_0 = noise_like(frames, Rng(1).fold_in("source"))
    for x_t, t, given in spy.seen:
        scales = path.schedule(t.double()[:, None, None])
        close(x_t[kept], (scales.alpha * frames + scales.sigma * x_0)[kept], 1e-6)
        assert torch.equal(given["known"], kept)


@pytest.mark.parametrize("solver", ["midpoint", "dopri5"])
def test_gaps_are_filled_by_the_exact_flow(solver: str) -> None:
    """From N(0, 1) to N(1, 1/4) on straight lines the flow is x -> 1 + x / 2, frame by frame."""
    frames, kept, phone, _ = rows()
    spy = Spy(Affine())
    filled = infill(spy, spy.path, frames, kept, phone, rng=Rng(1), sampling=SamplerConfig(solver, nfe=64))
    x_0 = noise_like(frames, Rng(1).fold_in("source"))
    close(filled[~kept], (1 + x_0 / 2)[~kept], 1e-3)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_padding_and_company_change_nothing(path: Affine | None) -> None:
    frames, kept, phone, valid = rows()
    settings = {"rng": Rng(1), "sampling": SamplerConfig(nfe=4)}
    filled = infill(network(), path, frames, kept, phone, valid=valid, **settings)
    for row in range(len(frames)):
        n, one = int(valid[row].sum()), slice(row, row + 1)
        draws = Rng(1, first_example=row)
        alone = infill(
            *(network(), path, frames[one, :n], kept[one, :n], phone[one, :n]),
            rng=draws,
            sampling=SamplerConfig(nfe=4),
        )
        close(filled[one, :n], alone, 1e-9)


RULES = [
    DurationInfilling.stochastic(Euclidean((N, 1))),
    DurationInfilling.deterministic(Euclidean((N, 1))).with_statistics_of(torch.arange(100)),
]


@pytest.mark.parametrize("rule", RULES, ids=["drawn", "at once"])
def test_durations_are_whole_and_those_that_are_kept_stay(rule: DurationInfilling) -> None:
    draw = Rng(2).stream("durations")
    durations, kept, phone = draw.randint(300, (6, N)), draw.uniform((6, N)) < 0.5, draw.randint(K, (6, N))
    valid = torch.arange(N) < N - draw.randint(5, (6, 1))
    made = FrameInfiller(16, 2, 2).build((N, 1), {"phone": K}, Rng(0))
    torch.nn.init.normal_(made.head.weight, generator=torch.Generator().manual_seed(0))
    settings = {"rng": Rng(1), "valid": valid, "sampling": SamplerConfig(nfe=8)}
    filled = infill_durations(made, rule, durations, kept, phone, **settings)
    assert filled.dtype == torch.int64
    assert torch.equal(filled[kept & valid], durations[kept & valid])
    assert (filled >= 0).all()
    assert not filled[~valid].any()
    assert (filled[valid & ~kept] > 0).any()
    gaps = torch.where(kept & valid, durations, -7)
    assert torch.equal(infill_durations(made, rule, gaps, kept, phone, **settings), filled)


def test_durations_at_once_are_rounded() -> None:
    def told(x_t: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
        return torch.tensor([2.4, 2.6, -0.7, 0.0]).log1p().expand(3, 4)[:, :, None]

    kept, rule = (
        torch.tensor([False, False, False, True]).expand(3, 4),
        DurationInfilling.deterministic(Euclidean((4, 1))),
    )
    found = infill_durations(told, rule, torch.full((3, 4), 9), kept, torch.zeros(3, 4).long(), rng=Rng(0))
    assert found.tolist() == [[2, 3, 0, 9]] * 3


def test_standardised_durations_come_back_in_frames_and_are_told_standardised() -> None:
    rule = DurationInfilling.deterministic(Euclidean((4, 1))).with_statistics_of(torch.tensor([0, 3, 7, 1]))
    logs = torch.tensor([0, 3, 7, 1]).double().log1p()
    assert (rule.mean, rule.std) == (pytest.approx(logs.mean().item()), pytest.approx(logs.std().item()))

    def told(x_t: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
        context = given["context"][:, :, 0]
        close(context[:, 3].double(), expected.expand(3), 1e-6)
        return ((torch.tensor([2.4, 2.6, 5.2, 0.0]).log1p() - rule.mean) / rule.std).expand(3, 4)[:, :, None]

    expected = (torch.tensor(9.0).double().log1p() - rule.mean) / rule.std
    kept = torch.tensor([False, False, False, True]).expand(3, 4)
    found = infill_durations(told, rule, torch.full((3, 4), 9), kept, torch.zeros(3, 4).long(), rng=Rng(0))
    assert found.tolist() == [[2, 3, 5, 9]] * 3


def test_what_cannot_be_is_told() -> None:
    frames, kept, phone, _ = rows()
    with pytest.raises(UsageError, match="expected masks and labels of shape"):
        infill(network(), Affine(), frames, kept[:, 1:], phone, rng=Rng(0))
    with pytest.raises(InputError, match="not finite"):
        infill(lambda x, t, given: x * math.inf, Affine(), frames, kept, phone, rng=Rng(0))
    assert Infilling().cond_dropout == 0.2
