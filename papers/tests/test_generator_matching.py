"""Claims about jumps: the exact ones hold, a wrong formula is seen, and verdicts follow from the figures."""

import json
import math
from dataclasses import replace

import pandas as pd
import pytest
import torch
from scipy import stats
from tests.oracle import F64, close, f64

from feller.app.cli import main
from feller.core.rng import Rng
from feller.data.examples.loaders import inside
from feller.data.loading.dataset_reader import read
from feller.paths import CircularBins, GaussianConditionalPath, VonMisesConditionalPath
from feller.paths.processes import Jumps
from feller.sampling import Midpoint
from feller_papers import judge
from feller_papers.claims import FAILS, HOLDS, UNTESTABLE, Claim
from feller_papers.generator_matching import (
    checkerboard,
    counts,
    digits,
    fitted,
    joint,
    kernels,
    pictures,
    theory,
    torsions,
)
from feller_papers.generator_matching.labelled import LabelledMLP
from feller_papers.generator_matching.lines import GeodesicPath
from feller_papers.generator_matching.rows import comparison_claim, table
from feller_papers.generator_matching.setting import BOTH, FLOW, FROZEN, JUMPS, MIDPOINT, WAYS, Sampler, Setting
from feller_papers.pictures import Pictures

TINY = Setting(seeds=(0,), points=2, digits=2, angles=2, counts=2, draws=64, counted=200, calls=2)
WORDS = {HOLDS, FAILS, UNTESTABLE}


@pytest.mark.slow
@pytest.mark.parametrize(
    "test", [kernels.forward_equation, kernels.survival, theory.same_gradient, theory.parts_together]
)
def test_exact_claims_hold(test) -> None:
    for claim in test(TINY):
        assert isinstance(claim, Claim)
        assert claim.verdict == HOLDS, claim


@pytest.mark.slow
@pytest.mark.parametrize("test", [kernels.circle, theory.keeps_marginals])
def test_slow_exact_claims_hold(test) -> None:
    assert [claim.verdict for claim in test(TINY)] == [HOLDS]


def test_kolmogorov_distance_is_that_of_scipy() -> None:
    """Draws of N(.3, 1) against N(0, 1), whose distribution function comes from its density."""
    x, grid = 0.3 + Rng(0).stream("x").normal((500,), F64), torch.linspace(-9, 9, 90_001, dtype=F64)
    function = kernels.cumulative(torch.exp(-(grid**2) / 2), grid)
    assert kernels.kolmogorov(x, function) == pytest.approx(stats.kstest(x.numpy(), stats.norm.cdf).statistic, abs=1e-6)
    close(function(f64(-20.0, 20.0)), f64(0.0, 1.0), 1e-12)
    assert kernels.kolmogorov(torch.special.ndtri(kernels.shuffled_grid(400, 3)), function) == pytest.approx(
        1 / 800, abs=1e-6
    )


class Later(GaussianConditionalPath):
    """A law whose jumps land where those of the end 0.2 further do."""

    def sample_increase(self, z, t, s, u):
        return super().sample_increase(z + 0.2, t, s, u)


class Faster(VonMisesConditionalPath):
    """A law that takes its rates for 1 % larger than they are."""

    def time_derivative(self, x, z, t):
        return 1.01 * super().time_derivative(x, z, t)


def test_wrong_kernels_are_seen() -> None:
    grid = torch.linspace(-9, 9, 60_001, dtype=F64)
    right, wrong = (kernels.residuals(law, grid, 1.0, 0.4) for law in (GaussianConditionalPath(), Later()))
    assert right[2] < 3e-4
    assert wrong[2] > 0.05
    circle = torch.linspace(-math.pi, math.pi, 60_001, dtype=F64)
    assert kernels.residuals(Faster(), circle, 1.0, 0.4)[0] == pytest.approx(0.01, rel=1e-3)


def test_table_of_one_end() -> None:
    """Section 13.2 at 50 steps, by 20,000 draws there and 10,000 here: within .015."""
    for sampler, printed in ((JUMPS, 0.0366), (FROZEN, 0.1046), (WAYS["jumps, a coin h lambda at t"], 0.0717)):
        found = kernels._distance(GaussianConditionalPath(), kernels.Euclidean((1,)), sampler, 50, 0.95, 0)
        assert abs(found - printed) < 0.015


def test_ways_have_equal_calls() -> None:
    assert len(FLOW.times(8)) - 1 == 8
    assert len(MIDPOINT.times(8)) - 1 == 4
    assert FLOW.times(4) == [0.0, 0.25, 0.5, 0.75, 1.0]
    close(f64(*Sampler(0.0, Midpoint, time_power=2.0).times(4)), f64(0.0, 0.75, 1.0), 1e-15)
    close(f64(*JUMPS.times(2, 0.8)), f64(0.0, 0.4, 0.8), 1e-15)


def test_the_calls_are_counted() -> None:
    """Every way asks the network as often as it says, from the same states."""
    seen = []

    class Counting(torch.nn.Module):
        def forward(self, x, t, given):
            seen.append(x)
            return torch.zeros(*x.shape, 33)

    model = fitted.TrainedProcess(counts.JumpPath(endpoint_support=counts.ends()), counts.Euclidean((1,)), Counting())
    firsts = []
    for sampler in WAYS.values():
        seen.clear()
        samples = model.samples(sampler, 8, 5, Rng(0))
        assert len(seen) == 8
        assert samples.shape == (5, 1)
        firsts.append(seen[0])
    assert all(torch.equal(first, firsts[0]) for first in firsts)
    whole = model.samples(JUMPS, 4, fitted.BATCH + 5, Rng(0))
    assert torch.equal(whole[:5], model.samples(JUMPS, 4, 5, Rng(0)))


def test_points_are_those_of_the_example() -> None:
    """Eight squares, shares within 5 standard errors of 1/8 (false alarm 1e-5), everything inside."""
    for points in (checkerboard.real(8000, Rng(0)), read("example:checkerboard").values):
        assert inside(points).all()
        cells = (points.floor() + 2).long()
        share = torch.bincount(cells[:, 0] * 4 + cells[:, 1], minlength=16).double() / len(points)
        assert ((share[share > 0] - 1 / 8).abs() < 5 * math.sqrt(0.11 / len(points))).all()
        assert int((share > 0).sum()) == 8
    assert checkerboard.BINS.low < -2
    assert checkerboard.BINS.high > 2


def test_verdicts_about_points_follow_from_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = {FLOW: 0.1, BOTH: 0.03, MIDPOINT: 0.02, JUMPS: 0.03, FROZEN: 0.05}

    def verdicts(test, **changed: float) -> list[str]:
        monkeypatch.setattr(
            checkerboard,
            "distance",
            lambda setting, sampler, calls, seed, again=0: {**figures, **changes(changed)}.get(sampler, 0.04),
        )
        return [claim.verdict for claim in test(TINY)]

    def changes(changed: dict[str, float]) -> dict[Sampler, float]:
        return {WAYS[name.replace("_", " ")]: value for name, value in changed.items()}

    assert verdicts(checkerboard.transports) == [HOLDS, HOLDS]
    assert verdicts(checkerboard.transports, jumps=0.041) == [FAILS, HOLDS]
    assert verdicts(checkerboard.transports, midpoint_flow=0.041) == [HOLDS, FAILS]
    assert verdicts(checkerboard.superposition) == [HOLDS, FAILS, FAILS]
    assert verdicts(checkerboard.superposition, superposition=0.036) == [FAILS, FAILS, FAILS]
    assert verdicts(checkerboard.superposition, superposition=0.019) == [HOLDS, HOLDS, FAILS]
    assert verdicts(checkerboard.superposition, Euler_flow=0.042) == [FAILS, FAILS, FAILS]
    assert verdicts(checkerboard.rules) == [HOLDS, HOLDS, FAILS]
    assert verdicts(checkerboard.rules, jumps=0.041) == [FAILS, FAILS, FAILS]


def test_comparisons_show_the_midpoint_flow_and_need_every_number_of_calls() -> None:
    def measure(sampler: Sampler, calls: int) -> list[float]:
        return [0.1 * calls, 0.3 * calls] if sampler == MIDPOINT else [0.2, 2.0]

    claim = comparison_claim("a", "b", measure, "jumps", "midpoint flow", (4, 8), "distance")
    assert claim.verdict == FAILS
    assert comparison_claim("a", "b", measure, "midpoint flow", "jumps", (4, 8), "distance").verdict == FAILS
    assert claim.ours == "distance after 4, 8 calls: jumps 1.1, 1.1; midpoint flow 0.8, 1.6"
    assert claim.spread == "2 seeds, ratio 0.5 to 1.67, 0.25 to 0.833"
    assert comparison_claim("a", "b", measure, "jumps", "midpoint flow", (8,), "distance").verdict == HOLDS
    assert table(measure, (8,), "Euler flow") == "after 8 calls: Euler flow 1.1; midpoint flow 1.6"


def test_lines_are_those_of_shortest_ways() -> None:
    """A network that knows the end gives the velocity along the line; no end that is possible is ruled out."""
    path, draw = GeodesicPath(CircularBins(72)), Rng(0).stream("x")
    x_0, z = (2 * math.pi * draw.uniform((500, 2), F64) for _ in range(2))
    t = 0.99 * draw.uniform((500,), F64)
    index = path.target(z, z, z, t)
    z = path.ends.centres[index]
    x_t = path.sample(x_0, z, t)
    logits = torch.where(index[..., None] == torch.arange(72), 50.0, 0.0).double()
    read = path.complete_prediction(logits, x_t, t)
    assert (read.gather(-1, index[..., None]) == 50.0).all()
    now = path.characteristics(logits, x_t, t)
    close(now.velocity, torch.remainder(z - x_0 + math.pi, 2 * math.pi) - math.pi, 1e-6)
    assert isinstance(now.jumps, Jumps)
    assert (now.jumps.hazard(0.99) == 0).all()
    y = now.jumps.sample_destination(1.0, torch.ones(500, 2, dtype=torch.bool), Rng(0).stream("y"))
    assert torch.equal(path.ends.target(y), index.flatten())
    late = path.complete_prediction(torch.zeros(1, 1, 72, dtype=F64), f64(3.0)[:, None], f64(0.9))
    assert int((late > -1).sum()) == pytest.approx(0.1 * 72 + 1, abs=1)


def test_counts_have_their_law() -> None:
    """A negative binomial law; two share a rate, so that their covariance is the rate's variance."""
    p = counts.law(1)
    expected = stats.nbinom(0.5, 0.5 / 3.5).pmf(range(32))
    close(p[:32], f64(*expected), 2e-4)
    close(p.sum(), 1.0, 1e-12)
    both, number = counts.law(2).view(33, 33), torch.arange(33, dtype=F64)
    close(both.sum(1), p, 1e-12)
    covariance = number @ both @ number - (number @ p) ** 2
    assert covariance.item() == pytest.approx(9 / 0.5, rel=0.1)  # less, as large counts are cut
    for columns, most in ((1, 0.02), (2, 0.05)):
        rows = counts.rows(columns, 20_000, Rng(0))
        assert counts.variation(rows) < most
        assert counts.variation(torch.zeros_like(rows)) > 0.7
    assert abs(counts.rows(1, 20_000, Rng(0)).std() - 1) < 0.1


def test_histograms_of_angles() -> None:
    x = Rng(0).stream("x").uniform((300, 2), F64) * 2 * math.pi
    assert torsions.variation(x, x.flip(0), 12) == 0
    left, right = (torch.full((10, 2), value, dtype=F64) for value in (0.1, 3.0))
    assert torsions.variation(left, right, 12) == 1
    assert torsions.variation(torch.cat([left, right]), right, 12) == 0.5
    assert torsions.variation(x, x.flip(1), 12) > 0.3  # which angle is which counts


def test_structures_are_not_in_both_parts(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those whose codes look like numbers."""
    place = tmp_path / "manifolds" / "torsions"
    place.mkdir(parents=True)
    codes = [f"{i}{letter}{j:02}" for i in range(1, 10) for letter in "ae" for j in range(20)]
    table = pd.DataFrame([(code, code, i, 1.0) for i, code in enumerate(codes)], columns=["pdb", "chain", "phi", "psi"])
    table = pd.concat([table, table.assign(psi=2.0)])
    table.to_csv(place / "top8000_lys.csv.gz", index=False)
    found = torsions.angles(tmp_path)
    phi = [{round(float(degrees), 2) for degrees in part[:, 0].rad2deg()} for part in (found.train, found.test)]
    assert not phi[0] & phi[1]
    assert len(phi[0] | phi[1]) == len(codes)
    assert len(found.train) == 2 * len(phi[0])
    assert 0.1 < len(phi[1]) / len(codes) < 0.3
    assert (found.name, found.cells) == ("lysine", 36)
    torsions.angles.cache_clear()


@pytest.fixture(scope="module")
def few_digits() -> Pictures:
    """Return 48 digits, a judge of 40 steps, and that networks train for 2."""
    data = read("example:digits").subset(torch.arange(48))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judge, "TRAINING", replace(judge.TRAINING, steps=40))
        return Pictures(data, judge.train_judge(data), 2, 40)


@pytest.fixture
def small(few_digits: Pictures, monkeypatch: pytest.MonkeyPatch) -> Pictures:
    """Put few digits and few calls in the place of all."""
    for module in (pictures, joint):
        monkeypatch.setattr(module, "digits", lambda count: few_digits)
    for name in ("FEW", "SOME", "USUAL"):
        monkeypatch.setattr(digits, name, 2)
    pictures.sample_metrics.cache_clear()
    return few_digits


def test_pictures_come_back(small: Pictures) -> None:
    values = small.data.values
    assert torch.equal(pictures.decode(pictures.encode(values)), values)
    assert pictures.encode(values).min() == -1
    assert pictures.encode(values).max() == 1


def test_the_label_is_seen_and_told() -> None:
    network = LabelledMLP(10, 17, width=16, depth=1).build({"image": (1, 8, 8), "label": ()}, {}, Rng(0))
    x = {"image": torch.randn(3, 1, 8, 8), "label": torch.tensor([0, 4, 10])}
    t = {"image": torch.rand(3), "label": torch.rand(3)}
    answer = network(x, t, {})
    assert (answer["image"].shape, answer["label"].shape) == ((3, 1, 8, 8, 17), (3, 10))
    assert all((leaf == 0).all() for leaf in answer.values())
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    answer = network(x, t, {})
    for baseline in (
        network({**x, "label": torch.tensor([1, 5, 9])}, t, {}),
        network({**x, "image": x["image"] + 0.1}, t, {}),
        network(x, {**t, "label": t["label"] / 2}, {}),
        network(x, {**t, "image": t["image"] / 2}, {}),
    ):
        assert all(
            (baseline[name] - answer[name]).abs().amax(tuple(range(1, answer[name].ndim))).min() > 1e-5 for name in x
        )


@pytest.mark.parametrize("test", [digits.quality, digits.order, digits.rules, joint.coupled])
def test_claims_about_digits(test, small: Pictures) -> None:
    """With networks that learned nothing, none of good samples holds."""
    claims = test(TINY)
    assert {claim.verdict for claim in claims} <= {HOLDS, FAILS}
    if test is digits.quality:
        assert [claim.verdict for claim in claims] == [FAILS] * 3
    if test is joint.coupled:
        assert [claim.verdict for claim in claims[:3]] == [FAILS] * 3


def test_given_labels_stay(small: Pictures) -> None:
    label = pictures.labels(small)
    found = pictures.draw_images(small, BOTH, 2, 0, {"label": label})
    assert torch.equal(found["label"], label)
    free = pictures.draw_images(small, BOTH, 2, 0, {})
    assert free["label"].max() < 10  # no mask is left


@pytest.mark.parametrize(
    "test",
    [
        checkerboard.transports,
        checkerboard.superposition,
        checkerboard.rules,
        torsions.quality,
        torsions.against_flows,
        counts.few_calls,
    ],
)
def test_claims_from_tiny_trainings(test, monkeypatch: pytest.MonkeyPatch) -> None:
    some = torsions.angles(None)
    monkeypatch.setattr(torsions, "angles", lambda folder: replace(some, test=some.test[:64]))
    monkeypatch.setattr(counts, "FEW", (2,))
    monkeypatch.setattr(counts, "MORE", (4,))
    for module in (checkerboard, torsions):
        for name in ("FEW", "SOME", "USUAL"):
            monkeypatch.setattr(module, name, 2)
    monkeypatch.setattr(torsions, "MANY", 2)
    claims = test(TINY)
    assert {claim.verdict for claim in claims} <= {HOLDS, FAILS}
    if test in (checkerboard.superposition, checkerboard.rules, torsions.against_flows, counts.few_calls):
        assert all("midpoint" in claim.ours for claim in claims)
    for cached in (counts.fitted, counts.distance, torsions.fitted, torsions.fit_geodesic, torsions.distance):
        cached.cache_clear()


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_quick_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "generator-matching", "--quick", "--json"]) == 0
    claims = json.loads(capsys.readouterr().out.splitlines()[-1])["claims"]
    assert {claim["verdict"] for claim in claims} <= WORDS
    assert sum(claim["verdict"] == UNTESTABLE for claim in claims) == 3
    assert sum(claim["verdict"] == HOLDS for claim in claims) >= 12
