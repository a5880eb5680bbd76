"""Detector of synthetic speech on windows of log mels."""

import pytest
import torch

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.networks.audio.synthetic_speech_detector import (
    WIDTHS,
    WINDOW_FRAMES,
    SyntheticSpeechDetector,
    add_second_differences,
    check_mels,
    split_windows,
)
from tests.errors import refuses


def test_windows_cover_all_frames() -> None:
    mel = torch.arange(43.0)[:, None].expand(43, 3)
    seen = split_windows(mel, 10)
    assert seen.shape == (3, WINDOW_FRAMES, 3)
    assert seen[:, 0, 0].tolist() == [0, 10, 18]
    assert seen[-1, -1, 0] == 42
    assert split_windows(mel[:WINDOW_FRAMES], 10).shape == (1, WINDOW_FRAMES, 3)


def test_short_sounds_are_repeated() -> None:
    seen = split_windows(torch.arange(10.0)[:, None], 5)
    assert seen.shape == (1, WINDOW_FRAMES, 1)
    assert seen[0, :, 0].tolist() == [*range(10), *range(10), *range(5)]


@pytest.mark.parametrize("bands", [1, 40, 80])
def test_layers_of_the_paper(bands: int) -> None:
    network = SyntheticSpeechDetector(bands, 8, Rng(0))
    assert len(network.layers) == 6
    assert [layer.out_channels for layer in network.layers][::5] == [64, 512]
    assert network(torch.zeros(2, WINDOW_FRAMES, bands)).shape == (2,)


def test_features_are_standardised_per_band() -> None:
    x = torch.randn(4, WINDOW_FRAMES, 6, generator=torch.Generator().manual_seed(0))
    one, other = (SyntheticSpeechDetector(6, 1, Rng(0)) for _ in range(2))
    assert not torch.equal(one(x), one(2 * x - 7))
    other.mean[0] = -7.0  # second differences of a constant are zero
    other.std.fill_(2.0)
    torch.testing.assert_close(other(2 * x - 7), one(x), rtol=1e-4, atol=1e-5)


def test_second_differences() -> None:
    frame, band = torch.arange(6.0)[:, None], torch.arange(5.0)
    plain, along_time, along_bands = add_second_differences((frame**2 + 3 * band**2)[None])[0]
    assert torch.equal(plain, frame**2 + 3 * band**2)
    assert torch.equal(along_time[1:-1], torch.full((4, 5), 2.0))
    assert torch.equal(along_bands[:, 1:-1], torch.full((6, 3), 6.0))
    assert torch.equal(along_time[0], torch.ones(5))  # the edge goes on: 1 - 0 and 0 - 0


def test_fit_scale() -> None:
    generator = torch.Generator().manual_seed(0)
    mels = [torch.randn(n, 4, generator=generator) * torch.tensor([1.0, 2.0, 3.0, 0.0]) - 5 for n in (40, 300)]
    network = SyntheticSpeechDetector(4, 1, Rng(0))
    network.fit_scale(mels)
    both = torch.cat(mels)
    torch.testing.assert_close(network.mean[0], both.mean(0), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(network.std[0, :3], both.std(0, correction=0)[:3], rtol=1e-5, atol=1e-5)
    assert network.std[0, 3] > 0
    assert network.std[1, :3] / network.std[0, :3] == pytest.approx(6**0.5, rel=0.15)  # of independent frames


def test_weights_come_from_the_seed() -> None:
    one, same, other = (SyntheticSpeechDetector(4, 1, Rng(seed)).head.weight for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert one.shape == (1, WIDTHS[-1])


@pytest.mark.parametrize("mel", [torch.zeros(0, 4), torch.zeros(30, 5), torch.full((30, 4), torch.nan)])
def test_invalid_log_mels_are_refused(mel: torch.Tensor) -> None:
    with refuses(UsageError):
        check_mels([torch.zeros(30, 4), mel], 4)
    with refuses(UsageError, argument="size", found="0"):
        SyntheticSpeechDetector(4, 0, Rng(0))
