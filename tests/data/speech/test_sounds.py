"""Sounds in files: one channel, one rate, and what is wrong with them in words."""

import pathlib
import sys

import numpy as np
import pytest
import soundfile

from feller.core.errors import InputError, UsageError
from feller.core.optional_dependency import need
from feller.data.loading.raw import Sound
from feller.data.speech.audio_io import Read, read_sound, resampled, told, write_sound
from tests.data.speech.clip import CLIPS


def tone(rate: int, seconds: float = 0.5, frequency: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(int(rate * seconds)) / rate)).astype(np.float32)


@pytest.mark.parametrize("ending", ["wav", "flac"])
def test_a_file_is_read_with_its_rate(tmp_path: pathlib.Path, ending: str) -> None:
    path = tmp_path / f"tone.{ending}"
    soundfile.write(path, tone(22_050), 22_050)
    read = read_sound(path)
    assert read.sound.rate == 22_050
    assert read.sound.samples.dtype == np.float32
    np.testing.assert_allclose(read.sound.samples, tone(22_050), atol=1 / 32768)
    assert (read.channels, read.clips) == (1, False)


@pytest.mark.parametrize(
    ("name", "form"), [("a.ogg", ("OGG", "VORBIS")), ("a.opus", ("OGG", "OPUS")), ("a.mp3", ("MP3", "MPEG_LAYER_III"))]
)
def test_a_file_with_losses_is_read_at_its_times(tmp_path: pathlib.Path, name: str, form: tuple[str, str]) -> None:
    path, samples = tmp_path / name, soundfile.read(CLIPS / "sense-0880.flac", dtype="float32")[0]
    soundfile.write(path, samples, 16_000, format=form[0], subtype=form[1])
    sound = read_sound(path).sound
    assert sound.rate == 16_000
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
def test_a_tone_at_another_rate_is_the_same_tone(rate: int, to: int) -> None:
    sound = resampled(Sound(tone(rate), rate), to)
    assert sound.rate == to
    assert len(sound.samples) == -(-len(tone(rate)) * to // rate)
    inner = slice(to // 20, -to // 20)
    np.testing.assert_allclose(sound.samples[inner], tone(to)[: len(sound.samples)][inner], atol=2e-3)


def test_what_is_above_half_the_new_rate_is_gone() -> None:
    sound = resampled(Sound(tone(44_100, frequency=12_000), 44_100), 16_000)
    assert np.abs(sound.samples[800:-800]).max() < 2e-3


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (np.zeros(0, dtype=np.float32), "is empty"),
        (np.zeros(800, dtype=np.float32), "nothing but silence"),
        (np.array([0.1, np.nan, 0.2], dtype=np.float32), "not finite"),
    ],
)
def test_bad_sounds_are_named(tmp_path: pathlib.Path, samples: np.ndarray, words: str) -> None:
    soundfile.write(tmp_path / "bad.wav", samples, 8000, subtype="FLOAT")
    with pytest.raises(InputError, match=rf"bad\.wav.*{words}"):
        read_sound(tmp_path / "bad.wav")


def test_what_is_no_sound_is_named(tmp_path: pathlib.Path) -> None:
    (tmp_path / "bad.wav").write_text("words, not a sound")
    with pytest.raises(InputError, match=r"bad\.wav: expected a sound"):
        read_sound(tmp_path / "bad.wav")


def test_a_file_that_is_too_large_is_not_opened(tmp_path: pathlib.Path) -> None:
    with (tmp_path / "huge.wav").open("wb") as file:
        file.truncate(2**29)
    with pytest.raises(InputError, match=r"huge\.wav: expected a sound of at most 256 MiB, got 512"):
        read_sound(tmp_path / "huge.wav")


def test_a_small_file_that_claims_many_samples_is_not_decoded(tmp_path: pathlib.Path) -> None:
    """The head of a .flac has 36 bits for their number, which begin in the middle of byte 21."""
    soundfile.write(tmp_path / "much.flac", tone(16_000), 16_000)
    whole = bytearray((tmp_path / "much.flac").read_bytes())
    whole[21] |= 15
    whole[22:26] = b"\xff" * 4
    (tmp_path / "much.flac").write_bytes(whole)
    with pytest.raises(InputError, match=r"much\.flac: expected a sound of at most 134,217,728 samples, got 68,719"):
        read_sound(tmp_path / "much.flac")


@pytest.mark.parametrize(("gain", "clips"), [(1.9, False), (3.0, True)])
def test_clipping_is_noticed(tmp_path: pathlib.Path, gain: float, clips: bool) -> None:
    soundfile.write(tmp_path / "loud.wav", np.clip(gain * tone(16_000), -1, 1), 16_000)
    assert read_sound(tmp_path / "loud.wav").clips is clips


def test_conversions_are_told() -> None:
    one = Sound(tone(16_000), 16_000)
    read = [
        Read(one, 1, False),
        Read(Sound(tone(44_100), 44_100), 2, True),
        Read(Sound(tone(44_100), 44_100), 2, False),
    ]
    assert told(read, ["a", "b", "c"], 16_000) == (
        "2 files were at 44,100 Hz, brought to 16,000 Hz",
        "2 files were in stereo or more, mixed down to one channel",
        "1 of 3 files clips (too loud when recorded): b",
    )
    assert told(read[:1], ["a"], 16_000) == ()


def test_a_sound_is_written_with_16_bits(tmp_path: pathlib.Path) -> None:
    sound = read_sound(CLIPS / "sense-0880.flac").sound
    write_sound(sound, tmp_path / "out.wav")
    assert soundfile.info(tmp_path / "out.wav").subtype == "PCM_16"
    again = read_sound(tmp_path / "out.wav").sound
    assert again.rate == 16_000
    np.testing.assert_allclose(again.samples, sound.samples, atol=1.01 / 32767)
    write_sound(Sound(np.array([2.0, -3.0, 0.25], dtype=np.float32), 8000), tmp_path / "loud.wav")
    assert soundfile.read(tmp_path / "loud.wav", dtype="int16")[0].tolist() == [32767, -32767, 8192]


@pytest.mark.parametrize("package", ["soundfile", "librosa", "pocketsphinx"])
def test_a_package_that_lacks_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=rf"reading needs {package}: pip install 'feller\[speech\]'"):
        need(package, "reading")
