"""Audio files: read as mono, resample, write, and cross-fade."""

import io
import math
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float32, Int64

from feller.core.errors import InputError
from feller.core.optional_dependency import require_package
from feller.core.serialization import replace_file
from feller.data.loading.raw import Waveform

ENDINGS = (".wav", ".flac", ".ogg", ".opus", ".mp3")
MAX_BYTES = 2**28
"""Bytes of a file, at most: nothing that is spoken in one breath needs more."""
MAX_SAMPLES = 2**27
"""Samples of all channels of a file, at most: as many as the largest file holds without compression, of 16 bits."""
CLIPPED = 4
"""Samples in a row at the largest value that tell of clipping."""
RATES = (1_000, 768_000)
"""Samples of a second that a file can have."""


class SilenceError(InputError):
    """A sound is nothing but silence."""


@dataclass(frozen=True, eq=False)
class DecodedAudio:
    """A sound with what was found out about its file."""

    sound: Waveform
    channels: int
    clips: bool
    """Whether the loudest parts were cut off when it was recorded."""


def read_sound(path: pathlib.Path) -> DecodedAudio:
    """Read a file, several channels mixed into one.

    Raises:
        InputError: If it is no sound, too large, empty or not finite.
        SilenceError: If it is silent.
        UsageError: If soundfile is not installed.
    """
    soundfile = require_package("soundfile", f"reading {path.name}")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise InputError(f"a sound of at most {MAX_BYTES >> 20} MiB", size >> 20, "Cut it into sentences", file=path)
    try:
        with soundfile.SoundFile(str(path)) as file:
            held, rate = file.frames * file.channels, file.samplerate
            samples = file.read(dtype="float32", always_2d=True) if held <= MAX_SAMPLES else None
    except (RuntimeError, ValueError, TypeError) as error:  # soundfile's own errors are RuntimeErrors
        message = " ".join(str(error).split()).rpartition(": ")[2] or type(error).__name__
        raise InputError(
            expected=f"a sound ({', '.join(ENDINGS)}), it cannot be read ({message})", file=path
        ) from error
    if samples is None:  # a small file can hold, or claim, more than fits into memory
        raise InputError(f"a sound of at most {MAX_SAMPLES:,} samples", f"{held:,}", "Cut it into sentences", file=path)
    if not len(samples):
        raise InputError("the sound is empty", remedy="Remove it, or record it again", file=path)
    if not RATES[0] <= rate <= RATES[1]:
        raise InputError(f"{RATES[0]:,} to {RATES[1]:,} samples of a second", f"{rate:,}", file=path)
    if not np.isfinite(samples).all():
        raise InputError("some samples are not finite", remedy="Write the sound again", file=path)
    clips = _clips(samples)
    mixed = samples.mean(1, dtype=np.float32) if samples.shape[1] > 1 else samples[:, 0]
    if not mixed.any():
        raise SilenceError("the sound is nothing but silence", remedy="Remove it, or record it again", file=path)
    return DecodedAudio(Waveform(np.ascontiguousarray(mixed), int(rate)), samples.shape[1], clips)


def _clips(samples: np.ndarray) -> bool:
    """Tell whether the largest values stand several times in a row, in [n, channels]."""
    top = (samples >= 0.999) | (samples <= -0.999)  # less memory than their sizes
    runs = np.lib.stride_tricks.sliding_window_view(top, CLIPPED, axis=0) if len(top) >= CLIPPED else top[:0, :, None]
    return bool(runs.all(-1).any())


def resample(sound: Waveform, rate: int) -> Waveform:
    """Return a sound at another rate; ceil(n * new / old) samples."""
    if sound.sample_rate == rate:
        return sound
    from scipy.signal import resample_poly

    common = math.gcd(sound.sample_rate, rate)
    samples = resample_poly(sound.samples.astype(np.float64), rate // common, sound.sample_rate // common)
    return replace(sound, samples=samples.astype(np.float32), sample_rate=rate)


def resampling_notes(decoded: Sequence[DecodedAudio], names: Sequence[str], rate: int) -> tuple[str, ...]:
    """Say in words for people what is done to sounds that are brought to a rate."""
    rates = [each.sound.sample_rate for each in decoded]
    notes = [
        f"{_files(rates.count(other))} at {other:,} Hz, brought to {rate:,} Hz" for other in sorted(set(rates) - {rate})
    ]
    several = sum(each.channels > 1 for each in decoded)
    if several:
        notes.append(f"{_files(several)} in stereo or more, mixed down to one channel")
    clipped = [name for each, name in zip(decoded, names, strict=True) if each.clips]
    if clipped:
        verb = "clips" if len(clipped) == 1 else "clip"
        more = ", ..." if len(clipped) > 5 else ""
        notes.append(
            f"{len(clipped):,} of {len(decoded):,} files {verb} (too loud when recorded):"
            f" {', '.join(clipped[:5])}{more}"
        )
    return tuple(notes)


def _files(count: int) -> str:
    return f"{count:,} file was" if count == 1 else f"{count:,} files were"


def wav(sound: Waveform) -> bytes:
    """Return a .wav of 16 bits; what is louder than 1 is cut off; UsageError if soundfile is not installed."""
    soundfile = require_package("soundfile", "writing sounds")
    file = io.BytesIO()
    levels = np.round(np.clip(sound.samples, -1, 1) * 32767).astype(np.int16)
    soundfile.write(file, levels, sound.sample_rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def write_sound(sound: Waveform, path: pathlib.Path) -> None:
    """Write a .wav, whole or not at all; UsageError if soundfile is not installed."""
    replace_file(path, wav(sound))


FADE = 0.03
"""Seconds over which one sound goes over into the next."""
EDGE = 0.01
"""Seconds over which a recording goes over into what is new."""


def crossfade(sounds: Sequence[Waveform], seconds: float = FADE) -> Waveform:
    """Return sounds of one rate one after the other, the end of each fading into the beginning of the next."""
    whole = sounds[0].samples
    for sound in sounds[1:]:
        n = min(round(seconds * sound.sample_rate), len(whole), len(sound.samples))
        ramp = np.linspace(0, 1, n, dtype=np.float32)
        middle = whole[len(whole) - n :] * (1 - ramp) + sound.samples[:n] * ramp
        whole = np.concatenate([whole[: len(whole) - n], middle, sound.samples[n:]])
    return replace(sounds[0], samples=whole)


def overlay_recording(
    generated: Waveform,
    recorded: Waveform,
    recorded_mask: Bool[np.ndarray, " frames"],
    origin: Int64[np.ndarray, " frames"],
    hop: int,
) -> Waveform:
    """Return a sound in which frames that are kept are the recording itself, fading into the others at their ends.

    Args:
        generated: frames * hop samples.
        recorded: What the kept frames are of, at the same rate.
        recorded_mask: True is kept.
        origin: Frame of the recording that each kept one is.
        hop: Samples of a frame.
    """
    samples = generated.samples.copy()
    for first, last in _runs(recorded_mask, origin):
        start, stop, source = first * hop, last * hop, int(origin[first]) * hop
        piece = recorded.samples[source : source + stop - start]
        weight = _weight(
            len(piece), round(EDGE * generated.sample_rate), rise=first > 0, fall=last < len(recorded_mask)
        )
        own = samples[start : start + len(piece)]
        samples[start : start + len(piece)] = own * (1 - weight) + piece * weight
    return replace(generated, samples=samples)


def _runs(recorded_mask: Bool[np.ndarray, " n"], origin: Int64[np.ndarray, " n"]) -> list[tuple[int, int]]:
    """Return where kept frames follow each other in the recording, too: the first, and the one behind the last."""
    runs: list[tuple[int, int]] = []
    for i in np.flatnonzero(recorded_mask).tolist():
        if runs and runs[-1][1] == i and origin[i] == origin[i - 1] + 1:
            runs[-1] = (runs[-1][0], i + 1)
        else:
            runs.append((i, i + 1))
    return runs


def _weight(n: int, edge: int, *, rise: bool, fall: bool) -> Float32[np.ndarray, " n"]:
    """Return 1, but for a rise at the beginning and a fall at the end, where they are wanted."""
    weight, edge = np.ones(n, dtype=np.float32), min(edge, n // 2)
    ramp = np.linspace(0, 1, edge + 2, dtype=np.float32)[1:-1]
    if rise:
        weight[:edge] = ramp
    if fall:
        weight[n - edge :] = ramp[::-1]
    return weight
