"""Synthesis of log mel spectrograms from scripts (phones with durations), and conversion of text to phones."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from feller.app.modalities.speech import require_affine_path, require_speech
from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.data.loading.raw import Waveform
from feller.data.speech.durations import DurationModel
from feller.data.speech.espeak import phones_of, written_words
from feller.data.speech.lexicon import Lexicon, Pronunciation, cmu_entries
from feller.data.speech.modality import Speech
from feller.data.speech.phones import SIL
from feller.data.speech.script import AlignedRecording, Script
from feller.models.infilling import infill
from feller.models.model import Model
from feller.sampling.sampler_config import SamplerConfig

GUIDANCE = 1.7
"""Default guidance scale; it corresponds to 0.7 on the scale of the Voicebox paper, where 0 (here 1) is no guidance."""
BATCH_SIZE = 16
"""Number of scripts synthesized in one batch."""


@dataclass(frozen=True, kw_only=True)
class SpeechSynthesisConfig:
    """Options for sampling speech."""

    sampling: SamplerConfig
    guidance: float = GUIDANCE
    """Classifier-free guidance scale; 1 is the conditional model without guidance."""
    speed: float = 1.0
    """Speaking rate relative to the prediction of the duration model; predicted durations are divided by this
    number."""
    samples_durations: bool = False
    """True to sample durations from a generative model, instead of using the deterministic duration model."""


@dataclass(frozen=True, eq=False)
class SynthesizedSpeech:
    """Log mel spectrogram generated for a script, which is a list of phones with durations."""

    script: Script
    """Script with the durations of all phones."""
    mel: Float[Tensor, "frames bands"]
    """Log mel spectrogram including the voice prompt; frames taken from recordings are unchanged."""
    kept_mask: Bool[Tensor, " frames"]

    @property
    def first_frame(self) -> int:
        """Index of the first frame after the voice prompt."""
        return (*self.script.starts, len(self.mel))[self.script.prompt_length]


def with_durations(model: Model, scripts: Sequence[Script], config: SpeechSynthesisConfig, rng: Rng) -> list[Script]:
    """Return the scripts with the duration of every phone; missing durations come from the model's duration model.

    Args:
        model: Speech model.
        scripts: Scripts: lists of phones, of which some may have no duration.
        config: Options, which include the speaking rate and whether durations are sampled.
        rng: Source of random numbers for sampled durations.

    Raises:
        UsageError: If the model has no duration model.
    """
    modality = require_speech(model)
    if all(part.length is not None for script in scripts for part in script.parts):
        return [*scripts]
    duration_model = modality.duration_sampler if config.samples_durations else modality.duration_regressor
    if duration_model is None:
        raise UsageError("a speech model with a duration model", "a model without a duration model", "Give --durations")
    filled: list[Script] = []
    for start in range(0, len(scripts), BATCH_SIZE):
        batch_rng = replace(rng, first_example=rng.first_example + start)
        filled += _fill_durations(modality, duration_model, scripts[start : start + BATCH_SIZE], batch_rng)
    return [script.with_speed(config.speed).with_trimmed_silence() for script in filled]


def _fill_durations(
    modality: Speech, duration_model: DurationModel, scripts: Sequence[Script], rng: Rng
) -> list[Script]:
    """Return scripts in which missing durations are infilled; each phone except silence gets at least one frame."""
    phone = _rows([modality.inventory.numbers([part.phone for part in script.parts]) for script in scripts])
    duration = _rows([torch.tensor([part.length or 0 for part in script.parts]) for script in scripts])
    kept_mask = _rows([torch.tensor([part.length is not None for part in script.parts]) for script in scripts])
    valid = _rows([torch.ones(len(script.parts), dtype=torch.bool) for script in scripts])
    durations = duration_model.infill(duration, kept_mask, phone, rng=rng.fold_in("durations"), valid=valid)
    filled = []
    for script, row in zip(scripts, durations.tolist(), strict=True):
        min_lengths = [int(part.length is None and part.phone != SIL) for part in script.parts]
        filled.append(script.with_durations([max(*pair) for pair in zip(row, min_lengths, strict=False)]))
    return filled


def synthesize(
    model: Model, scripts: Sequence[Script], config: SpeechSynthesisConfig, rng: Rng
) -> list[SynthesizedSpeech]:
    """Sample log mel spectrograms for scripts (lists of phones), in which every phone has a duration.

    Raises:
        UsageError: If a script has missing durations, or only durations of zero.
        InputError: If the samples diverge.
    """
    outputs: list[SynthesizedSpeech] = []
    for start in range(0, len(scripts), BATCH_SIZE):
        outputs += _synthesize_batch(
            model, scripts[start : start + BATCH_SIZE], config, replace(rng, first_example=rng.first_example + start)
        )
    return outputs


def continue_from(spoken: SynthesizedSpeech, script: Script, max_frames: int) -> Script:
    """Return `script` preceded by a voice prompt, which is the end of the previous output `spoken`."""
    parts = []
    for part, start, length in reversed(
        [*zip(spoken.script.parts, spoken.script.starts, spoken.script.lengths, strict=True)]
    ):
        max_frames -= length
        if max_frames < 0:
            break
        parts.append(replace(part, length=length, origin=start))
    clip = AlignedRecording(spoken.mel, (), Waveform(np.zeros(0, dtype=np.float32), 1))
    return Script((*reversed(parts), *script.parts), clip, prompt_length=len(parts))


def _synthesize_batch(
    model: Model, scripts: Sequence[Script], config: SpeechSynthesisConfig, rng: Rng
) -> list[SynthesizedSpeech]:
    modality, device = require_speech(model), next(model.network.parameters()).device
    if not all(sum(script.lengths) for script in scripts):
        raise UsageError("a positive total duration", "0", "Give other durations")
    inputs = [_frame_inputs(modality, script) for script in scripts]
    mel, kept_mask, phone = (_rows([entry[i] for entry in inputs]) for i in range(3))
    valid = _rows([torch.ones(len(entry[0]), dtype=torch.bool) for entry in inputs])
    frames = infill(
        model.network.eval(),
        require_affine_path(model),
        modality.encode({"mel": mel}).to(device),
        kept_mask.to(device),
        phone.to(device),
        rng=rng.fold_in("frames"),
        valid=valid.to(device),
        sampling=config.sampling,
        guidance=config.guidance,
    )
    generated = torch.where(kept_mask[:, :, None], mel, modality.decode(frames.cpu())["mel"])
    return [
        SynthesizedSpeech(script, row[: len(entry[0])], entry[1])
        for script, row, entry in zip(scripts, generated, inputs, strict=True)
    ]


def _frame_inputs(modality: Speech, script: Script) -> tuple[Tensor, Tensor, Int64[Tensor, " frames"]]:
    """Return the mel frames of a script, a mask of those that are recorded, and the phone index of each frame."""
    lengths = torch.tensor(script.lengths)
    phone = modality.inventory.numbers([part.phone for part in script.parts]).repeat_interleave(lengths)
    kept_mask = torch.tensor([part.is_recorded for part in script.parts]).repeat_interleave(lengths)
    mel = torch.full((len(phone), modality.mel.n_mels), modality.statistics.mean)
    for part, start, length in zip(script.parts, script.starts, script.lengths, strict=True):
        if script.clip is not None and part.origin is not None:
            mel[start : start + length] = script.clip.mel[part.origin : part.origin + length]
    return mel, kept_mask, phone


def _rows(rows: Sequence[Tensor]) -> Tensor:
    """Stack tensors of different lengths, padded with zeros."""
    return pad_sequence([*rows], batch_first=True)


ABBREVIATIONS = ("Mr", "Mrs", "Ms", "Dr", "Prof", "St", "vs")
"""Abbreviations whose period does not end a sentence."""
SENTENCE = re.compile("".join(rf"(?<!\b{name}\.)" for name in ABBREVIATIONS) + r"(?<=[.!?;:])\s+|\n+")
"""Regular expression for sentence boundaries."""
LISTED, LETTERS = 20, 40
"""Maximum number of words listed in an error message, and maximum number of letters shown of each word."""


def phonemize(
    kind: Speech, text: str, *, spells_unknown: bool = False, language: str | None = None
) -> tuple[tuple[str, ...], ...]:
    """Return one tuple of phones for each word of a text.

    Args:
        kind: Modality of the model, which defines the phones.
        text: Text to speak.
        spells_unknown: True to spell words that are missing from the dictionary letter by letter.
        language: eSpeak language code, for models with non-English phones.

    Raises:
        InputError: If words are missing from the dictionary, or if a token has no unique pronunciation.
        UsageError: If a package is not installed.
    """
    if not kind.inventory.english:
        return _phonemize_foreign(kind, text, language)
    phones, missing = Lexicon(cmu_entries(), kind.user_pronunciations).phones(text, spelled=spells_unknown)
    if missing:
        listed = ", ".join(word[:LETTERS] for word in missing[:LISTED]) + (", ..." if len(missing) > LISTED else "")
        noun = "word" if len(missing) == 1 else "words"
        remedy = "" if spells_unknown else ", or spell them out with --spell"
        raise InputError(
            "words of the pronunciation dictionary",
            f"{len(missing):,} unknown {noun}: {listed}",
            f"Replace these words{remedy}",
        )
    return phones


def _phonemize_foreign(modality: Speech, text: str, language: str | None) -> tuple[Pronunciation, ...]:
    """Return the phones of words for a non-English model, from pronunciations of the user or from eSpeak."""
    lexicon, phones = Lexicon({}, modality.user_pronunciations), []
    for word in written_words(text):
        user_phones = lexicon.pronunciations(word.lower())
        if not user_phones and language is None:
            raise UsageError(
                f"the language of {word!r}", "none", "Give its eSpeak code, such as de or fr-fr", argument="language"
            )
        phones.append(user_phones[0] if user_phones else phones_of(word, language or "", modality.inventory.phones)[0])
    unknown = sorted({phone for word in phones for phone in word} - {*modality.inventory.phones})
    if unknown:
        raise InputError(
            "only phones that occur in the training data",
            ", ".join(unknown[:LISTED]),
            "Use other words, or give their phones",
        )
    return tuple(phones)


def merge_sentences(texts: list[str], fits: Callable[[str], bool]) -> list[str]:
    """Merge consecutive texts as long as the merged text fits into one segment, which is generated with one voice.

    Args:
        texts: Texts in their order, such as sentences.
        fits: Function that returns True if a text is short enough for one segment.
    """
    merged = texts[:1]
    for text in texts[1:]:
        joined = f"{merged[-1]} {text}"
        merged[-1:] = [joined] if fits(joined) else [merged[-1], text]
    return merged


def split_sentences(text: str) -> list[str]:
    """Split a text into sentences; sentences without a word are dropped."""
    return [sentence for sentence in (piece.strip() for piece in SENTENCE.split(text)) if re.search(r"\w", sentence)]


def split_in_two(text: str) -> tuple[str, str]:
    """Split a text near its middle, preferably after a comma; InputError if the text is a single word."""
    words = text.split()
    if len(words) < 2:
        raise InputError("words that fit the maximum length of the model", f"{text[:40]!r}", "Use shorter words")
    middle = len(words) / 2
    positions = sorted(
        range(1, len(words)), key=lambda i: abs(i - middle) - (words[i - 1][-1] in ",-") * len(words) / 4
    )
    return " ".join(words[: positions[0]]), " ".join(words[positions[0] :])
