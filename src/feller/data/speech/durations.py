"""Phone durations: base class of duration models, log scaling, and CSV files."""

import abc
import pathlib

import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor, nn

from feller.core.errors import InputError
from feller.core.rng import Rng
from feller.core.serialization import replace_file
from feller.data.files.plain_text import rows_in
from feller.data.loading.raw import PhoneAlignment
from feller.data.speech.phones import SIL

TABLE = ".csv"
HEAD = "phone,frames"
"""Header of a CSV file of durations in frames of 10 ms; the phones carry word positions."""
MAX_FRAMES = 99_999
"""Maximum duration of one phone in frames."""


def write_durations(layout: PhoneAlignment, path: pathlib.Path) -> None:
    """Write the phones of an utterance and their durations in frames to a CSV file."""
    lines = (f"{phone},{length}" for phone, length in zip(layout.phones, layout.durations, strict=True))
    replace_file(path, "\n".join((HEAD, *lines, "")).encode())


def read_durations(path: pathlib.Path, phones: tuple[str, ...]) -> tuple[int, ...]:
    """Read the durations of the phones `phones` from a CSV file, in frames.

    Raises:
        InputError: If the file has other phones, or a duration is invalid; only silences may have duration 0.
    """
    rows = [(line, [cell.strip() for cell in cells]) for line, cells in rows_in(path)]
    head = ",".join(rows[0][1]) if rows else "none"
    if head.lower() != HEAD:
        raise InputError(f"the header {HEAD}", head[:40], file=path)
    entries = []
    for line, cells in rows[1:]:
        location = f"{path}: line {line}"
        if len(cells) != 2:
            raise InputError("a phone and its duration in frames", repr(",".join(cells)[:40]), place=location)
        frames = int(cells[1]) if cells[1].isdecimal() and len(cells[1]) <= len(str(MAX_FRAMES)) else -1
        minimum = int(cells[0] != SIL)
        if frames < minimum:
            raise InputError(
                f"{minimum} to {MAX_FRAMES:,} frames of 10 ms for {cells[0][:20]}", repr(cells[1][:20]), place=location
            )
        entries.append((cells[0], frames))
    if len(entries) != len(phones):
        raise InputError(
            f"durations of the {len(phones)} phones of the text, including silences",
            len(entries),
            "Use the durations of this text",
            file=path,
        )
    for i, ((name, _), phone) in enumerate(zip(entries, phones, strict=True)):
        if name != phone:
            raise InputError(f"{phone} as phone {i + 1} of the text", name[:20], file=path)
    return tuple(frames for _, frames in entries)


class DurationModel(abc.ABC):
    """Model of phone durations given the phones and, optionally, some of the durations."""

    @property
    @abc.abstractmethod
    def module(self) -> nn.Module:
        """Network of the model, whose weights a run stores."""

    @abc.abstractmethod
    def infill(
        self,
        duration: Int64[Tensor, "b m"],
        observed: Bool[Tensor, "b m"],
        phone: Int64[Tensor, "b m"],
        *,
        rng: Rng,
        valid: Bool[Tensor, "b m"] | None = None,
    ) -> Int64[Tensor, "b m"]:
        """Predict or sample the unobserved durations; return all durations in frames.

        Args:
            duration: Durations in frames; entries that are not observed are ignored.
            observed: True for durations that are given.
            phone: Phones, as indices into the phone inventory.
            rng: Random streams, used by stochastic models.
            valid: True for real phones, False for padding; by default all phones are real.
        """


def log_durations(whole: Int[Tensor, "b m"]) -> Float[Tensor, "b m 1"]:
    """Return log(1 + duration) for durations in frames."""
    return whole.to(torch.get_default_dtype()).log1p()[:, :, None]


def whole_durations(x: Float[Tensor, "b m 1"]) -> Int[Tensor, "b m"]:
    """Convert log durations (see `log_durations`) to durations in frames, rounded and clamped to [0, MAX_FRAMES]."""
    return (x[:, :, 0].double().expm1() + 0.5).floor().clamp(0, MAX_FRAMES).long()


def spread_durations(whole: Int[Tensor, "b m"], rng: Rng) -> Float[Tensor, "b m 1"]:
    """Return log(1 + duration + u) for durations in frames, with u uniform in [-1/2, 1/2] (dequantisation)."""
    u = rng.stream("spread").uniform(whole.shape, torch.float64, whole.device) - 0.5
    return (whole + u).log1p().to(torch.get_default_dtype())[:, :, None]
