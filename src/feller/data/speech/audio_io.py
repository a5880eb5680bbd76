"""Audio: reading of files as mono, resampling, writing and cross-fading."""

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
"""Maximum size of an audio file in bytes."""
MAX_SAMPLES = 2**27
"""Maximum number of samples over all channels: the content of the largest uncompressed 16-bit file."""
CLIPPED = 4
"""Number of consecutive full-scale samples from which a recording counts as clipped."""
RATES = (1_000, 768_000)
"""Minimum and maximum valid sample rate in Hz."""


class SilenceError(InputError):
    """Error for a silent recording."""


@dataclass(frozen=True, eq=False)
class DecodedAudio:
    """Decoded recording, with properties of its file such as clipping."""

    sound: Waveform
    channels: int
    clips: bool
    """True if the recording is clipped."""


def read_sound(path: pathlib.Path) -> DecodedAudio:
    """Read an audio file, mixed down to mono.

    Raises:
        InputError: If the file is not audio, is too large or empty, or has values that are not finite.
        SilenceError: If the recording is silent.
        UsageError: If soundfile is not installed.
    """
    soundfile = require_package("soundfile", f"reading {path.name}")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise InputError(
            f"at most {MAX_BYTES >> 20} MiB", f"{size >> 20} MiB", "Split the recording into sentences", file=path
        )
    try:
        with soundfile.SoundFile(str(path)) as file:
            num_samples, rate = file.frames * file.channels, file.samplerate
            samples = file.read(dtype="float32", always_2d=True) if num_samples <= MAX_SAMPLES else None
    except (RuntimeError, ValueError, TypeError) as error:  # soundfile's own errors are RuntimeErrors
        message = " ".join(str(error).split()).rpartition(": ")[2] or type(error).__name__
        raise InputError(
            f"an audio file ({', '.join(ENDINGS)})", f"one that cannot be read ({message})", file=path
        ) from error
    if samples is None:  # a small compressed file may expand to more than fits into memory
        raise InputError(
            f"at most {MAX_SAMPLES:,} samples", f"{num_samples:,}", "Split the recording into sentences", file=path
        )
    if not len(samples):
        raise InputError("the recording is empty", remedy="Remove the recording, or record it again", file=path)
    if not RATES[0] <= rate <= RATES[1]:
        raise InputError(f"a sample rate of {RATES[0]:,} to {RATES[1]:,} Hz", f"{rate:,} Hz", file=path)
    if not np.isfinite(samples).all():
        raise InputError("finite samples", "NaN or infinity", "Write the file again", file=path)
    clips = _clips(samples)
    mono = samples.mean(1, dtype=np.float32) if samples.shape[1] > 1 else samples[:, 0]
    if not mono.any():
        raise SilenceError("the recording is silent", remedy="Remove the recording, or record it again", file=path)
    return DecodedAudio(Waveform(np.ascontiguousarray(mono), int(rate)), samples.shape[1], clips)


def _clips(samples: np.ndarray) -> bool:
    """Return True if the recording, samples [n, channels], is clipped: `CLIPPED` samples in a row have full scale."""
    is_full_scale = (samples >= 0.999) | (samples <= -0.999)  # booleans need less memory than absolute values
    windows = (
        np.lib.stride_tricks.sliding_window_view(is_full_scale, CLIPPED, axis=0)
        if len(is_full_scale) >= CLIPPED
        else is_full_scale[:0, :, None]
    )
    return bool(windows.all(-1).any())


def resample(sound: Waveform, rate: int) -> Waveform:
    """Resample a waveform to the sample rate `rate`; n samples become ceil(n * rate / old rate) samples."""
    if sound.sample_rate == rate:
        return sound
    from scipy.signal import resample_poly

    divisor = math.gcd(sound.sample_rate, rate)
    samples = resample_poly(sound.samples.astype(np.float64), rate // divisor, sound.sample_rate // divisor)
    return replace(sound, samples=samples.astype(np.float32), sample_rate=rate)


def resampling_notes(decoded: Sequence[DecodedAudio], names: Sequence[str], rate: int) -> tuple[str, ...]:
    """Return notes on recordings that are resampled to `rate` (in Hz), were mixed down to mono, or are clipped.

    `names` are the names of the recordings, for the notes.
    """
    rates = [recording.sound.sample_rate for recording in decoded]
    notes = [
        f"{_files(rates.count(old_rate))} at {old_rate:,} Hz, brought to {rate:,} Hz"
        for old_rate in sorted(set(rates) - {rate})
    ]
    num_stereo = sum(recording.channels > 1 for recording in decoded)
    if num_stereo:
        notes.append(f"{_files(num_stereo)} in stereo or more, mixed down to one channel")
    clipped = [name for recording, name in zip(decoded, names, strict=True) if recording.clips]
    if clipped:
        verb = "clips" if len(clipped) == 1 else "clip"
        suffix = ", ..." if len(clipped) > 5 else ""
        notes.append(
            f"{len(clipped):,} of {len(decoded):,} files {verb} (too loud when recorded):"
            f" {', '.join(clipped[:5])}{suffix}"
        )
    return tuple(notes)


def _files(count: int) -> str:
    return f"{count:,} file was" if count == 1 else f"{count:,} files were"


def wav(sound: Waveform) -> bytes:
    """Return a waveform, clipped to [-1, 1], as the bytes of a 16-bit .wav file; UsageError without soundfile."""
    soundfile = require_package("soundfile", "writing sounds")
    file = io.BytesIO()
    levels = np.round(np.clip(sound.samples, -1, 1) * 32767).astype(np.int16)
    soundfile.write(file, levels, sound.sample_rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def write_sound(sound: Waveform, path: pathlib.Path) -> None:
    """Write a waveform to a .wav file atomically; UsageError if soundfile is not installed."""
    replace_file(path, wav(sound))


FADE = 0.03
"""Length of a cross-fade between waveforms, in seconds."""
EDGE = 0.01
"""Length of the fade between recorded and generated audio, in seconds."""


def crossfade(sounds: Sequence[Waveform], seconds: float = FADE) -> Waveform:
    """Concatenate waveforms of one sample rate, with cross-fades of length `seconds` between them."""
    joined = sounds[0].samples
    for sound in sounds[1:]:
        n = min(round(seconds * sound.sample_rate), len(joined), len(sound.samples))
        ramp = np.linspace(0, 1, n, dtype=np.float32)
        middle = joined[len(joined) - n :] * (1 - ramp) + sound.samples[:n] * ramp
        joined = np.concatenate([joined[: len(joined) - n], middle, sound.samples[n:]])
    return replace(sounds[0], samples=joined)


def overlay_recording(
    generated: Waveform,
    recorded: Waveform,
    recorded_mask: Bool[np.ndarray, " frames"],
    origin: Int64[np.ndarray, " frames"],
    hop: int,
) -> Waveform:
    """Replace generated frames by the original recording where `recorded_mask` is true, with fades at the borders.

    Args:
        generated: Generated waveform of frames * hop samples.
        recorded: Original recording at the same sample rate.
        recorded_mask: True for frames taken from the recording.
        origin: For each frame that is taken from the recording, its frame index in the recording.
        hop: Number of samples per frame.
    """
    samples = generated.samples.copy()
    for first, last in _runs(recorded_mask, origin):
        start, stop, source = first * hop, last * hop, int(origin[first]) * hop
        segment = recorded.samples[source : source + stop - start]
        weight = _weight(
            len(segment), round(EDGE * generated.sample_rate), rise=first > 0, fall=last < len(recorded_mask)
        )
        generated_samples = samples[start : start + len(segment)]
        samples[start : start + len(segment)] = generated_samples * (1 - weight) + segment * weight
    return replace(generated, samples=samples)


def _runs(recorded_mask: Bool[np.ndarray, " n"], origin: Int64[np.ndarray, " n"]) -> list[tuple[int, int]]:
    """Return (start, end) of each run of generated-sound frames that copy consecutive frames of the recording.

    `recorded_mask` marks copied frames, and `origin` is their frame number in the recording.
    """
    runs: list[tuple[int, int]] = []
    for i in np.flatnonzero(recorded_mask).tolist():
        if runs and runs[-1][1] == i and origin[i] == origin[i - 1] + 1:
            runs[-1] = (runs[-1][0], i + 1)
        else:
            runs.append((i, i + 1))
    return runs


def _weight(n: int, edge: int, *, rise: bool, fall: bool) -> Float32[np.ndarray, " n"]:
    """Return n weights of 1, with a linear ramp of `edge` samples at the start if `rise`, and at the end if `fall`."""
    weight, edge = np.ones(n, dtype=np.float32), min(edge, n // 2)
    ramp = np.linspace(0, 1, edge + 2, dtype=np.float32)[1:-1]
    if rise:
        weight[:edge] = ramp
    if fall:
        weight[n - edge :] = ramp[::-1]
    return weight
