"""Sampling from a speech run: converts the options of a request to audio files."""

import contextlib
import pathlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from feller.app.config import SampleConfig
from feller.app.modalities.speech import require_speech
from feller.app.reporter import SILENT, Reporter
from feller.app.workflows.speech.speech_request import SpeechRequest, parse_request
from feller.app.workflows.speech.synthesize import (
    GUIDANCE,
    SpeechSynthesisConfig,
    SynthesizedSpeech,
    continue_from,
    merge_sentences,
    split_in_two,
    split_sentences,
    synthesize,
    with_durations,
)
from feller.app.workflows.speech.vocoders import load_vocoder
from feller.core.errors import InputError, UsageError, cannot_write, check_number
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.data.files import sample_folder
from feller.data.loading.raw import Waveform
from feller.data.modality import Dataset
from feller.data.speech.audio_io import crossfade, overlay_recording
from feller.data.speech.mel import FRAMES
from feller.data.speech.modality import Speech
from feller.data.speech.phones import repeat_by_duration
from feller.data.speech.script import Script
from feller.models.model import Model, check_guidance_scale, load_model, single_guidance_scale
from feller.training.engine import get_engine

MAX_GROWTH = 2
"""Maximum length of an edited recording as a multiple of the length of the longest training recording."""


@dataclass(frozen=True, eq=False)
class SpeechResult:
    """Generated recordings, with the spectrograms and durations from which they were synthesized."""

    kind: Speech
    data: Dataset
    """Log mel spectrograms, phones and durations."""
    sounds: tuple[Waveform, ...]
    network_seconds: float
    """Total time of network evaluations in seconds."""

    @property
    def seconds(self) -> float:
        """Total duration of the recordings in seconds."""
        return sum(len(sound.samples) / sound.sample_rate for sound in self.sounds)


def utter(run: Run, config: SampleConfig, *, reporter: Reporter = SILENT) -> tuple[SpeechResult, pathlib.Path]:
    """Generate speech with the options of `feller sample`, and write the recordings.

    Args:
        run: Run of a speech model.
        config: Options of `feller sample`. If n > 1, durations are sampled. `out` is a .wav file for a single
            recording, an .npz file, or a folder.
        reporter: Progress and log output.

    Returns:
        The recordings, and the path to which they were written.

    Raises:
        InputError: If a file or text is invalid, or writing fails.
        UsageError: If an argument is invalid.
    """
    options, sampler, n = config.speech, config.sampler, 1 if config.n is None else config.n
    guidance = GUIDANCE if config.guidance is None else single_guidance_scale(config.guidance)
    speed = 1.0 if options.speed is None else options.speed
    if n < 1:
        raise UsageError("at least 1", n, argument="n")
    check_number("speed", speed, ge=0.2, le=5)
    check_guidance_scale(guidance)
    if speed != 1 and (options.text is None or options.durations is not None):
        raise UsageError("applies only to --text without --durations", remedy="Leave it out", argument="speed")
    model = load_model(run)
    modality, path = require_speech(model), run.output_path(config.output.out)
    modality.check_place(path)
    if n > 1 and path.suffix.lower() == ".wav":
        raise UsageError(f"one recording for {path.name}", f"{n:,}", "Name a folder or an .npz file", argument="n")
    modality = (
        modality if options.vocoder is None else replace(modality, vocoder=load_vocoder(options.vocoder, modality.mel))
    )
    default = model.spec.sampling
    sampling = replace(default, nfe=sampler.nfe or default.nfe, solver=sampler.solver or default.solver)
    synthesis_config = SpeechSynthesisConfig(sampling=sampling, guidance=guidance, speed=speed, samples_durations=n > 1)
    request = parse_request(config, modality, _transcribe, reporter)
    rng = Rng(config.seed).fold_in("sample")
    segments = _pieces(model, request, n, synthesis_config, rng, is_single_piece=options.durations is not None)
    if len(segments) > 1:
        reporter.log(f"the text is synthesised in {len(segments)} segments with cross-fades")
    model.network.to(get_engine().device)
    reporter.start("synthesising")
    start_time, outputs = time.perf_counter(), []
    for i, scripts in enumerate(segments):
        if outputs and not request.prompt_frames:
            scripts = [
                continue_from(output, script, max(modality.room - sum(script.lengths), modality.room // 4))
                for output, script in zip(outputs[-1], scripts, strict=True)
            ]
        outputs.append(synthesize(model, scripts, synthesis_config, rng.fold_in(f"piece {i}")))
        reporter.progress((i + 1) / len(segments))
    seconds = time.perf_counter() - start_time
    reporter.start("vocoding")
    result = _join_pieces(modality, [*zip(*outputs, strict=True)], seconds)
    reporter.finish()
    _write(result, path)
    return result, path


def _transcribe(path: pathlib.Path) -> str:
    from feller.data.speech.audio_io import read_sound
    from feller.evaluation.speech.asr import Whisper

    return Whisper().transcribe([read_sound(path).sound])[0]


def _pieces(
    model: Model, request: SpeechRequest, n: int, config: SpeechSynthesisConfig, rng: Rng, *, is_single_piece: bool
) -> list[list[Script]]:
    """Split a text into segments that fit the model; return, for each, n scripts (phones with durations)."""
    modality = require_speech(model)
    max_length = modality.room - request.prompt_frames
    max_frames = max_length if request.text else MAX_GROWTH * modality.longest

    def scripts_of(text: str, purpose: str) -> tuple[list[Script], int]:
        script = request.make_script(text)
        if script.shortest > max_frames:  # too long for the duration model
            return [], script.shortest
        scripts = with_durations(model, [script] * n, config, rng.fold_in(purpose))
        return scripts, max(sum(script.lengths[script.prompt_length :]) for script in scripts)

    def split_to_fit(text: str, purpose: str) -> list[list[Script]]:
        scripts, longest = scripts_of(text, purpose)
        if scripts and longest <= max_frames:
            return [scripts]
        if is_single_piece:
            raise InputError(
                f"at most {max_length / FRAMES:.1f} s, the maximum output length of the model",
                f"{longest / FRAMES:.1f} s",
                "Shorten the text, or leave out the durations",
                argument="durations",
            )
        if not text:
            raise InputError(
                f"at most {max_frames / FRAMES:.1f} s of speech", f"{longest / FRAMES:.1f} s or more", "Remove words"
            )
        first, second = split_in_two(text)
        return [*split_to_fit(first, f"{purpose}0"), *split_to_fit(second, f"{purpose}1")]

    texts = [request.text] if is_single_piece or not request.text else split_sentences(request.text) or [request.text]
    texts = merge_sentences(texts, lambda text: scripts_of(text, "text")[1] <= max_frames)
    return [segment for i, text in enumerate(texts) for segment in split_to_fit(text, f"text {i}.")]


def _join_pieces(modality: Speech, rows: Sequence[Sequence[SynthesizedSpeech]], seconds: float) -> SpeechResult:
    sounds = tuple(crossfade([_sound(modality, piece) for piece in pieces]) for pieces in rows)
    mels = [torch.cat([piece.mel[piece.first_frame :] for piece in pieces]) for pieces in rows]
    kept_mask = [torch.cat([piece.kept_mask[piece.first_frame :] for piece in pieces]) for pieces in rows]
    scripts = [[piece.script for piece in pieces] for pieces in rows]
    names = [[part.phone for script in row for part in script.parts[script.prompt_length :]] for row in scripts]
    lengths = [[length for script in row for length in script.lengths[script.prompt_length :]] for row in scripts]
    longest = max(map(len, mels))
    phone = pad_sequence([modality.inventory.numbers(row) for row in names], batch_first=True, padding_value=-1)
    duration = pad_sequence([torch.tensor(row) for row in lengths], batch_first=True)
    values = {
        "mel": pad_sequence(mels, batch_first=True, padding_value=modality.statistics.mean),
        "phone": phone,
        "duration": duration,
        "kept": pad_sequence(kept_mask, batch_first=True),
    }
    valid = torch.arange(longest) < duration.sum(1, keepdim=True)
    cond = {"valid": valid, "phone": repeat_by_duration(phone.clamp(min=0), duration, longest)}
    modality = replace(modality, longest=longest)
    return SpeechResult(modality, Dataset(values, cond, modality), sounds, seconds)


def _sound(modality: Speech, speech: SynthesizedSpeech) -> Waveform:
    """Convert a generated spectrogram to audio; frames that were recorded are copied from the original audio."""
    script, first_frame = speech.script, speech.first_frame
    generated, kept_mask = modality.sound(speech.mel[first_frame:]), speech.kept_mask[first_frame:].numpy()
    if script.clip is None or not kept_mask.any():
        return generated
    timed_parts = zip(script.parts, script.lengths, strict=True)
    origin = np.array([frame for part, length in timed_parts for frame in _origins(part.origin, length)])
    sound = overlay_recording(generated, script.clip.sound, kept_mask, origin[first_frame:], modality.mel.hop_length)
    reaches_end = origin[-1] == len(script.clip.mel) - 1
    return replace(sound, samples=np.concatenate([sound.samples, script.clip.tail])) if reaches_end else sound


def _origins(origin: int | None, length: int) -> Sequence[int]:
    """Return, for each frame of a phone, its frame number in the original recording; -1 for a generated frame."""
    return [-1] * length if origin is None else range(origin, origin + length)


def _write(result: SpeechResult, path: pathlib.Path) -> None:
    """Write recordings in the format of the suffix; a single recording also gets an image of its spectrogram."""
    modality, data = result.kind, result.data
    suffix = modality.check_form(path)
    if suffix == ".npz":
        modality.write(data.values, data.given, path)
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.nullcontext() if suffix else sample_folder.locked_folder(path):
            modality.write_sounds(result.sounds, data.values, data.given, path)
    except OSError as error:
        raise cannot_write(path, error) from error
