"""Claims about source optimisation: exact claims hold, and verdicts on images follow from metrics."""

from dataclasses import replace

import pytest
import torch
from tests.oracle import close

from feller.control.inverse.operators import Inpaint
from feller.core.rng import Rng
from feller_papers import judge
from feller_papers.claims import FAILS, HOLDS, UNTESTABLE
from feller_papers.d_flow import BEYOND, d_flow, methods, pictures, restoring, theory
from feller_papers.d_flow.methods import Row, Table, psnr
from feller_papers.d_flow.pictures import TASKS
from feller_papers.d_flow.setting import Setting

TINY = Setting(seeds=(0,), base_steps=2, search_steps=2, num_test=4, num_samples=300)


@pytest.mark.parametrize(
    "test", [theory.gradient, theory.draws_of_the_posterior, theory.mean_of_the_posterior], ids=lambda f: f.__name__
)
def test_exact_claims_hold(test) -> None:
    assert [claim.verdict for claim in test(TINY)] == [HOLDS]


@pytest.mark.slow
def test_the_gain_is_that_of_the_formula() -> None:
    (claim,) = theory.gain(TINY)
    assert claim.verdict == HOLDS
    assert "2.1204608 and 2.1204608" in claim.ours


def test_the_formula_is_seen_to_be_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """With fewer steps and half the variance of the end, the gain is another."""
    monkeypatch.setattr(theory, "FINE", 200)
    right, formula = theory.gains(0.9)
    close(right, (0.6915104, 2.1204608), 1e-4)
    close(formula, (0.6915104, 2.1204608), 1e-4)
    both = theory.modes
    monkeypatch.setattr(theory, "modes", lambda x, t: (both(x, t)[0], both(x, t)[1] / 2))
    assert (theory.gains(0.9)[1] / right - 1).abs().min() > 0.05


def test_the_posterior_is_that_of_the_table() -> None:
    mean, covariance = theory.posterior(0.0)
    close(mean, (2.5982009, -0.5982009, 1.3005997), 1e-7)
    close(covariance.diagonal(), (0.2053973, 0.2053973, 1.8005997), 1e-7)
    close(theory.posterior(0.5)[0], (2.4867503, -0.6262204, 1.2447699), 1e-7)


def test_noise_is_added_to_what_is_measured() -> None:
    x = Rng(0).stream("x").normal((200, *pictures.SHAPE))
    for task in TASKS:
        measurement = task.observe(x, Rng(1))
        rest = measurement.y - task.operator(x)
        assert measurement.residual_mse(x).mean().sqrt().item() == pytest.approx(task.noise, rel=0.05)
        assert not isinstance(task.operator, Inpaint) or (rest[:, task.operator.mask] == 0).all()


def test_evaluation_and_tuning_digits_are_disjoint() -> None:
    judged, others = pictures.test_digits(48)
    assert len(judged.data) == len(others.data) == 48
    assert (torch.cdist(judged.x.flatten(1), others.x.flatten(1)) > 0).all()
    assert judged.x.abs().max() <= 1


def test_psnr_is_for_a_range_of_two() -> None:
    close(psnr(torch.full((1, 1, 2, 2), 0.2), torch.zeros(1, 1, 2, 2)), (20.0,), 1e-5)


@pytest.mark.slow
def test_all_methods_are_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "TRAINING", replace(judge.TRAINING, steps=2))
    monkeypatch.setattr(methods, "PIGDM_SCALES", (1.0, 3.0))
    monkeypatch.setattr(methods, "DPS_SCALES", (40.0,))
    found = methods.table(TINY, TASKS[3], 0)
    assert list(found.rows) == [
        "Wiener",
        "PiGDM",
        "PiGDM tuned",
        "DPS tuned",
        "OT-ODE",
        "RED-Diff",
        "D-Flow",
        "D-Flow, random start",
        "D-Flow, density",
        "mean of 4 D-Flow",
        "mean of 4 PiGDM",
        "mean of 4 PiGDM tuned",
    ]
    for name, row in found.rows.items():
        assert torch.isfinite(row.psnr_per_image).all()
        assert row.psnr == pytest.approx(row.psnr_per_image.mean().item())
        assert (row.source_norm is not None) == ("D-Flow" in name)
    assert found.scales["PiGDM"] in methods.PIGDM_SCALES
    assert found.scales["DPS"] in methods.DPS_SCALES


def set_metrics(monkeypatch: pytest.MonkeyPatch, **psnr: float) -> None:
    """Set the metrics of all methods: 16 dB unless given, residual 0.8 of the noise variance."""

    def table(setting: Setting, task: pictures.Task, seed: int) -> Table:
        def row(name: str) -> Row:
            key = name.replace(" ", "_").replace("-", "_").replace(",", "")
            size = 1.0 if "D-Flow" in name else None
            seconds = 10.0 if "D-Flow" in name else 1.0
            return Row(psnr.get(key, 16.0), 0.8, 0.8 * task.noise**2, size, seconds, torch.zeros(1))

        return Table({name: row(name) for name in NAMES}, {"PiGDM": 3.0, "DPS": 40.0})

    monkeypatch.setattr(restoring, "table", table)


NAMES = ("Wiener", "PiGDM", "DPS tuned", "D-Flow", "mean of 4 D-Flow", "mean of 4 PiGDM tuned")


def test_verdicts_follow_from_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    tests = (
        restoring.means_beat_wiener,
        restoring.better_than_guidance,
        restoring.tuned_guidance,
        restoring.means_of_both,
        restoring.discrepancy,
    )
    set_metrics(monkeypatch, mean_of_4_D_Flow=16.6, D_Flow=16.4, DPS_tuned=17.0)
    good = [claim for test in tests for claim in test(TINY)]
    assert [claim.verdict for claim in good] == [HOLDS] * 8
    assert "Wiener 16.00, 0.80, 0.0e+00 in 1.0 s" in good[0].ours
    assert "scales chosen PiGDM 3 and DPS 40" in good[0].ours
    set_metrics(monkeypatch, mean_of_4_D_Flow=16.4, D_Flow=16.2, DPS_tuned=16.0, mean_of_4_PiGDM_tuned=17.0)
    bad = [claim.verdict for test in tests[:-1] for claim in test(TINY)]
    assert bad == [FAILS] * 7
    noisy = replace(TINY, seeds=(0, 1))
    monkeypatch.setattr(
        restoring,
        "table",
        lambda setting, task, seed: Table(
            {"D-Flow": Row(16.0, 0.8, (0.4 + seed) * task.noise**2, 1.0, 1.0, torch.zeros(1))}, {}
        ),
    )
    assert [claim.verdict for claim in restoring.discrepancy(noisy)] == [FAILS]


def test_the_command_reaches_the_claims() -> None:
    found = list(d_flow(True, None, "theory.gradient"))
    assert [claim.verdict for claim in found] == [HOLDS]
    assert all(claim.verdict == UNTESTABLE for claim in BEYOND)
