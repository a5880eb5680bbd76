"""Claims about discrete paths: the exact ones hold, the others come with a verdict from tiny trainings."""

import itertools
import json
import math
import pathlib
from dataclasses import replace

import pytest
import torch
from tests.oracle import close, f64

from feller.app.cli import main
from feller.core.rng import Rng
from feller.data.loading.dataset_reader import read
from feller.models.families.elbo import SamplingRates
from feller.models.recipes.text import text
from feller.paths import ForwardIncrement, LeaveOneOut, LevelDistance, MetricPath, MidpointIncrement, Mixture, PowerBeta
from feller.paths.discrete.rates import KineticOptimalRates
from feller.paths.schedules import Linear
from feller.paths.time_distributions import linear_grid
from feller.sampling import Euler, simulate
from feller.spaces import MaskSource, Tokens, UniformSource
from feller_papers import judge
from feller_papers.claims import FAILS, HOLDS, UNTESTABLE, Claim
from feller_papers.kinetic_optimal import (
    bounds,
    characters,
    digits,
    energies,
    language,
    mnist,
    pictures,
    promises,
    steps,
    texts,
)
from feller_papers.kinetic_optimal import velocities as velocity
from feller_papers.kinetic_optimal.setting import Setting
from feller_papers.kinetic_optimal.stepping import EulerRates
from feller_papers.pictures import shrink

TINY = Setting((0,), 3, 2, 4, calls=(1, 2, 2, 3), resamplings=(4.0,))
WORDS = {HOLDS, FAILS, UNTESTABLE}


@pytest.mark.parametrize(
    "test",
    [velocity.forward_equation, velocity.least_energy, energies.great_circle, steps.few_steps, bounds.toy],
)
def test_exact_claims_hold(test) -> None:
    for claim in test(TINY):
        assert isinstance(claim, Claim)
        assert claim.verdict == HOLDS, claim


def test_random_fluxes_have_the_same_divergence() -> None:
    """What the kinetic optimum is compared with moves the same mass, forwards only, and costs more."""
    log_p = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).log_softmax(1)
    change = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    change = change - (log_p.exp() * change).sum(1, keepdim=True)
    x = torch.arange(6)
    rates = torch.stack(
        [KineticOptimalRates().outgoing(*(part[i].expand(6, 6) for part in (log_p, change)), x) for i in range(3)]
    )
    flux = log_p.exp()[:, :, None] * rates
    other = velocity.with_same_divergence(flux, Rng(0))
    close(other.sum(1) - other.sum(2), flux.sum(1) - flux.sum(2), 1e-14)
    close(flux.sum(1) - flux.sum(2), log_p.exp() * change, 1e-14)
    assert other.min() >= 0
    assert (velocity.energy(other, log_p.exp()) > velocity.energy(flux, log_p.exp()) * 1.001).all()


def test_few_steps_of_the_reference() -> None:
    """Section 12.4, drawn there 200,000 times, for rates at the start; section 6 for what increments gain."""
    path = MetricPath(LevelDistance(17), PowerBeta(), parameterization=LeaveOneOut())
    for calls, expected in ((8, 0.045), (16, 0.026), (32, 0.017)):
        assert abs(steps.distance(replace(path, step_rule=EulerRates()), calls) - expected) < 0.004
    at_start, ahead, middle = (
        steps.distance(replace(path, step_rule=kind), 8)
        for kind in (EulerRates(), ForwardIncrement(), MidpointIncrement())
    )
    assert middle < ahead / 3 < at_start / 6


def test_kernels_agree_with_the_solver() -> None:
    """20,000 draws of a step that is off by 0.04; the largest deviation of 17 shares by 5 of its deviations: 1e-5."""
    path = MetricPath(LevelDistance(17), PowerBeta(), parameterization=LeaveOneOut(), step_rule=EulerRates())
    x_0 = Tokens(17, (1,)).sample_base(20_000, Rng(0).stream("source"))
    end = simulate(path.process(steps.exact_network, {}), x_0, linear_grid(8), Euler(), Rng(0))
    share = torch.bincount(end.flatten(), minlength=17) / 20_000
    found = (
        share - steps.exact_network(torch.zeros(1, dtype=torch.long), f64(0.0), {})[0].exp()
    ).abs().sum().item() / 2
    assert abs(found - steps.distance(path, 8)) < 5 * math.sqrt(0.25 / 20_000)


def test_two_tokens_in_closed_form() -> None:
    """The mask bound is the entropy, and independent tokens have the sum of two bounds of one."""
    assert bounds.entropy() == pytest.approx(-sum(p * math.log(p) for row in bounds.JOINT for p in row))
    assert bounds.bound(Mixture(Linear(), MaskSource()), SamplingRates()) == pytest.approx(bounds.entropy(), abs=1e-9)
    assert bounds.bound(Mixture(Linear(), UniformSource()), SamplingRates()) > bounds.entropy() + 0.5


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> pictures.Pictures:
    """Return 48 digits, a judge of 40 steps, and networks of 3."""
    monkeypatch.setattr(judge, "TRAINING", replace(judge.TRAINING, steps=40))
    data = read("example:digits").subset(torch.arange(48))
    found = pictures.Pictures(data, judge.train_judge(data), 3, 40)
    monkeypatch.setattr(digits, "digits", lambda count: found)
    return found


def test_the_judge_knows_its_pictures(small: pictures.Pictures) -> None:
    values, labels = small.data.values, small.data.given["label"]
    assert small.judge.accuracy(values, labels) > 2 * small.judge.accuracy(16 - values, labels)
    assert small.judge.distance(values) == pytest.approx(0, abs=1e-6)
    assert small.judge.distance(16 - values) > 10


@pytest.mark.slow
@pytest.mark.parametrize(
    "test",
    [
        digits.quality,
        digits.can_fail,
        digits.step_rule,
        promises.metric_beats_mask,
        promises.schedule_helps,
        promises.correctors_help,
        promises.steps_help,
    ],
)
def test_claims_about_digits(test, small: pictures.Pictures) -> None:
    """With networks that learned nothing, none of good samples holds."""
    claims = test(TINY)
    assert {claim.verdict for claim in claims} <= {HOLDS, FAILS}
    if test is digits.quality:
        assert [claim.verdict for claim in claims] == [FAILS] * 3


def test_samples_are_drawn_once(small: pictures.Pictures) -> None:
    first = pictures.sample_metrics(small, "mask", 0, 2)
    assert pictures.sample_metrics(small, "mask", 0, 2) is first
    assert pictures.sample_metrics(small, "mask", 0, 2, sampling_seed=1) != first
    assert pictures.train_model(small, "mask", 0) is pictures.train_model(small, "mask", 0)


def test_mnist_in_small(small: pictures.Pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen pixels make one; the border of two is black."""
    picture = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    picture[0, 0, 2:6, 2:6] = 255
    picture[0, 0, :2, :2] = 255
    expected = torch.zeros(8, 8, dtype=torch.uint8)
    expected[1, 1], expected[0, 0] = 16, 4
    assert torch.equal(shrink(picture)[0, 0], expected)
    monkeypatch.setattr(mnist, "CALLS", (1, 2))
    first, second = mnist.path_claims(replace(small, count=20), "little")
    assert (first.claim, first.paper, first.verdict) == (mnist.QUALITY, "little", FAILS)
    assert second.claim == mnist.BETTER


def test_large_data_are_not_testable_without_them() -> None:
    for test in (mnist.mnist, language.language_models):
        assert {claim.verdict for claim in test(TINY)} == {UNTESTABLE}
        assert {claim.verdict for claim in test(replace(TINY, minutes=1.0))} == {UNTESTABLE}
    assert [claim.verdict for claim in characters.mask_bound(TINY)] == [UNTESTABLE]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Return a folder with a corpus of few words."""
    place = tmp_path_factory.mktemp("data")
    (place / "text" / "text8_style").mkdir(parents=True)
    for part, times in (("train", 400), ("test", 80)):
        (place / "text" / "text8_style" / f"{part}.txt").write_text(
            "the cat sat on the mat and so did the dog " * times
        )
    return place


@pytest.mark.parametrize("test", [characters.mask_bound, characters.schedules_agree, characters.sources])
def test_claims_about_characters(test, folder: pathlib.Path) -> None:
    claims = test(replace(TINY, data=folder))
    assert {claim.verdict for claim in claims} <= {HOLDS, FAILS}
    assert all("text8_style" in claim.claim for claim in claims)


def test_windows_do_not_overlap(folder: pathlib.Path) -> None:
    found = texts.corpus(folder)
    whole = (folder / "text" / "text8_style" / "test.txt").read_text()
    assert "".join(found.train.modality.texts(found.test)) == whole[: len(whole) // 64 * 64]
    assert found.is_text8
    assert not texts.corpus(None).is_text8
    assert texts.corpus(None).test.shape[1] == 64


def test_bits() -> None:
    """Nats of windows of 10 characters: 2 and 4 bits each."""
    found = texts.bits(f64(20 * math.log(2), 40 * math.log(2)), 10)
    assert found.mean == pytest.approx(3)
    assert found.error == pytest.approx(1)


def test_a_budget_counts_what_the_processor_spends(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten seconds a step of a minute are six steps, whatever the clock says."""
    data = texts.corpus(folder).train
    ticks = itertools.count()
    monkeypatch.setattr(language.time, "process_time", lambda: 10.0 * next(ticks))
    language.train_for_minutes(text(data, "tiny"), data, 1.0, 0)
    assert next(ticks) == 7
    monkeypatch.undo()
    monkeypatch.setattr(language, "MODELS", {"A masked": (lambda data, size: text(data, "tiny"), 2.5)})
    (claim,) = language.language_models(replace(TINY, data=folder, minutes=0.005))
    assert claim.verdict in {HOLDS, FAILS}


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_quick_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "kinetic-optimal", "--quick", "--json"]) == 0
    claims = json.loads(capsys.readouterr().out.splitlines()[-1])["claims"]
    assert {claim["verdict"] for claim in claims} <= WORDS
    assert sum(claim["verdict"] == HOLDS for claim in claims) >= 15
