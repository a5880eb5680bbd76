"""The detector of made sounds, on log mels whose difference is known."""

import dataclasses
import json
import pathlib

import pytest
import torch

from feller.core.errors import InputError, UsageError
from feller.core.rng import Draws
from feller.core.safetensors_io import save_tensors
from feller.evaluation.speech.detector import Detector, fit_detector, load_detector, save_detector
from tests.evaluation.log_mels import SHORT, rough, sounds


@pytest.fixture(scope="module")
def detector() -> Detector:
    return fit_detector(sounds(12, 0), rough(sounds(12, 1), 0), Draws(0), size=1, training=SHORT)


def test_it_finds_spectrograms_that_are_shifted(detector: Detector) -> None:
    real, made = sounds(20, 2), rough(sounds(20, 3), 2)
    found = detector.apart(real, made)
    assert found.accuracy > 0.9
    assert found.interval[0] > 0.7
    assert detector.chance(real).max() < detector.chance(made).min() + 0.3
    assert detector.data == "12 real sounds of 10 s and 12 made ones of 10 s"


def test_it_finds_nothing_where_there_is_nothing() -> None:
    """40 sounds of either kind: right by chance within 0.3 of one half but once in 1e7."""
    same = fit_detector(sounds(12, 0), sounds(12, 1), Draws(0), size=1, training=SHORT)
    found = same.apart(sounds(40, 2), sounds(40, 3))
    assert abs(found.accuracy - 0.5) < 0.3
    assert found.interval[0] < 0.55


def test_the_chance_of_a_sound_is_the_mean_over_its_windows(detector: Detector) -> None:
    mel = sounds(1, 5, 35)[0]
    windows = torch.stack([mel[i : i + 25] for i in (0, 5, 10)])
    expected = detector.network(windows).double().sigmoid().mean()
    assert detector.chance([mel]).item() == pytest.approx(expected.item(), abs=1e-6)
    both = detector.chance([*sounds(1, 6), mel])
    assert both[1].item() == pytest.approx(expected.item(), abs=1e-6)
    assert both.dtype == torch.float64
    assert detector.chance([]).shape == (0,)


def test_a_trace_in_half_a_sound_counts_half(detector: Detector) -> None:
    real, made = sounds(1, 7, 400)[0], rough(sounds(1, 8, 400), 0)[0]
    half = torch.cat([real[:200], made[200:]])
    low, middle, high = detector.chance([real, half, made]).tolist()
    assert middle == pytest.approx((low + high) / 2, abs=0.1)
    assert high - low > 0.6


def test_sounds_shorter_than_a_window(detector: Detector) -> None:
    chance = detector.chance([sounds(1, 9, 7)[0], sounds(1, 9, 1)[0]])
    assert ((chance > 0) & (chance < 1)).all()
    short = fit_detector(
        sounds(4, 0, 9), sounds(4, 1, 24), Draws(0), size=1, training=dataclasses.replace(SHORT, steps=2)
    )
    assert torch.isfinite(short.chance(sounds(2, 2))).all()


def test_it_is_the_same_after_it_was_written(detector: Detector, tmp_path: pathlib.Path) -> None:
    save_detector(tmp_path / "detector.safetensors", detector)
    again = load_detector(tmp_path / "detector.safetensors")
    assert torch.equal(again.chance(sounds(5, 4)), detector.chance(sounds(5, 4)))
    assert (again.size, again.data) == (detector.size, detector.data)
    save_detector(tmp_path / "again.safetensors", again)
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "detector.safetensors").read_bytes()


def test_other_files_are_refused(detector: Detector, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "detector.safetensors"
    save_tensors(path, {"x": torch.zeros(2)})
    with pytest.raises(InputError, match="holds no detector"):
        load_detector(path)
    about = {"bands": 12, "size": 10**9, "data": "nothing"}
    save_tensors(path, detector.network.state_dict(), {"detector": json.dumps(about)})
    with pytest.raises(InputError, match=r"of 12 bands and [0-9]+ features, which are not what it says"):
        load_detector(path)
    with pytest.raises(InputError, match="found none"):
        load_detector(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"expected finite log mels \[frames, 12\]"):
        detector.chance([torch.zeros(30, 11)])
    with pytest.raises(UsageError, match="both kinds"):
        fit_detector([], sounds(2, 0), Draws(0))
    with pytest.raises(UsageError, match="both kinds"):
        detector.apart(sounds(2, 0), [])


def test_the_same_seed_gives_the_same_detector() -> None:
    brief = dataclasses.replace(SHORT, steps=3)
    state = torch.get_rng_state()
    fitted = [fit_detector(sounds(3, 0), sounds(3, 1), Draws(seed), size=1, training=brief) for seed in (0, 0, 1)]
    assert torch.equal(state, torch.get_rng_state())
    one, same, other = (each.network.state_dict() for each in fitted)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["answer.weight"], other["answer.weight"])
