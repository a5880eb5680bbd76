"""Conversion and checks of lattice parameters: lengths a, b, c in Å and angles alpha, beta, gamma in degrees."""

import math

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from feller.core.errors import UsageError
from feller.data.files.plain_text import parse_number

MARGIN = 1.0
"""Minimum slack of decoded angles in degrees, so that no decoded cell is flat; see `slack`."""
SHORTEST, LONGEST = 0.1, 1000.0
"""Minimum and maximum length of a cell edge in Å."""


def from_cell(lattice: Float[Tensor, "n 6"]) -> Float64[Tensor, "n 6"]:
    """Convert lattice parameters to log lengths and log tan(angle / 2), which is about angle - pi/2 near 90 degrees."""
    lengths, angles = lattice.double().split(3, 1)
    return torch.cat([lengths.log(), torch.deg2rad(angles / 2).tan().log()], 1)


def to_cell(numbers: Float[Tensor, "n 6"]) -> Float64[Tensor, "n 6"]:
    """Convert log lengths and log tan(angle / 2) to the nearest valid lattice parameters."""
    lengths, angles = numbers.double().split(3, 1)
    return torch.cat(
        [lengths.exp().clamp(SHORTEST, LONGEST), nearest_valid_angles(torch.rad2deg(2 * angles.exp().atan()))], 1
    )


def slack(angles: Float[Tensor, "n 3"]) -> Float64[Tensor, "n 4"]:
    """Return 360 - (alpha + beta + gamma), then for each angle (sum of the other two) - (angle), in degrees.

    The angles form a valid cell if and only if all four slacks are positive; the four slacks sum to 360.
    """
    angles = angles.double()
    total = angles.sum(1, keepdim=True)
    return torch.cat([360 - total, total - 2 * angles], 1)


def nearest_valid_angles(angles: Float[Tensor, "n 3"]) -> Float64[Tensor, "n 3"]:
    """Replace angles in degrees by the nearest angles that form a valid cell; valid angles are unchanged.

    The distance between two angle triples is half the distance between their slacks, so the nearest angles follow from
    a projection onto the simplex of slacks.
    """
    slacks = slack(angles)
    sorted_slacks = slacks.sort(1, descending=True).values - MARGIN  # projection onto a simplex by sorting
    total = 360 - 4 * MARGIN
    thresholds = (sorted_slacks.cumsum(1) - total) / torch.arange(1, 5, device=slacks.device)
    last_active = (sorted_slacks > thresholds).sum(1, keepdim=True) - 1
    projected = MARGIN + (slacks - MARGIN - thresholds.gather(1, last_active)).clamp(min=0)
    is_valid = (slacks >= MARGIN).all(1, keepdim=True)
    return torch.where(is_valid, angles.double(), (projected[:, 1:].sum(1, keepdim=True) - projected[:, 1:]) / 2)


def is_valid_cell(lattice: Float[Tensor, "n 6"]) -> Bool[Tensor, " n"]:
    """Return True for each cell with finite, positive lengths and positive volume."""
    lengths, angles = lattice.split(3, 1)
    return torch.isfinite(lattice).all(1) & (lengths > 0).all(1) & (slack(angles) > 0).all(1)


def vectors(lattice: Float[Tensor, "n 6"]) -> Float64[Tensor, "n 3 3"]:
    """Return the cell vectors as rows, in Å: a along x, b in the xy plane, c with positive z."""
    a, b, c = lattice[:, :3].double().unbind(1)
    alpha, beta, gamma = torch.deg2rad(lattice[:, 3:].double()).cos().unbind(1)
    sine, zero = (1 - gamma**2).sqrt(), torch.zeros_like(a)
    c_y = (alpha - beta * gamma) / sine
    c_z = (1 - beta**2 - c_y**2).clamp(min=0).sqrt()
    rows = [[a, zero, zero], [b * gamma, b * sine, zero], [c * beta, c * c_y, c * c_z]]
    return torch.stack([torch.stack(row, 1) for row in rows], 1)


def volume(lattice: Float[Tensor, "n 6"]) -> Float64[Tensor, " n"]:
    """Return the volumes of cells in Å^3."""
    # V = 2 abc sqrt(sin s sin(s - alpha) sin(s - beta) sin(s - gamma)), s half the sum of the angles
    sines = torch.deg2rad(slack(lattice[:, 3:]) / 2).sin()
    return 2 * lattice[:, :3].double().prod(1) * sines.prod(1).clamp(min=0).sqrt()


def lattice_of(text: str) -> Float64[Tensor, "1 6"]:
    """Parse six comma-separated lattice parameters: a, b, c in Å, then alpha, beta, gamma in degrees.

    Raises:
        UsageError: If the text is not six numbers, or they do not form a valid cell.
    """
    values = [parse_number(value.strip()) for value in text.split(",")]
    lattice = torch.tensor([[math.nan if value is None else value for value in values]], dtype=torch.float64)
    if lattice.shape != (1, 6) or not is_valid_cell(lattice)[0]:
        hint = "lengths in Å and angles in degrees that form a cell, such as 4,4,4,90,90,90"
        raise UsageError(f"lattice=a,b,c,alpha,beta,gamma, {hint}", f"{text!r:.60}")
    return lattice
