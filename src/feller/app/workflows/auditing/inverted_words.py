"""What reading rows from gradients came to, for people."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from feller.app.workflows.auditing.gradient_attack import Attack, Attacks
from feller.data.images.modality import Images
from feller.evaluation.attacks.reconstruction import Judged, Tried, judged
from feller.evaluation.report.figure import Picture
from feller.evaluation.report.grid import Grid
from feller.evaluation.report.reconstructions import reconstructions_picture

SHOWN = 5
"""Rows of which pictures are shown."""
HEAD = ("row", "one step", "least, one step", "all steps", "least, all steps", "without bias", "least without bias")
WORDS = (
    "Rows chosen at random, as read by who knows all other rows, the last weights, labels, the random numbers that a"
    " row meets, what rows look like (a normal law), and in which steps a row was: from the noisy sum of one step, and"
    " from those of all steps that hold a row on average, as if taken at the last weights. Errors are squared, means"
    " over the directions in which rows vary. The mean error of who knows what rows look like lies below its bound by"
    " chance alone; that of a single row can, and stands beside the bound for rows of which as much is told. Without"
    " bias means one step of Gauss and Newton from the truth itself, from all steps."
)
CAPTION = (
    "Rows, what is read of them from one private step, and from all steps: squared error, and in brackets the least"
    " mean error over rows of which as much is told"
)
ALARM = (
    "ALARM: rows are read from private gradients more exactly than the information in these allows; the noise is less,"
    " or gradients are longer, than what is charged."
)


@dataclass(frozen=True, eq=False)
class Inverted:
    """What was tried, and what came of it."""

    numbers: dict[str, float]
    grids: tuple[Grid, ...] = ()
    pictures: tuple[tuple[str, Picture], ...] = ()
    notes: tuple[str, ...] = ()


def told(attack: Attack, found: Attacks) -> Inverted:
    """Put numbers, a table and pictures together."""
    one, every, held = found.one, found.every, found.held
    first, last, spread = judged(one, attack.law), judged(every, attack.law), attack.law.variances.mean().item()
    numbers = {
        "inversion_error": last.error,
        "inversion_bound": last.bound,
        "inversion_doubt": last.doubt,
        "inversion_spread": spread,
        "inversion_step_error": first.error,
        "inversion_step_bound": first.bound,
        "inversion_unbiased": last.unbiased,
        "inversion_unbiased_bound": last.unbiased_bound,
        "inversion_steps": float(held),
        "inversion_rows": float(len(attack.which)),
        "inversion_below": float(first.below + last.below),
    }
    notes = _notes(len(attack.law.variances), attack.most, attack.rows.shape[1])
    return Inverted(numbers, (_grid(attack, one, every, first, last),), _pictures(attack, one, every), notes)


def _grid(attack: Attack, one: list[Tried], every: list[Tried], first: Judged, last: Judged) -> Grid:
    means = ("mean", first.error, first.bound, last.error, last.bound, last.unbiased, last.unbiased_bound)
    rows = [
        (
            f"{number}",
            a.errors.mean().item(),
            a.likely(attack.law),
            b.errors.mean().item(),
            b.likely(attack.law),
            b.unbiased.mean().item(),
            b.least,
        )
        for number, a, b in zip(attack.which.tolist(), one, every, strict=True)
    ]
    return Grid("Rows that are read from gradients", WORDS, HEAD, [means, *rows])


def _pictures(attack: Attack, one: list[Tried], every: list[Tried]) -> tuple[tuple[str, Picture], ...]:
    kind = attack.some.modality
    if not isinstance(kind, Images):
        return ()

    def values(rows: Float64[Tensor, "n d"]) -> Tensor:
        return kind.decode(rows.reshape(-1, *attack.shape).float().cpu())

    def names(several: Sequence[Tried]) -> list[str]:
        return [f"{each.errors[0].item():.2f} ({each.likely(attack.law):.2f})" for each in several]

    shown = slice(0, SHOWN)
    lines = [
        (attack.some.values[shown], [f"row {number}" for number in attack.which[shown].tolist()]),
        (values(torch.stack([each.found for each in one[shown]])), names(one[shown])),
        (values(torch.stack([each.found for each in every[shown]])), names(every[shown])),
    ]
    return ((CAPTION, reconstructions_picture(kind, lines)),)


def _notes(directions: int, most: int, numbers: int) -> tuple[str, ...]:
    """Say what an attacker is given of rows that have more directions than are looked at."""
    if directions < most or directions == numbers:
        return ()
    return (
        f"rows are read in the {directions} directions in which they vary most; of the {numbers - directions} others,"
        " all that they hold is given to the attacker",
    )
