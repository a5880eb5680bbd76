"""Detector of synthetic speech on log mels with a known trace."""

import dataclasses
import json
import pathlib

import pytest
import torch
from scipy.stats import binom, binomtest
from torch import Tensor

from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.core.safetensors_io import save_tensors
from feller.data.speech.griffin_lim import Vocoder
from feller.data.speech.mel import MelConfig
from feller.evaluation.speech.detector import (
    DetectionCounts,
    Detector,
    fit_detector,
    load_detector,
    save_detector,
    vocode,
    wilson_interval,
)
from tests.errors import refuses
from tests.evaluation.log_mels import SHORT, rough, sounds


@pytest.fixture(scope="module")
def detector() -> Detector:
    return fit_detector(sounds(12, 0), rough(sounds(12, 1), 0), Rng(0), size=1, training=SHORT)


def test_traces_are_detected(detector: Detector) -> None:
    real, made = sounds(20, 2), rough(sounds(20, 3), 2)
    found = detector.evaluate(real, made)
    assert found.accuracy > 0.9
    assert found.interval[0] > 0.7
    assert detector.generated_prob(real).max() < detector.generated_prob(made).min() + 0.3
    assert detector.data == "12 real sounds of 10 s and 12 made ones of 10 s"


def test_no_trace_is_chance_level() -> None:
    """40 sounds of either kind: right by chance within 0.3 of one half but once in 1e7."""
    same = fit_detector(sounds(12, 0), sounds(12, 1), Rng(0), size=1, training=SHORT)
    found = same.evaluate(sounds(40, 2), sounds(40, 3))
    assert abs(found.accuracy - 0.5) < 0.3
    assert found.interval[0] < 0.55


def test_generated_prob_is_the_mean_over_windows(detector: Detector) -> None:
    mel = sounds(1, 5, 35)[0]
    windows = torch.stack([mel[i : i + 25] for i in (0, 5, 10)])
    expected = detector.network(windows).double().sigmoid().mean()
    assert detector.generated_prob([mel]).item() == pytest.approx(expected.item(), abs=1e-6)
    both = detector.generated_prob([*sounds(1, 6), mel])
    assert both[1].item() == pytest.approx(expected.item(), abs=1e-6)
    assert both.dtype == torch.float64
    assert detector.generated_prob([]).shape == (0,)


def test_generated_prob_of_half_a_trace(detector: Detector) -> None:
    real, made = sounds(1, 7, 400)[0], rough(sounds(1, 8, 400), 0)[0]
    half = torch.cat([real[:200], made[200:]])
    low, middle, high = detector.generated_prob([real, half, made]).tolist()
    assert middle == pytest.approx((low + high) / 2, abs=0.1)
    assert high - low > 0.6


def test_sounds_shorter_than_a_window(detector: Detector) -> None:
    chance = detector.generated_prob([sounds(1, 9, 7)[0], sounds(1, 9, 1)[0]])
    assert ((chance > 0) & (chance < 1)).all()
    short = fit_detector(
        sounds(4, 0, 9), sounds(4, 1, 24), Rng(0), size=1, training=dataclasses.replace(SHORT, steps=2)
    )
    assert torch.isfinite(short.generated_prob(sounds(2, 2))).all()


def test_save_and_load(detector: Detector, tmp_path: pathlib.Path) -> None:
    save_detector(tmp_path / "detector.safetensors", detector)
    again = load_detector(tmp_path / "detector.safetensors")
    assert torch.equal(again.generated_prob(sounds(5, 4)), detector.generated_prob(sounds(5, 4)))
    assert (again.size, again.data) == (detector.size, detector.data)
    save_detector(tmp_path / "again.safetensors", again)
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "detector.safetensors").read_bytes()


def test_invalid_files_and_sounds(detector: Detector, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "detector.safetensors"
    about = {"detector": json.dumps({"bands": 12, "size": 10**9, "data": "nothing"})}
    for tensors, metadata in (({"x": torch.zeros(2)}, None), (detector.network.state_dict(), about)):
        save_tensors(path, tensors, metadata)
        with refuses(InputError, file=str(path)):
            load_detector(path)
    with refuses(InputError, found="none"):
        load_detector(tmp_path / "nowhere")
    with refuses(UsageError, found="[30, 11]"):
        detector.generated_prob([torch.zeros(30, 11)])
    with refuses(UsageError, found="0 real and 2 synthetic"):
        fit_detector([], sounds(2, 0), Rng(0))
    with refuses(UsageError, found="2 real and 0 synthetic"):
        detector.evaluate(sounds(2, 0), [])


def test_fit_depends_on_the_seed() -> None:
    brief = dataclasses.replace(SHORT, steps=3)
    state = torch.get_rng_state()
    fitted = [fit_detector(sounds(3, 0), sounds(3, 1), Rng(seed), size=1, training=brief) for seed in (0, 0, 1)]
    assert torch.equal(state, torch.get_rng_state())
    one, same, other = (each.network.state_dict() for each in fitted)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["head.weight"], other["head.weight"])


@dataclasses.dataclass(frozen=True)
class Marking(Vocoder):
    """Says each sample as a sine that its frame is loud of; it is one sound for any log mel of the same loudness."""

    def synthesize(self, mel: Tensor, settings: MelConfig) -> Tensor:
        loud = mel.mean(1).exp().repeat_interleave(settings.hop_length)
        return (loud * torch.sin(torch.arange(len(loud)) * 0.3)).float()


def test_vocode() -> None:
    settings = MelConfig.default_for(8_000)
    mels = [torch.randn(n, 40, generator=torch.Generator().manual_seed(n)) - 4 for n in (30, 50)]
    again = vocode(mels, settings, Marking())
    assert [each.shape for each in again] == [each.shape for each in mels]
    assert torch.equal(again[1], settings.log_mel(Marking().synthesize(mels[1], settings)))


@pytest.mark.parametrize("through", [False, True], ids=["original", "resynthesised"])
def test_vocoder_trace_in_training_data(through: bool) -> None:
    train, test = (
        ((rough(sounds(n, n + 1), 0) if through else sounds(n, n)), rough(sounds(n, n + 2), 0)) for n in (24, 20)
    )
    found = fit_detector(*train, Rng(0), size=1, training=SHORT).evaluate(*test)
    assert found.num_real == found.num_made == 20
    assert found.accuracy < 0.8 if through else found.accuracy > 0.9


@pytest.mark.parametrize(("right", "n"), [(0, 8), (3, 8), (8, 8), (40, 50), (1, 1)])
def test_wilson_interval(right: int, n: int) -> None:
    expected = binomtest(right, n).proportion_ci(0.95, "wilson")
    assert wilson_interval(right, n) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_balanced_accuracy() -> None:
    assert DetectionCounts(90, 100, 5, 10).accuracy == pytest.approx(0.7)
    assert DetectionCounts(100, 100, 0, 2).accuracy == 0.5


def test_interval_coverage() -> None:
    """Over all outcomes of 12 real and 9 made sounds, by their exact chances."""
    for spares, catches in ((0.9, 0.8), (0.5, 0.5), (0.97, 0.6)):
        covered = 0.0
        for a in range(13):
            for b in range(10):
                low, high = DetectionCounts(a, 12, b, 9).interval
                inside = low <= (spares + catches) / 2 <= high
                covered += inside * binom.pmf(a, 12, spares) * binom.pmf(b, 9, catches)
        assert 0.93 < covered < 0.995


def test_interval_of_all_right() -> None:
    low, high = DetectionCounts(12, 12, 12, 12).interval
    assert high == 1
    assert 0.75 < low < 0.9
