"""From scripts to log mels: how long each phone lasts, then how each frame sounds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from feller.app.workflows.speech_kind import path_of, require_speech
from feller.core.errors import UsageError
from feller.core.rng import Draws
from feller.data.loading.raw import Sound
from feller.data.speech.phones import SIL
from feller.data.speech.script import Clip, Script
from feller.data.speech.speech_durations import Durations
from feller.data.speech.speech_modality import Speech
from feller.models.infilling import infill
from feller.models.model import Model
from feller.sampling.sampler_config import Sampling

GUIDANCE = 1.7
"""The usual weight: the paper's 0.7, which it counts from 0."""
TOGETHER = 16
"""Scripts that go through the network at once."""


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How something is said."""

    sampling: Sampling
    guidance: float = GUIDANCE
    """1 is the plain conditional model."""
    speed: float = 1.0
    """How many times as fast as the model would."""
    varied: bool = False
    """Draw durations, others each time, in place of the likeliest."""


@dataclass(frozen=True, eq=False)
class Spoken:
    """What was made of a script."""

    script: Script
    """With all durations."""
    mel: Float[Tensor, "frames bands"]
    """From its first part on; frames that are kept are those of the recording, bit by bit."""
    kept: Bool[Tensor, " frames"]

    @property
    def first(self) -> int:
        """First frame that is wanted."""
        return (*self.script.starts, len(self.mel))[self.script.shown]


def timed(model: Model, scripts: Sequence[Script], manner: Manner, draws: Draws) -> list[Script]:
    """Return scripts in which all phones know how long they last.

    Raises:
        UsageError: If the model has nothing that says it.
    """
    kind = require_speech(model)
    if all(part.length is not None for script in scripts for part in script.parts):
        return [*scripts]
    lasting = kind.rhythm if manner.varied else kind.durations
    if lasting is None:
        raise UsageError("this model has not learned how long phones last; give --durations")
    found: list[Script] = []
    for start in range(0, len(scripts), TOGETHER):
        some = replace(draws, first=draws.first + start)
        found += _filled(kind, lasting, scripts[start : start + TOGETHER], some)
    return [script.paced(manner.speed).trimmed() for script in found]


def _filled(kind: Speech, lasting: Durations, scripts: Sequence[Script], draws: Draws) -> list[Script]:
    """Let a model say the durations that are not known; a phone that is no silence lasts one frame at least."""
    phone = _rows([kind.inventory.numbers([part.phone for part in script.parts]) for script in scripts])
    duration = _rows([torch.tensor([part.length or 0 for part in script.parts]) for script in scripts])
    kept = _rows([torch.tensor([part.length is not None for part in script.parts]) for script in scripts])
    valid = _rows([torch.ones(len(script.parts), dtype=torch.bool) for script in scripts])
    found = lasting.fill(duration, kept, phone, draws=draws.named("durations"), valid=valid)
    rows = []
    for script, row in zip(scripts, found.tolist(), strict=True):
        least = [int(part.length is None and part.phone != SIL) for part in script.parts]
        rows.append(script.lasting([max(*pair) for pair in zip(row, least, strict=False)]))
    return rows


def say(model: Model, scripts: Sequence[Script], manner: Manner, draws: Draws) -> list[Spoken]:
    """Make log mels of scripts that know how long all lasts.

    Args:
        model: Was fitted by the recipe `speech`; on the device where it is to run.
        scripts: What is said.
        manner: How.
        draws: Source of all randomness; which scripts are together does not matter.

    Raises:
        UsageError: If durations are not known, or nothing lasts.
        InputError: If frames become infinite.
    """
    spoken: list[Spoken] = []
    for start in range(0, len(scripts), TOGETHER):
        spoken += _together(model, scripts[start : start + TOGETHER], manner, replace(draws, first=draws.first + start))
    return spoken


def behind(spoken: Spoken, script: Script, most: int) -> Script:
    """Return a script that goes on behind the end of what was said before, so that it keeps its voice.

    Args:
        spoken: What was said.
        script: What comes next, which keeps nothing of a recording.
        most: Frames of the former that are listened to.
    """
    parts = []
    for part, start, length in reversed(
        [*zip(spoken.script.parts, spoken.script.starts, spoken.script.lengths, strict=True)]
    ):
        most -= length
        if most < 0:
            break
        parts.append(replace(part, length=length, origin=start))
    clip = Clip(spoken.mel, (), Sound(np.zeros(0, dtype=np.float32), 1))
    return Script((*reversed(parts), *script.parts), clip, shown=len(parts))


def _together(model: Model, scripts: Sequence[Script], manner: Manner, draws: Draws) -> list[Spoken]:
    kind, device = require_speech(model), next(model.network.parameters()).device
    if not all(sum(script.lengths) for script in scripts):
        raise UsageError("nothing lasts longer than no time; give other durations")
    laid = [_laid(kind, script) for script in scripts]
    mel, kept, phone = (_rows([each[i] for each in laid]) for i in range(3))
    valid = _rows([torch.ones(len(each[0]), dtype=torch.bool) for each in laid])
    frames = infill(
        model.network.eval(),
        path_of(model),
        kind.encode({"mel": mel}).to(device),
        kept.to(device),
        phone.to(device),
        draws=draws.named("frames"),
        valid=valid.to(device),
        sampling=manner.sampling,
        guidance=manner.guidance,
    )
    made = torch.where(kept[:, :, None], mel, kind.decode(frames.cpu())["mel"])
    return [Spoken(script, row[: len(each[0])], each[1]) for script, row, each in zip(scripts, made, laid, strict=True)]


def _laid(kind: Speech, script: Script) -> tuple[Tensor, Tensor, Int64[Tensor, " frames"]]:
    """Return the frames of a script, which of them are kept, and the phone of each."""
    lengths = torch.tensor(script.lengths)
    phone = kind.inventory.numbers([part.phone for part in script.parts]).repeat_interleave(lengths)
    kept = torch.tensor([part.kept for part in script.parts]).repeat_interleave(lengths)
    mel = torch.full((len(phone), kind.mel.bands), kind.statistics.mean)
    for part, start, length in zip(script.parts, script.starts, script.lengths, strict=True):
        if script.clip is not None and part.origin is not None:
            mel[start : start + length] = script.clip.mel[part.origin : part.origin + length]
    return mel, kept, phone


def _rows(rows: Sequence[Tensor]) -> Tensor:
    """Put rows of several lengths below each other, zeros behind their ends."""
    return pad_sequence([*rows], batch_first=True)
