"""Durations of phones: duration models, log scaling, and tables of durations."""

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
"""Frames of 10 ms; phones with their places in their words."""
MAX_FRAMES = 99_999
"""Frames of one phone."""


def write_durations(layout: PhoneAlignment, path: pathlib.Path) -> None:
    """Write phones in their order, with how long they last."""
    lines = (f"{phone},{length}" for phone, length in zip(layout.phones, layout.durations, strict=True))
    replace_file(path, "\n".join((HEAD, *lines, "")).encode())


def read_durations(path: pathlib.Path, phones: tuple[str, ...]) -> tuple[int, ...]:
    """Return how long each of these phones lasts.

    Raises:
        InputError: If the table is of other phones, or a duration is wrong; silences alone may last nothing.
    """
    rows = [(line, [cell.strip() for cell in cells]) for line, cells in rows_in(path)]
    head = ",".join(rows[0][1]) if rows else "none"
    if head.lower() != HEAD:
        raise InputError(f"a table with the head {HEAD}", head[:40], file=path)
    found = []
    for line, cells in rows[1:]:
        where = f"{path}: line {line}"
        if len(cells) != 2:
            raise InputError("a phone and its frames", repr(",".join(cells)[:40]), place=where)
        frames = int(cells[1]) if cells[1].isdecimal() and len(cells[1]) <= len(str(MAX_FRAMES)) else -1
        least = int(cells[0] != SIL)
        if frames < least:
            raise InputError(
                f"how many frames of 10 ms {cells[0][:20]} lasts, from {least} to {MAX_FRAMES:,}",
                repr(cells[1][:20]),
                place=where,
            )
        found.append((cells[0], frames))
    if len(found) != len(phones):
        raise InputError(
            f"durations of the {len(phones)} phones of the text, silences among them",
            len(found),
            "Is it the table of another text?",
            file=path,
        )
    for i, ((name, _), phone) in enumerate(zip(found, phones, strict=True)):
        if name != phone:
            raise InputError(f"{phone} as phone {i + 1} of the text", name[:20], file=path)
    return tuple(frames for _, frames in found)


class DurationModel(abc.ABC):
    """Fills in durations: of a sound that is known in parts, or of a new one."""

    @property
    @abc.abstractmethod
    def module(self) -> nn.Module:
        """The network that it needs, whose weights a run keeps."""

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
        """Return durations in frames; those that are kept stay as they are.

        Args:
            duration: In frames, where they are kept; elsewhere they mean nothing.
            observed: True is kept.
            phone: Position of each in the inventory.
            rng: Source of randomness, where there is any.
            valid: What is no padding; by default all.
        """


def log_durations(whole: Int[Tensor, "b m"]) -> Float[Tensor, "b m 1"]:
    """Return log(1 + l)."""
    return whole.to(torch.get_default_dtype()).log1p()[:, :, None]


def whole_durations(x: Float[Tensor, "b m 1"]) -> Int[Tensor, "b m"]:
    """Return the whole duration that is nearest, none below 0, and none that no memory holds."""
    return (x[:, :, 0].double().expm1() + 0.5).floor().clamp(0, MAX_FRAMES).long()


def spread_durations(whole: Int[Tensor, "b m"], rng: Rng) -> Float[Tensor, "b m 1"]:
    """Return log(1 + l + u) for u evenly from -1/2 to 1/2: the whole duration that is nearest is l."""
    u = rng.stream("spread").uniform(whole.shape, torch.float64, whole.device) - 0.5
    return (whole + u).log1p().to(torch.get_default_dtype())[:, :, None]
