"""Infilling of frames and durations: exact copies, counted calls and the law of the path."""

import math
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.core.serialization import from_dict, to_dict
from feller.data.speech.mel import MelConfig, Statistics
from feller.data.speech.modality import Speech
from feller.data.speech.phones import ARPABET, Inventory, with_word_positions
from feller.models.infilling import LearnedDurations, infill, infill_durations
from feller.networks import FrameInfiller
from feller.paths import Affine, DataPrediction, NoisePrediction, VelocityPrediction
from feller.paths.schedules import VP, Cosine
from feller.sampling.sampler_config import SamplerConfig
from feller.spaces import Euclidean
from feller.training.objectives.duration_infilling import DurationInfilling
from feller.training.objectives.frame_infilling import Infilling, noise_like
from tests.errors import refuses
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
def test_kept_frames_are_copied_and_gaps_ignored(path: Affine | None, guidance: float) -> None:
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
def test_all_or_no_frames_kept(path: Affine | None) -> None:
    frames, kept, phone, _ = rows()
    settings = {"rng": Rng(1), "sampling": SamplerConfig(nfe=4)}
    assert torch.equal(infill(network(), path, frames, torch.ones_like(kept), phone, **settings), frames)
    none = torch.zeros_like(kept)
    first, other = (infill(network(), path, x, none, phone, **settings) for x in (frames, frames + 1))
    assert torch.equal(first, other)


def test_nfe_of_midpoint_and_guidance() -> None:
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
def test_network_sees_noised_kept_frames(path: Affine) -> None:
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
def test_gaps_follow_the_exact_flow(solver: str) -> None:
    """From N(0, 1) to N(1, 1/4) on straight lines the flow is x -> 1 + x / 2, frame by frame."""
    frames, kept, phone, _ = rows()
    spy = Spy(Affine())
    filled = infill(spy, spy.path, frames, kept, phone, rng=Rng(1), sampling=SamplerConfig(solver, nfe=64))
    x_0 = noise_like(frames, Rng(1).fold_in("source"))
    close(filled[~kept], (1 + x_0 / 2)[~kept], 1e-3)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_padding_and_batch_do_not_matter(path: Affine | None) -> None:
    frames, kept, phone, valid = rows()
    settings = {"rng": Rng(1), "sampling": SamplerConfig(nfe=4)}
    filled = infill(network(), path, frames, kept, phone, valid=valid, **settings)
    for row in range(len(frames)):
        n, one = int(valid[row].sum()), slice(row, row + 1)
        draws = Rng(1, first_example=row)
        alone = infill(
            *(network(), path, frames[one, :n], kept[one, :n], phone[one, :n]), rng=draws, sampling=SamplerConfig(nfe=4)
        )
        close(filled[one, :n], alone, 1e-9)


def test_standardised_durations() -> None:
    rule = DurationInfilling.deterministic(Euclidean((4, 1))).with_statistics_of(torch.tensor([0, 3, 7, 1]))
    logs = torch.tensor([0, 3, 7, 1]).double().log1p()
    assert (rule.mean, rule.std) == (pytest.approx(logs.mean().item()), pytest.approx(logs.std().item()))

    def network(x_t: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
        context = given["context"][:, :, 0]
        close(context[:, 3].double(), expected.expand(3), 1e-6)
        return ((torch.tensor([2.4, 2.6, -0.7, 0.0]).log1p() - rule.mean) / rule.std).expand(3, 4)[:, :, None]

    expected = (torch.tensor(9.0).double().log1p() - rule.mean) / rule.std
    kept = torch.tensor([False, False, False, True]).expand(3, 4)
    found = infill_durations(network, rule, torch.full((3, 4), 9), kept, torch.zeros(3, 4).long(), rng=Rng(0))
    assert found.tolist() == [[2, 3, 0, 9]] * 3


def test_invalid_masks_and_outputs() -> None:
    frames, kept, phone, _ = rows()
    with refuses(UsageError, found="(5, 11) and (5, 12)"):
        infill(network(), Affine(), frames, kept[:, 1:], phone, rng=Rng(0))
    with refuses(InputError):
        infill(lambda x, t, given: x * math.inf, Affine(), frames, kept, phone, rng=Rng(0))
    assert Infilling().cond_dropout == 0.2


PHONES = 157
SEEN = torch.tensor([3, 5, 8, 13, 40, 0, 6])
"""Durations of some data."""


def durations_model(drawn: bool) -> LearnedDurations:
    lasting = LearnedDurations.stochastic(1, PHONES, SEEN) if drawn else LearnedDurations.deterministic(1, PHONES, SEEN)
    for i, weight in enumerate(lasting.module.parameters()):
        weight.data = weight.data + Rng(1).stream("weight", i).normal(weight.shape) / weight.shape[-1] ** 0.5
    return lasting


def utterances(lengths: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    n, m = len(lengths), max(lengths)
    phone = Rng(2).stream("phone").randint(PHONES, (n, m))
    duration = Rng(2).stream("duration").randint(40, (n, m))
    kept = Rng(2).stream("kept").bernoulli(0.5, (n, m))
    valid = torch.arange(m) < torch.tensor(lengths)[:, None]
    return duration, kept, phone, valid


@pytest.mark.parametrize("drawn", [False, True])
def test_kept_durations_are_copied_and_gaps_ignored(drawn: bool) -> None:
    duration, kept, phone, valid = utterances((9, 4))
    found = durations_model(drawn).infill(duration, kept, phone, rng=Rng(0), valid=valid)
    known = kept & valid
    assert torch.equal(found[known], duration[known])
    assert found.dtype == torch.long
    assert (found[~valid] == 0).all()
    assert (found >= 0).all()
    assert (found[valid & ~kept] > 0).any()
    hidden = torch.where(known, duration, 77)
    assert torch.equal(found, durations_model(drawn).infill(hidden, kept, phone, rng=Rng(0), valid=valid))
    whole = durations_model(drawn).infill(duration, torch.ones_like(kept), phone, rng=Rng(0))
    assert torch.equal(whole, duration)


@pytest.mark.parametrize("drawn", [False, True])
def test_durations_depend_on_context_and_phones(drawn: bool) -> None:
    duration, kept, phone, _ = utterances((9, 9))
    found = durations_model(drawn).infill(duration, kept, phone, rng=Rng(0))
    others = durations_model(drawn).infill(2 * duration + 9, kept, phone, rng=Rng(0))
    assert not torch.equal(found[~kept], others[~kept])
    assert not torch.equal(found, durations_model(drawn).infill(duration, kept, (phone + 1) % PHONES, rng=Rng(0)))


@pytest.mark.parametrize("drawn", [False, True])
def test_durations_do_not_depend_on_the_batch(drawn: bool) -> None:
    duration, kept, phone, valid = utterances((9, 4, 6))
    found = durations_model(drawn).infill(duration, kept, phone, rng=Rng(0), valid=valid)
    alone = durations_model(drawn).infill(duration[1:2, :4], kept[1:2, :4], phone[1:2, :4], rng=Rng(0, first_example=1))
    assert torch.equal(found[1, :4], alone[0])


def test_deterministic_and_stochastic_durations() -> None:
    duration, kept, phone, _ = utterances((9, 9))
    for drawn in (False, True):
        lasting = durations_model(drawn)
        found = [lasting.infill(duration, kept, phone, rng=Rng(seed)) for seed in (0, 0, 1)]
        assert torch.equal(found[0], found[1])
        assert torch.equal(found[0], found[2]) is not drawn
    assert durations_model(False).objective.path is None
    assert isinstance(durations_model(True).objective.path, Affine)


def test_speech_round_trip() -> None:
    inventory = Inventory.of({name for phone in ARPABET for name in with_word_positions((phone,))})
    own = {"zork": (("Z", "AO", "R", "K"), ("Z", "ER", "K")), "é": (("EY",),)}
    kind = Speech(
        MelConfig(),
        Statistics(-5.0, 2.0),
        inventory,
        300,
        chains=True,
        speakers=("kim", "linda"),
        user_pronunciations=own,
        duration_regressor=LearnedDurations.deterministic(1, len(inventory), SEEN),
        duration_sampler=LearnedDurations.stochastic(2, len(inventory), SEEN),
    )
    back = from_dict(Speech, to_dict(kind))
    assert back == kind
    assert back.user_pronunciations == own
    assert [*back.aux_networks] == ["durations", "rhythm"]
    for name, module in kind.aux_networks.items():
        theirs = back.aux_networks[name].state_dict()
        assert {key: weight.shape for key, weight in module.state_dict().items()} == {
            key: weight.shape for key, weight in theirs.items()
        }
    assert replace(kind, duration_regressor=None) != kind
