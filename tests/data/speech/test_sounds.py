"""Audio files, resampling, crossfades and Griffin-Lim synthesis."""

import pathlib
import sys

import numpy as np
import pytest
import soundfile
import torch

from feller.core.errors import InputError
from feller.core.optional_dependency import NotInstalledError, require_package
from feller.core.serialization import from_dict, to_dict
from feller.data.loading.raw import Waveform
from feller.data.speech.audio_io import (
    DecodedAudio,
    SilenceError,
    crossfade,
    overlay_recording,
    read_sound,
    resample,
    resampling_notes,
    write_sound,
)
from feller.data.speech.griffin_lim import GriffinLim, Vocoder
from feller.data.speech.mel import MelConfig
from tests.data.speech.clip import CLIPS, TEXTS, clip
from tests.errors import refuses


def tone(rate: int, seconds: float = 0.5, frequency: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(int(rate * seconds)) / rate)).astype(np.float32)


@pytest.mark.parametrize("ending", ["wav", "flac"])
def test_lossless_files(tmp_path: pathlib.Path, ending: str) -> None:
    path = tmp_path / f"tone.{ending}"
    soundfile.write(path, tone(22_050), 22_050)
    read = read_sound(path)
    assert read.sound.sample_rate == 22_050
    assert read.sound.samples.dtype == np.float32
    np.testing.assert_allclose(read.sound.samples, tone(22_050), atol=1 / 32768)
    assert (read.channels, read.clips) == (1, False)


@pytest.mark.parametrize(
    ("name", "form"), [("a.ogg", ("OGG", "VORBIS")), ("a.opus", ("OGG", "OPUS")), ("a.mp3", ("MP3", "MPEG_LAYER_III"))]
)
def test_lossy_files_keep_their_timing(tmp_path: pathlib.Path, name: str, form: tuple[str, str]) -> None:
    path, samples = tmp_path / name, soundfile.read(CLIPS / "sense-0880.flac", dtype="float32")[0]
    soundfile.write(path, samples, 16_000, format=form[0], subtype=form[1])
    sound = read_sound(path).sound
    assert sound.sample_rate == 16_000
    assert len(sound.samples) == pytest.approx(len(samples), abs=1200)
    n = min(len(samples), len(sound.samples))
    assert np.corrcoef(sound.samples[:n], samples[:n])[0, 1] > 0.97


def test_stereo_is_mixed_down(tmp_path: pathlib.Path) -> None:
    left, right = tone(8000), tone(8000, frequency=600)
    soundfile.write(tmp_path / "two.wav", np.stack([left, right], 1), 8000, subtype="FLOAT")
    read = read_sound(tmp_path / "two.wav")
    assert read.channels == 2
    np.testing.assert_allclose(read.sound.samples, (left + right) / 2, atol=1e-6)


@pytest.mark.parametrize(("rate", "to"), [(44_100, 16_000), (22_050, 16_000), (8_000, 16_000), (16_000, 8_000)])
def test_resampled_tone(rate: int, to: int) -> None:
    sound = resample(Waveform(tone(rate), rate), to)
    assert sound.sample_rate == to
    assert len(sound.samples) == -(-len(tone(rate)) * to // rate)
    inner = slice(to // 20, -to // 20)
    np.testing.assert_allclose(sound.samples[inner], tone(to)[: len(sound.samples)][inner], atol=2e-3)


def test_resampling_removes_frequencies_above_nyquist() -> None:
    sound = resample(Waveform(tone(44_100, frequency=12_000), 44_100), 16_000)
    assert np.abs(sound.samples[800:-800]).max() < 2e-3


@pytest.mark.parametrize(
    ("samples", "kind", "found"),
    [([], InputError, None), ([0.0] * 800, SilenceError, None), ([0.1, np.nan, 0.2], InputError, "NaN or infinity")],
    ids=["empty", "silent", "nan"],
)
def test_invalid_samples_are_refused(
    tmp_path: pathlib.Path, samples: list[float], kind: type[InputError], found: str | None
) -> None:
    soundfile.write(tmp_path / "bad.wav", np.array(samples, dtype=np.float32), 8000, subtype="FLOAT")
    with refuses(kind, file=str(tmp_path / "bad.wav"), found=found):
        read_sound(tmp_path / "bad.wav")


def test_large_files_and_files_without_sound_are_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "bad.wav").write_text("words, not a sound")
    with refuses(InputError, file=str(tmp_path / "bad.wav")):
        read_sound(tmp_path / "bad.wav")
    with (tmp_path / "huge.wav").open("wb") as file:
        file.truncate(2**29)
    with refuses(InputError, found="512 MiB"):
        read_sound(tmp_path / "huge.wav")


def test_declared_sample_count_is_limited(tmp_path: pathlib.Path) -> None:
    """The number of samples of a .flac has 36 bits, from the middle of byte 21."""
    soundfile.write(tmp_path / "much.flac", tone(16_000), 16_000)
    whole = bytearray((tmp_path / "much.flac").read_bytes())
    whole[21] |= 15
    whole[22:26] = b"\xff" * 4
    (tmp_path / "much.flac").write_bytes(whole)
    with refuses(InputError, file=str(tmp_path / "much.flac"), found="68,719,476,735"):
        read_sound(tmp_path / "much.flac")


@pytest.mark.parametrize(("gain", "clips"), [(1.9, False), (3.0, True)])
def test_clipping_is_detected(tmp_path: pathlib.Path, gain: float, clips: bool) -> None:
    soundfile.write(tmp_path / "loud.wav", np.clip(gain * tone(16_000), -1, 1), 16_000)
    assert read_sound(tmp_path / "loud.wav").clips is clips


def test_resampling_notes() -> None:
    """One note each about rates, channels and clipping."""
    mono, stereo = Waveform(tone(16_000), 16_000), Waveform(tone(44_100), 44_100)
    decoded = [DecodedAudio(mono, 1, False), DecodedAudio(stereo, 2, True), DecodedAudio(stereo, 2, False)]
    rates, _, clipped = resampling_notes(decoded, ["a", "b", "c"], 16_000)
    assert "44,100" in rates
    assert clipped.endswith(": b")
    assert resampling_notes(decoded[:1], ["a"], 16_000) == ()


def test_sounds_are_written_with_16_bits(tmp_path: pathlib.Path) -> None:
    sound = read_sound(CLIPS / "sense-0880.flac").sound
    write_sound(sound, tmp_path / "out.wav")
    assert soundfile.info(tmp_path / "out.wav").subtype == "PCM_16"
    reloaded = read_sound(tmp_path / "out.wav").sound
    assert reloaded.sample_rate == 16_000
    np.testing.assert_allclose(reloaded.samples, sound.samples, atol=1.01 / 32767)
    write_sound(Waveform(np.array([2.0, -3.0, 0.25], dtype=np.float32), 8000), tmp_path / "loud.wav")
    assert soundfile.read(tmp_path / "loud.wav", dtype="int16")[0].tolist() == [32767, -32767, 8192]


@pytest.mark.parametrize("package", ["soundfile", "librosa", "pocketsphinx"])
def test_missing_packages_are_refused(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with refuses(NotInstalledError) as error:
        require_package(package, "reading")
    assert package in str(error.value)
    assert "feller[speech]" in str(error.value)


RATE, HOP = 8_000, 80
RAMP = 80
"""Samples of the crossfade between recorded and new sound."""


def tone_of(n: int, frequency: float, phase: float = 0.0) -> Waveform:
    samples = 0.5 * np.sin(2 * np.pi * frequency * np.arange(n) / RATE + phase)
    return Waveform(samples.astype(np.float32), RATE)


def jump(samples: np.ndarray) -> float:
    return float(np.abs(np.diff(samples)).max())


@pytest.mark.parametrize("lengths", [(900, 700), (900, 700, 800), (900, 100, 800), (50, 900), (900, 240, 240)])
def test_crossfade(lengths: tuple[int, ...]) -> None:
    """Each seam takes at most 30 ms; a ramp adds at most its own slope to the jump."""
    sounds = [tone_of(n, 200 + 150 * i, i) for i, n in enumerate(lengths)]
    whole = crossfade(sounds).samples
    overlaps, so_far = 0, lengths[0]
    for n in lengths[1:]:
        shared = min(240, so_far, n)
        overlaps, so_far = overlaps + shared, so_far + n - shared
    assert len(whole) == sum(lengths) - overlaps
    assert whole.dtype == np.float32
    least = min(240, *lengths)
    assert jump(whole) <= max(jump(sound.samples) for sound in sounds) + 2 * 0.5 / (least - 1) + 1e-6
    alone = max(lengths[0] - 240, 0)
    assert np.array_equal(whole[:alone], sounds[0].samples[:alone])


def test_crossfade_of_equal_sounds() -> None:
    sound = tone_of(900, 200)
    assert np.array_equal(crossfade([sound]).samples, sound.samples)
    # a tone whose period divides the rest continues unchanged
    first, second = tone_of(900, 200), tone_of(700, 200, phase=2 * np.pi * 200 * 660 / RATE)
    np.testing.assert_allclose(crossfade([first, second]).samples, tone_of(1360, 200).samples, atol=1e-5)
    assert len(crossfade([tone_of(900, 200), tone_of(900, 200)], 0.0).samples) == 1800
    assert len(crossfade([tone_of(900, 200), tone_of(900, 200)], 0.05).samples) == 1400


@pytest.mark.parametrize("kept", [(2, 6), (0, 4), (5, 10), (0, 10), (3, 4)])
def test_kept_frames_equal_the_recording_inside(kept: tuple[int, int]) -> None:
    first, last = kept
    new, recorded = tone_of(10 * HOP, 300), tone_of(40 * HOP, 170, 1.0)
    marks, origin = np.zeros(10, dtype=bool), np.full(10, -1)
    marks[first:last], origin[first:last] = True, np.arange(20, 20 + last - first)
    whole = overlay_recording(new, recorded, marks, origin, HOP).samples
    piece = recorded.samples[20 * HOP : (20 + last - first) * HOP]
    ramp = min(RAMP, len(piece) // 2)
    begin, end = ramp if first else 0, len(piece) - (ramp if last < 10 else 0)
    assert len(whole) == len(new.samples)
    assert np.array_equal(whole[: first * HOP], new.samples[: first * HOP])
    assert np.array_equal(whole[last * HOP :], new.samples[last * HOP :])
    assert np.array_equal(whole[first * HOP + begin : first * HOP + end], piece[begin:end])
    assert jump(whole) <= max(jump(new.samples), jump(recorded.samples)) + 1.0 / ramp
    assert np.array_equal(new.samples, tone_of(10 * HOP, 300).samples)  # not changed in place


def test_nonadjacent_frames_are_two_pieces() -> None:
    new, recorded = tone_of(8 * HOP, 300), tone_of(40 * HOP, 170)
    origin = np.array([-1, 4, 5, 20, 21, 22, -1, -1])
    whole = overlay_recording(new, recorded, origin >= 0, origin, HOP).samples
    inside = slice(4 * HOP + 10, 5 * HOP - 10)  # the middle of the second piece
    assert np.array_equal(whole[inside], recorded.samples[21 * HOP + 10 : 22 * HOP - 10])
    assert jump(whole) <= max(jump(new.samples), jump(recorded.samples)) + 1.0 / RAMP


def test_incomplete_last_frame() -> None:
    new, recorded = tone_of(4 * HOP, 300), tone_of(4 * HOP - 7, 170)
    whole = overlay_recording(new, recorded, np.ones(4, dtype=bool), np.arange(4), HOP).samples
    assert len(whole) == 4 * HOP
    assert np.array_equal(whole[: 4 * HOP - 7], recorded.samples)


BOUND = 0.16
"""Mean difference of log mels; measured: 0.090 to 0.103 at 16 kHz, 0.10 to 0.13 at 8 kHz."""


@pytest.mark.parametrize(("rate", "name"), [*zip((16_000, 8_000, 8_000), TEXTS, strict=True)])
def test_synthesis_preserves_log_mels(rate: int, name: str) -> None:
    mel = MelConfig.default_for(rate)
    target = mel.log_mel(torch.from_numpy(clip(name, rate).samples))
    synthesized = GriffinLim().synthesize(target, mel)
    assert synthesized.shape == (len(target) * mel.hop_length,)
    difference = (mel.log_mel(synthesized) - target).abs()
    assert difference.mean() < BOUND
    shifted = (mel.log_mel(synthesized)[1:] - target[:-1]).abs().mean()
    assert shifted > 2 * difference.mean()  # frames are at their times


def test_more_iterations_reduce_the_error() -> None:
    target = MelConfig().log_mel(torch.from_numpy(clip("LJ001-0008.flac").samples))
    errors = [
        (MelConfig().log_mel(GriffinLim(n).synthesize(target, MelConfig())) - target).abs().mean().item()
        for n in (1, 8, 32)
    ]
    assert errors == sorted(errors, reverse=True)


def test_synthesis_depends_on_seed() -> None:
    target = MelConfig().log_mel(torch.from_numpy(clip("LJ001-0008.flac").samples[:8000]))
    first, repeated, other = (GriffinLim(seed=seed).synthesize(target, MelConfig()) for seed in (0, 0, 1))
    assert torch.equal(first, repeated)
    assert not torch.equal(first, other)


def test_synthesis_of_one_frame() -> None:
    assert GriffinLim().synthesize(torch.zeros(1, 80), MelConfig()).shape == (160,)


@pytest.mark.parametrize("mel", [torch.zeros(5, 40), torch.full((5, 80), torch.nan), torch.zeros(0, 80)])
def test_invalid_mels_are_refused(mel: torch.Tensor) -> None:
    with refuses(InputError, found=str(list(mel.shape))):
        GriffinLim().synthesize(mel, MelConfig())


def test_vocoder_record_round_trip() -> None:
    assert from_dict(Vocoder, to_dict(GriffinLim(8, seed=3))) == GriffinLim(8, seed=3)  # pyrefly: ignore
