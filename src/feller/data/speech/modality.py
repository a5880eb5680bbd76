"""Speech: log mels of sounds, with the phone of each frame."""

import io
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from feller.data import overview
from feller.data.arrays import write_arrays
from feller.data.found import Found, FoundSpeech, Layout, Sound, about, expect
from feller.data.modality import Dataset, Modality, Write, check_finite_state, told
from feller.data.speech.chains import LINKS, chained, said_of_words, suit
from feller.data.speech.duration_table import TABLE, write_durations
from feller.data.speech.durations import Durations
from feller.data.speech.mel import FRAMES, Mel, Statistics
from feller.data.speech.phones import Inventory, repeated
from feller.data.speech.picture import Drawn, spectrograms
from feller.data.speech.sound import resampled, write_sound
from feller.data.speech.vocode import GriffinLim, Vocoder
from feller.draws import Draws
from feller.errors import InputError, UsageError
from feller.record import replace_file
from feller.spaces import Euclidean
from feller.tree import Given, State


@dataclass(frozen=True)
class Speech(Modality):
    """Log mels with the phones that are said.

    Values are `mel`, logarithms of amplitudes, float32 [n, longest, bands], the mean behind the end of a sound;
    `phone`, positions in the inventory, [n, most], -1 behind the last; `duration`, frames of each phone, [n, most], 0
    behind the last; `speaker`, positions in `speakers`, [n], -1 where one is not known; `text`, the characters of what
    is said, [n, most], -1 behind the end, where that is known. What was drawn may have no more than `mel`, or `kept`
    beside it, [n, longest], which marks the frames of a recording. A state is the log mels, normalised. Given are
    `valid` and `phone`, the label of each frame, 0 behind the end, both [n, longest].
    """

    called = "speech"
    holds = FoundSpeech

    mel: Mel
    statistics: Statistics
    inventory: Inventory
    longest: int
    """Frames; sounds are kept whole, and an objective may cut pieces out of them."""
    at_once: int | None = None
    """Frames that a model sees at once, where it learns from pieces; by default all."""
    chains: bool = False
    """Whether chains of clips of one speaker are learned, since single ones are too short to hear a voice in."""
    speakers: tuple[str, ...] = ()
    own: dict[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)
    """Words that a user wrote the pronunciations of."""
    durations: Durations | None = None
    """What says how long phones last, the likeliest for each; None until that is learned."""
    rhythm: Durations | None = None
    """What draws how long they last, others each time."""
    vocoder: Vocoder = field(default_factory=GriffinLim)
    """What makes sounds of log mels."""

    def __post_init__(self) -> None:
        if self.longest < 1:
            raise InputError(f"expected sounds of at least 1 frame, got {self.longest}")

    @property
    def room(self) -> int:
        """Frames that a model can hear and say at once."""
        return self.longest if self.at_once is None else min(self.at_once, self.longest)

    @property
    def conditions(self) -> dict[str, tuple[str, ...]]:
        """None: phones are no classes of sounds."""
        return {}

    @property
    def labels(self) -> dict[str, int]:
        """The phone of each frame."""
        return {"phone": len(self.inventory)}

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The networks that say durations."""
        known = {"durations": self.durations, "rhythm": self.rhythm}
        return {name: lasting.module for name, lasting in known.items() if lasting is not None}

    @property
    def forms(self) -> dict[str, Write]:
        """Arrays, one sound, or a folder with one .wav a sound, a picture, and how long each phone lasts."""
        return {
            ".npz": lambda values, given, out: write_arrays(self.arrays(values, given), out),
            ".wav": self._write_sounds,
            "": self._write_sounds,
        }

    @property
    def log_scale(self) -> None:
        """None: sounds have different lengths, so there is no one volume."""
        return None

    def counted(self, values: Any) -> Int64[Tensor, " n"]:
        """Return the numbers of the log mels of each sound, without its padding where its phones are known."""
        mel = values["mel"]
        frames = values["duration"].sum(1) if "duration" in values else torch.full((len(mel),), mel.shape[1])
        return frames * mel.shape[2]

    def for_learning(self, data: Dataset, draws: Draws) -> Dataset:
        """Return as many chains as there are clips, where single ones are too short; else the data as they are."""
        return chained(data, len(data), self.statistics.mean, draws) if self.chains else data

    def complete(self, given: Given) -> Given:
        """Refuse to draw what nobody said.

        Raises:
            UsageError: If no phones are given.
        """
        if "phone" not in given:
            raise UsageError(
                'a model of speech draws sounds of texts and nothing else; say one with: feller sample RUN --text "..."'
            )
        return given

    def texts(self, values: State) -> list[str]:
        """Return what is said, empty where that is not known."""
        rows = values["text"].tolist() if "text" in values else [[]] * len(values["mel"])
        return ["".join(chr(letter) for letter in row if letter >= 0) for row in rows]

    def space(self) -> Euclidean:
        """Return R^(longest x bands)."""
        return Euclidean((self.longest, self.mel.bands))

    def encode(self, values: State) -> Float[Tensor, "n l bands"]:
        """Normalise log mels; phones are conditions."""
        return ((values["mel"].double() - self.statistics.mean) / self.statistics.std).float()

    def decode(self, state: Float[Tensor, "n l bands"]) -> State:
        """Return log mels, of which no phones are known."""
        check_finite_state(state)
        return {"mel": (state.double() * self.statistics.std + self.statistics.mean).float()}

    def accept(self, found: Found) -> tuple[State, Given]:
        """Return log mels and phones, padded; sounds at another rate are brought to ours."""
        found = expect(found, FoundSpeech)
        mels = log_mels(found, self.mel)
        lengths = torch.tensor([len(mel) for mel in mels])
        too_long = int(lengths.argmax())
        if len(mels[too_long]) > self.longest:
            raise InputError(
                f"{found.called(too_long)}: expected sounds of at most {self.longest / FRAMES:g} s, got"
                f" {len(mels[too_long]) / FRAMES:g} s; cut it at a pause, or leave it out"
            )
        mel = torch.full((len(mels), self.longest, self.mel.bands), self.statistics.mean)
        for row, each in zip(mel, mels, strict=True):
            row[: len(each)] = each
        valid = torch.arange(self.longest) < lengths[:, None]
        speaker = [self.speakers.index(name) if name in self.speakers else -1 for name in _speakers(found)]
        values = {"mel": mel, "speaker": torch.tensor(speaker)}
        if found.texts:
            values["text"] = _letters(found.texts)
        if not found.alignments:
            return values, {"valid": valid}
        phone, duration = self._phones(found)
        labels = repeated(phone.clamp(min=0), duration, self.longest)
        return {**values, "phone": phone, "duration": duration}, {"valid": valid, "phone": labels}

    def _phones(self, found: FoundSpeech) -> tuple[Int64[Tensor, "n m"], Int64[Tensor, "n m"]]:
        """Return the phones of each sound and their durations, padded."""
        most = max(len(layout.phones) for layout in found.alignments)
        phone = torch.full((len(found.alignments), most), -1)
        duration = torch.zeros_like(phone)
        for i, layout in enumerate(found.alignments):
            with about(found.called(i)):
                phone[i, : len(layout.phones)] = self.inventory.numbers(layout.phones)
            duration[i, : len(layout.phones)] = torch.tensor(layout.durations)
        return phone, duration

    def sounds(self, values: State, given: Given) -> list[Sound]:
        """Return the sound of each example, without its padding.

        Raises:
            UsageError: If a package is not installed.
        """
        return [
            Sound(self.vocoder.samples(mel, self.mel).numpy().astype(np.float32), self.mel.rate)
            for mel in self._own(values, given)
        ]

    def _own(self, values: State, given: Given) -> list[Float[Tensor, "frames bands"]]:
        """Return log mels without their padding."""
        mel = values["mel"].detach().float().cpu()
        valid = given["valid"].cpu() if "valid" in given else torch.ones(mel.shape[:2], dtype=torch.bool)
        return [each[mask] for each, mask in zip(mel, valid, strict=True)]

    def arrays(self, values: State, given: Given) -> dict[str, np.ndarray]:
        """Return `mel` [n, l, bands], `valid` [n, l], `settings` of the log mels, and what is known of phones.

        These are `phone` and `duration` [n, m], and `phones`, the names of their positions.
        """
        own = self._own(values, given)
        mel = np.zeros((len(own), self.longest, self.mel.bands), dtype=np.float32)
        valid = np.zeros(mel.shape[:2], dtype=bool)
        for i, each in enumerate(own):
            mel[i, : len(each)], valid[i, : len(each)] = each.numpy(), True
        settings = np.array(_settings(self.mel))
        layouts = self._layouts(values, given)
        if not layouts:
            return {"mel": mel, "valid": valid, "settings": settings}
        phone, duration = self._phones(FoundSpeech(np.zeros(len(layouts)), alignments=tuple(layouts)))
        return {
            "mel": mel,
            "valid": valid,
            "settings": settings,
            "phone": phone.numpy(),
            "duration": duration.numpy(),
            "phones": np.array(self.inventory.names),
        }

    def _layouts(self, values: State, given: Given) -> list[Layout]:
        """Return the phones of each sound: as values know them, or else as the labels of frames follow each other."""
        if "phone" in values:
            rows = zip(values["phone"].tolist(), values["duration"].tolist(), strict=True)
            kept = [[(p, d) for p, d in zip(phone, duration, strict=True) if p >= 0] for phone, duration in rows]
        elif "phone" in given and "valid" in given:
            rows = zip(given["phone"].cpu(), given["valid"].cpu(), strict=True)
            kept = [[(p, len([*run])) for p, run in groupby(labels[mask].tolist())] for labels, mask in rows]
        else:
            return []
        names = self.inventory.names
        return [Layout(tuple(names[p] for p, _ in row), tuple(d for _, d in row)) for row in kept]

    def show(self, values: State, given: Given, columns: int | None = None) -> Image.Image:
        """Draw the first sounds, with the phones that are known."""
        layouts = self._layouts(values, given)
        mels = self._own(values, given)
        phones = [_timed(layout) for layout in layouts] or [()] * len(mels)
        kept = values["kept"].cpu().numpy() if "kept" in values else np.zeros((len(mels), 0), dtype=bool)
        drawn = [Drawn(mel.numpy(), said, marks) for mel, said, marks in zip(mels, phones, kept, strict=True)]
        return spectrograms(drawn, self.mel.top, columns)

    def write_sounds(self, sounds: Sequence[Sound], values: State, given: Given, out: pathlib.Path) -> None:
        """Write sounds that were made of log mels: one .wav with its picture beside it, or a folder of both.

        Raises:
            UsageError: If one file is to hold several.
        """
        if out.suffix.lower() == ".wav":
            if len(sounds) != 1:
                raise UsageError(f"{out.name} holds one sound, got {len(sounds)}; name a folder, or .npz")
            write_sound(sounds[0], out)
            picture = io.BytesIO()
            self.show(values, given).save(picture, "PNG")
            replace_file(out.with_suffix(".png"), picture.getvalue())
            return
        overview.prepare(out)
        numbers, layouts = overview.numbers(len(sounds)), self._layouts(values, given)
        files = [f"{number}{ending}" for number in numbers for ending in (".wav", TABLE)[: 1 + bool(layouts)]]
        overview.save(self.show(values, given), out, files)
        for i, number in enumerate(numbers):
            write_sound(sounds[i], out / f"{number}.wav")
            if layouts:
                write_durations(layouts[i], out / f"{number}{TABLE}")

    def _write_sounds(self, values: State, given: Given, out: pathlib.Path) -> None:
        self.write_sounds(self.sounds(values, given), values, given, out)


def log_mels(found: FoundSpeech, mel: Mel) -> list[Float[Tensor, "_ bands"]]:
    """Return the log mels of sounds, or those that a file holds.

    Raises:
        InputError: If a sound is too short, or log mels were made in another way.
    """
    if found.settings:
        if found.settings != _settings(mel):
            raise InputError(f"expected log mels with the settings {_settings(mel)}, got {found.settings}")
        return [torch.from_numpy(value) for value in found.values]
    mels = []
    for i, sound in enumerate(found.values):
        with about(found.called(i)):
            mels.append(mel.log_mel(torch.from_numpy(resampled(sound, mel.rate).samples)))
    return mels


def _letters(texts: Sequence[str]) -> Int64[Tensor, "n l"]:
    """Return the characters of texts as numbers, -1 behind the end."""
    rows = [torch.tensor([ord(letter) for letter in text], dtype=torch.long) for text in texts]
    return pad_sequence(rows, batch_first=True, padding_value=-1)


def speech(found: FoundSpeech) -> Dataset:
    """Make a data set of speech, with its own statistics and inventory, and room for the longest sound.

    Where most clips hold one word, chains of them are learned, if it is known who speaks.

    Raises:
        InputError: If no texts were found.
    """
    if not found.alignments:
        raise InputError("nothing is known of what these sounds say; write a text beside each of them")
    mel = Mel(*found.settings) if found.settings else Mel.usual(found.values[0].rate)
    mels = log_mels(found, mel)
    frames, chains = max(map(len, mels)), suit(found)
    if chains:
        frames = max(frames, LINKS[1] * sum(map(len, mels)) // len(mels))
    longest = -(-frames // FRAMES) * FRAMES  # whole seconds
    inventory = Inventory.of({phone for layout in found.alignments for phone in layout.phones})
    modality = Speech(mel, Statistics.of(mels), inventory, longest, None, chains, found.classes, found.own)
    seconds = sum(map(len, mels)) / FRAMES
    said = f" of {len(found.classes):,} speakers" if found.classes else ""
    note = f"{len(mels):,} sounds{said}, {seconds / 60:.1f} minutes; log mels have mean"
    note = f"{note} {modality.statistics.mean:.4f} and deviation {modality.statistics.std:.4f}"
    notes = (*found.notes, note, *said_of_words(found))
    return Dataset(*modality.accept(found), modality, notes, properties=told(found))


def _settings(mel: Mel) -> tuple[int, ...]:
    return mel.rate, mel.fft, mel.window, mel.hop, mel.bands, mel.top


def _speakers(found: FoundSpeech) -> Sequence[str]:
    """Return the name of the speaker of each sound, empty where it is not known."""
    if found.labels is None:
        return [""] * len(found.values)
    return [found.classes[label] for label in found.labels.tolist()]


def _timed(layout: Layout) -> tuple[tuple[str, int, int], ...]:
    """Return the phones that last, with their first frames."""
    starts = np.cumsum((0, *layout.durations))
    timed = zip(layout.phones, starts.tolist(), layout.durations, strict=False)
    return tuple((name, start, length) for name, start, length in timed if length)
