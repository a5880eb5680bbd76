"""Cells of crystals: lengths a, b, c in Å and angles alpha, beta, gamma in degrees, [n, 6]."""

import math

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from feller.core.errors import UsageError
from feller.data.files.plain_text import parse_number

MARGIN = 1.0
"""Degrees by which three angles that we choose are away from a flat cell."""
SHORTEST, LONGEST = 0.1, 1000.0
"""Limits in Å of the lengths that we read and choose."""


def from_cell(lattice: Float[Tensor, "n 6"]) -> Float64[Tensor, "n 6"]:
    """Return log lengths and log tan(angle / 2), which is 0 at 90 degrees and near there counts radians."""
    lengths, angles = lattice.double().split(3, 1)
    return torch.cat([lengths.log(), torch.deg2rad(angles / 2).tan().log()], 1)


def to_cell(numbers: Float[Tensor, "n 6"]) -> Float64[Tensor, "n 6"]:
    """Return the cell with these numbers, or the nearest that there is: lengths within limits, angles that close."""
    lengths, angles = numbers.double().split(3, 1)
    return torch.cat(
        [lengths.exp().clamp(SHORTEST, LONGEST), nearest_valid_angles(torch.rad2deg(2 * angles.exp().atan()))], 1
    )


def slack(angles: Float[Tensor, "n 3"]) -> Float64[Tensor, "n 4"]:
    """Return 360 less the sum of three angles, and for each by how much the other two exceed it, in degrees.

    They close a cell if and only if all four are above zero; the four add up to 360.
    """
    angles = angles.double()
    total = angles.sum(1, keepdim=True)
    return torch.cat([360 - total, total - 2 * angles], 1)


def nearest_valid_angles(angles: Float[Tensor, "n 3"]) -> Float64[Tensor, "n 3"]:
    """Return the nearest angles that close a cell, in degrees; those that do stay as they are.

    Distances between angles are half those between their slacks, so the nearest point of the simplex of slacks is it.
    """
    own = slack(angles)
    top = own.sort(1, descending=True).values - MARGIN
    room = 360 - 4 * MARGIN
    level = (top.cumsum(1) - room) / torch.arange(1, 5, device=own.device)
    last = (top > level).sum(1, keepdim=True) - 1
    nearest = MARGIN + (own - MARGIN - level.gather(1, last)).clamp(min=0)
    whole = (own >= MARGIN).all(1, keepdim=True)
    return torch.where(whole, angles.double(), (nearest[:, 1:].sum(1, keepdim=True) - nearest[:, 1:]) / 2)


def is_valid_cell(lattice: Float[Tensor, "n 6"]) -> Bool[Tensor, " n"]:
    """Tell which cells have lengths and angles with a volume."""
    lengths, angles = lattice.split(3, 1)
    return torch.isfinite(lattice).all(1) & (lengths > 0).all(1) & (slack(angles) > 0).all(1)


def vectors(lattice: Float[Tensor, "n 6"]) -> Float64[Tensor, "n 3 3"]:
    """Return the edges of cells as rows, in Å: a along x, b in the plane of x and y, c above it."""
    a, b, c = lattice[:, :3].double().unbind(1)
    alpha, beta, gamma = torch.deg2rad(lattice[:, 3:].double()).cos().unbind(1)
    sine, zero = (1 - gamma**2).sqrt(), torch.zeros_like(a)
    along = (alpha - beta * gamma) / sine
    above = (1 - beta**2 - along**2).clamp(min=0).sqrt()
    rows = [[a, zero, zero], [b * gamma, b * sine, zero], [c * beta, c * along, c * above]]
    return torch.stack([torch.stack(row, 1) for row in rows], 1)


def volume(lattice: Float[Tensor, "n 6"]) -> Float64[Tensor, " n"]:
    """Return the volumes of cells in Å^3."""
    halves = torch.deg2rad(slack(lattice[:, 3:]) / 2).sin()
    return 2 * lattice[:, :3].double().prod(1) * halves.prod(1).clamp(min=0).sqrt()


def lattice_of(text: str) -> Float64[Tensor, "1 6"]:
    """Return the cell that six numbers say: a, b, c in Å, then alpha, beta, gamma in degrees.

    Raises:
        UsageError: If there are others, or if they close no cell.
    """
    parts = [parse_number(part.strip()) for part in text.split(",")]
    lattice = torch.tensor([[math.nan if part is None else part for part in parts]], dtype=torch.float64)
    if lattice.shape != (1, 6) or not is_valid_cell(lattice)[0]:
        how = "lengths in Å and angles in degrees that close, such as 4,4,4,90,90,90"
        raise UsageError(f"lattice=a,b,c,alpha,beta,gamma, {how}", f"{text!r:.60}")
    return lattice
