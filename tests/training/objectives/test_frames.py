"""Infilling of frames and durations: conditions, targets, masked loss."""

import math
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.data.speech.durations import log_durations, whole_durations
from feller.networks import FrameInfiller
from feller.paths import Affine
from feller.paths.schedules import LinearSigmaMin
from feller.spaces import Euclidean
from feller.training.losses import AbsoluteError
from feller.training.objectives.duration_infilling import DurationInfilling
from feller.training.objectives.frame_infilling import AllFrames, Infilling, noise_like
from feller.training.objectives.span_masks import SpanMask
from tests.errors import refuses
from tests.oracle import F64, close

K, B, N, BANDS = 4, 40, 30, 3
RULE = Infilling(cond_dropout=0.0)


class Zero(torch.nn.Module):
    """A network that returns zero and has a null label."""

    null_values: ClassVar = {"phone": K, "context": 0.0, "known": 0}

    def forward(self, x_t: Tensor, t: Tensor, given: dict[str, Tensor]) -> Tensor:
        return torch.zeros_like(x_t)


def batch(b: int = B, n: int = N) -> dict[str, Any]:
    draw = Rng(0).stream("batch")
    start = draw.uniform((b, n)) < 0.3
    phone = draw.randint(K, (b, n)).gather(1, start.cumsum(1).clamp(max=n - 1))
    valid = torch.arange(n) < n - draw.randint(10, (b, 1))
    return {"x_1": draw.normal((b, n, BANDS), F64), "given": {"phone": phone, "valid": valid, "start": start}}


def test_conditions_hold_known_frames_only() -> None:
    whole = batch()
    drawn = RULE.draw(whole, Rng(1), Zero())
    given, valid = drawn["given"], whole["given"]["valid"]
    n = valid.shape[1]
    assert given.keys() == {"valid", "phone", "context", "known"}
    assert torch.equal(given["valid"], valid[:, :n])
    assert torch.equal(given["phone"], whole["given"]["phone"])
    assert torch.equal(drawn["counts"], valid & ~given["known"])
    assert torch.equal(given["context"], torch.where(given["known"][:, :, None], whole["x_1"], 0.0))
    unit = whole["given"]["start"].cumsum(1)
    for row in range(B):
        for number in unit[row].unique():
            known = given["known"][row][valid[row] & (unit[row] == number)]
            assert known.numel() == 0 or known.all() or not known.any()
    assert given["known"].any()


def test_states_and_targets_follow_the_path() -> None:
    """x_t = (1 - (1 - s) t) x_0 + t x_1 and its slope x_1 - (1 - s) x_0, for the noise of the address."""
    s = 0.1
    whole = batch()
    drawn = replace(RULE, path=Affine(LinearSigmaMin(s))).draw(whole, Rng(1), Zero())
    x_0, t = noise_like(whole["x_1"], Rng(1).fold_in("source")), drawn["t"][:, None, None].double()
    close(drawn["x_t"], (1 - (1 - s) * t) * x_0 + t * whole["x_1"], 1e-6)
    close(drawn["target"], whole["x_1"] - (1 - s) * x_0, 1e-12)
    closed = (whole["x_1"] - (1 - s) * drawn["x_t"]) / (1 - (1 - s) * t)
    close(drawn["target"], closed, 1e-5)


def test_loss_is_the_squared_error_over_masked_frames() -> None:
    drawn = RULE.draw(batch(), Rng(1), Zero())
    loss = RULE.loss(Zero(), drawn)
    for row in range(B):
        hidden = drawn["counts"][row]
        close(loss[row], drawn["target"][row][hidden].square().mean(), 1e-12)
    everywhere = replace(RULE, loss_mask=AllFrames())
    drawn = everywhere.draw(batch(), Rng(1), Zero())
    loss = everywhere.loss(Zero(), drawn)
    for row in range(B):
        close(loss[row], drawn["target"][row][drawn["given"]["valid"][row]].square().mean(), 1e-12)


@pytest.mark.parametrize("rubbish", [math.nan, 1e9])
def test_padding_changes_nothing(rubbish: float) -> None:
    network = FrameInfiller(16, 2, 2).build((N, BANDS), {"phone": K}, Rng(0)).double()
    torch.nn.init.normal_(network.head.weight, generator=torch.Generator().manual_seed(0))
    plain = batch()
    valid = plain["given"]["valid"]
    padded = {
        "x_1": torch.full((B, N + 7, BANDS), rubbish, dtype=F64),
        "given": {
            "phone": torch.full((B, N + 7), -3),
            "valid": torch.zeros(B, N + 7, dtype=torch.bool),
            "start": torch.ones(B, N + 7, dtype=torch.bool),
        },
    }
    padded["x_1"][:, :N] = plain["x_1"].where(valid[:, :, None], rubbish)
    for name in ("phone", "valid", "start"):
        padded["given"][name][:, :N] = plain["given"][name]
    rule = Infilling()
    losses = [rule.loss(network, rule.draw(each, Rng(3), network)) for each in (plain, padded)]
    close(losses[1], losses[0].detach(), 1e-12)


def test_context_and_labels_are_dropped_together() -> None:
    """A fifth of 20,000 rows, 5 standard errors: false alarm 6e-7."""
    b = 20_000
    phone = torch.arange(8).expand(b, 8) % K
    whole = {"x_1": torch.ones(b, 8, 1), "given": {"phone": phone}}
    rule = Infilling(span_mask=SpanMask(0.0, 0.5, 0.5), cond_dropout=0.2)
    kept, drawn = replace(rule, cond_dropout=0.0).draw(whole, Rng(2), Zero()), rule.draw(whole, Rng(2), Zero())
    gone = (drawn["given"]["phone"] == K).all(1)
    assert abs(gone.double().mean() - 0.2) < 5 * (0.2 * 0.8 / b) ** 0.5
    for name, null in Zero.null_values.items():
        assert (drawn["given"][name][gone] == null).all()
        assert torch.equal(drawn["given"][name][~gone], kept["given"][name][~gone])
    assert kept["given"]["known"][gone].any(1).all()
    assert torch.equal(drawn["counts"], kept["counts"])


def test_long_rows_are_cropped_consistently() -> None:
    """Labels, marks and frames of 50 that count up; each window is one piece, and what is told is from it."""
    b, n = 30, 50
    x = torch.arange(n, dtype=F64).expand(b, n)[:, :, None]
    given = {"phone": torch.arange(n).expand(b, n), "valid": torch.arange(n) < torch.tensor([n, 12] * 15)[:, None]}
    drawn = replace(RULE, max_length=20).draw({"x_1": x, "given": given}, Rng(4), Zero())
    phone, seen = drawn["given"]["phone"], drawn["given"]
    assert drawn["x_t"].shape == drawn["target"].shape == (b, 20, 1)
    assert torch.equal(phone, phone[:, :1] + torch.arange(20))
    assert torch.equal(seen["context"][:, :, 0], phone.double() * seen["known"])
    assert torch.equal(seen["valid"].sum(1), torch.tensor([20, 12] * 15))
    assert (phone[1::2, 0] == 0).all()
    assert len(phone[::2, 0].unique()) > 5


def test_default_masks_and_units() -> None:
    phone = torch.tensor([[0, 0, 0, 1, 1, 2, 2, 2]]).expand(400, 8)
    whole = {"x_1": torch.ones(400, 8, 1), "given": {"phone": phone}}
    drawn = replace(RULE, span_mask=SpanMask(0.0, 0.1, 0.6)).draw(whole, Rng(5), Zero())
    patterns = {tuple(row) for row in drawn["counts"].tolist()}
    a, b, c = [True, False, False], [False, True, False], [False, False, True]
    spread = [tuple(x for x, many in zip(some, (3, 2, 3), strict=True) for _ in range(many)) for some in (a, b, c)]
    assert set(spread) <= patterns
    assert drawn["given"]["valid"].all()
    for row in patterns:
        assert len(set(row[:3])) == len(set(row[3:5])) == len(set(row[5:])) == 1


def test_regression_has_no_state() -> None:
    rule, whole = replace(RULE, path=None), batch()
    drawn = rule.draw(whole, Rng(1), Zero())
    assert not drawn["x_t"].any()
    assert torch.equal(drawn["target"], whole["x_1"])
    assert torch.equal(drawn["counts"], RULE.draw(whole, Rng(1), Zero())["counts"])


def test_noise_is_normal_and_independent_of_the_batch() -> None:
    """60,000 numbers: mean, variance and covariance of neighbours within 5 standard errors, false alarm 2e-6."""
    x = torch.zeros(20, 100, 30, dtype=F64)
    noise = noise_like(x, Rng(0))
    flat = noise.flatten()
    root = len(flat) ** 0.5
    assert abs(flat.mean()) * root < 5
    assert abs(flat.var() - 1) * root < 5 * 2**0.5
    assert abs((noise[1:] * noise[:-1]).mean()) * (19 * 3000) ** 0.5 < 5
    assert torch.equal(noise_like(x[3:9], replace(Rng(0), first_example=3)), noise[3:9])
    for n in (1, 7, 99):
        assert torch.equal(noise_like(x[:, :n], Rng(0)), noise[:, :n])
        assert torch.equal(noise_like(x[:, :n, :1], Rng(0)), noise_like(x[:, :, :1], Rng(0))[:, :n])
    assert not torch.equal(noise_like(x, Rng(1)), noise)
    assert noise_like(x[:0], Rng(0)).shape == (0, 100, 30)


def durations() -> dict[str, Any]:
    draw = Rng(8).stream("durations")
    valid = torch.arange(9) < torch.tensor([9, 5] * 3000)[:, None]
    return {"x_1": draw.randint(4, (6000, 9)), "given": {"phone": draw.randint(K, (6000, 9)), "valid": valid}}


def test_stochastic_durations_are_dequantised() -> None:
    """exp(x) - 1 is l + u: u in [-1/2, 1/2], mean 0, variance 1/12, 5 standard errors; what is told is whole."""
    rule, whole = DurationInfilling.stochastic(Euclidean((9, 1))), durations()
    rule = replace(rule, infilling=replace(rule.infilling, path=Affine(LinearSigmaMin(0.0)), cond_dropout=0.0))
    drawn = rule.draw(whole, Rng(1), Zero())
    x_1 = drawn["target"] + noise_like(drawn["target"], Rng(1).fold_in("source"))
    u = (x_1[:, :, 0].double().expm1() - whole["x_1"])[whole["given"]["valid"]]
    assert u.abs().max() < 0.5 + 1e-5
    assert abs(u.mean()) < 5 * (1 / 12 / len(u)) ** 0.5
    assert abs(u.var() - 1 / 12) < 5 * (1 / 180 / len(u)) ** 0.5
    assert torch.equal(whole_durations(x_1)[whole["given"]["valid"]], whole["x_1"][whole["given"]["valid"]])
    context, known = drawn["given"]["context"][:, :, 0], drawn["given"]["known"]
    assert torch.equal(context, torch.where(known, whole["x_1"].float().log1p(), 0.0))
    share = drawn["counts"].sum() / whole["given"]["valid"].sum()
    assert 0.62 < share < 0.68  # 0.64 but for rows so short that one phone is much


def test_stochastic_durations_are_standardised() -> None:
    rule, whole = DurationInfilling.stochastic(Euclidean((9, 1))), durations()
    seen = whole["x_1"][whole["given"]["valid"]]
    plain = replace(rule, infilling=replace(rule.infilling, path=Affine(LinearSigmaMin(0.0)), cond_dropout=0.0))
    scaled = plain.with_statistics_of(seen)
    noise = noise_like(plain.draw(whole, Rng(1), Zero())["target"], Rng(1).fold_in("source"))
    before, after = (one.draw(whole, Rng(1), Zero()) for one in (plain, scaled))
    logs = seen.double().log1p()
    close(after["target"] + noise, (before["target"] + noise - logs.mean()) / logs.std(), 1e-4)
    known = after["given"]["known"]
    told = (before["given"]["context"][:, :, 0] - logs.mean()) / logs.std()
    close(after["given"]["context"][:, :, 0][known], told[known], 1e-4)
    assert torch.equal(scaled.decode(scaled.encode(log_durations(whole["x_1"]))), whole["x_1"])


def test_deterministic_durations_regress_the_log_median() -> None:
    rule, whole = DurationInfilling.deterministic(Euclidean((9, 1))), durations()
    assert rule.infilling.criterion == AbsoluteError()
    assert (rule.path, rule.space, rule.cond_dropout) == (None, Euclidean((9, 1)), 0.2)
    drawn = rule.draw(whole, Rng(1), Zero())
    close(drawn["target"][:, :, 0], whole["x_1"].float().log1p(), 1e-6)
    loss = rule.loss(Zero(), drawn)
    for row in range(20):
        close(loss[row], whole["x_1"][row][drawn["counts"][row]].float().log1p().mean(), 1e-6)


def test_settings_out_of_range_are_refused() -> None:
    for wrong in ({"cond_dropout": 1.5}, {"max_length": 0}):
        with refuses(UsageError):
            Infilling(**wrong)
    with refuses(UsageError, found="label"):
        RULE.draw({"x_1": torch.zeros(2, 3, 1), "given": {"label": torch.zeros(2)}}, Rng(0), Zero())
