"""Backbone frames: conversion between atoms and relative rotations with local coordinates.

Each residue has two frames at its CA. The incoming frame has its x axis along N-CA and its xy plane in the plane of the
previous peptide bond. The outgoing frame has its x axis along CA-C and its xy plane in the plane of CA, C and O. The
rotation from the incoming to the outgoing frame is Rx(phi) Rz(pi - angle at CA) Rx(psi + pi). All other degrees of
freedom are rigid up to small vibrations.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

NUM_COORDINATES = 9
"""Number of local coordinates per residue, in its outgoing frame: x of C; x, y of O; x, y, z of the next N and next
CA."""
NUM_OWN_COORDINATES = 3
"""Number of local coordinates of atoms of the residue itself: x of C; x, y of O."""
N, CA, C, O = range(4)  # noqa: E741 - names of atoms


def orthonormal_frame(along: Float[Tensor, "*b 3"], second: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """Return frames with the axes as columns: x along `along`, y towards `second` (Gram-Schmidt), z = x cross y."""
    x = torch.nn.functional.normalize(along, dim=-1)
    y = torch.nn.functional.normalize(second - (second * x).sum(-1, keepdim=True) * x, dim=-1)
    return torch.stack([x, y, torch.linalg.cross(x, y)], -1)


def angle(a: Float[Tensor, "*b 3"], b: Float[Tensor, "*b 3"], c: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b"]:
    """Return the angle a-b-c at point b, in radians, in [0, pi]."""
    u, v = a - b, c - b
    return torch.atan2(torch.linalg.cross(u, v).norm(dim=-1), (u * v).sum(-1))


def dihedral(
    a: Float[Tensor, "*b 3"], b: Float[Tensor, "*b 3"], c: Float[Tensor, "*b 3"], d: Float[Tensor, "*b 3"]
) -> Float[Tensor, "*b"]:
    """Return the dihedral angle about the bond b-c, in radians, in (-pi, pi]; the cis conformation is 0."""
    axis = torch.nn.functional.normalize(c - b, dim=-1)
    first, second = torch.linalg.cross(axis, a - b), torch.linalg.cross(axis, d - c)
    return torch.atan2((torch.linalg.cross(first, second) * axis).sum(-1), (first * second).sum(-1))


def atoms_to_frames(
    atoms: Float[Tensor, "n l 4 3"], valid: Bool[Tensor, "n l"]
) -> tuple[Float[Tensor, "n l 3 3"], Float[Tensor, "n l 9"], Bool[Tensor, "n l"]]:
    """Convert the atoms N, CA, C, O of chains, in Å, to relative rotations and local coordinates.

    `valid` is the mask of real residues. The results are: the rotation of each residue from its incoming to its
    outgoing frame; its `NUM_COORDINATES` local coordinates in Å; and the mask of residues that have a successor.

    For the first residue of a chain phi counts as 180 degrees; for the last residue the coordinates of the next atoms
    are zero. Padding is the identity and zeros.
    """
    n, ca, c, o = atoms.unbind(2)
    has_next = valid & torch.cat([valid[:, 1:], torch.zeros_like(valid[:, :1])], 1)
    outgoing = orthonormal_frame(c - ca, o - ca)
    toward_previous = torch.cat([(ca - c)[:, :1], (c[:, :-1] - n[:, 1:])], 1)
    incoming = orthonormal_frame(ca - n, toward_previous)
    rotation = torch.where(valid[:, :, None, None], incoming.mT @ outgoing, torch.eye(3, dtype=atoms.dtype))
    own_atoms = torch.stack([c - ca, o - ca], 2) @ outgoing
    next_atoms = (atoms[:, 1:, (N, CA)] - ca[:, :-1, None]) @ outgoing[:, :-1]
    next_atoms = torch.nn.functional.pad(next_atoms.flatten(2), (0, 0, 0, 1))
    coords = torch.cat([own_atoms[:, :, 0, :1], own_atoms[:, :, 1, :2], next_atoms * has_next[:, :, None]], 2)
    return rotation, coords * valid[:, :, None], has_next


def frames_to_atoms(
    rotation: Float[Tensor, "n l 3 3"], places: Float[Tensor, "n l 9"], first_bond: float
) -> Float[Tensor, "n l 4 3"]:
    """Return the atoms N, CA, C, O of each residue in Å, with the first CA at the origin; inverts `atoms_to_frames`.

    Args:
        rotation: Rotation of each residue from its incoming to its outgoing frame.
        places: Local coordinates of each residue in its outgoing frame, in Å; see `NUM_COORDINATES`.
        first_bond: Length of the first N-CA bond in Å.
    """
    zeros = torch.zeros_like(places[:, :, 0])
    c = torch.stack([places[:, :, 0], zeros, zeros], 2)
    o = torch.stack([places[:, :, 1], places[:, :, 2], zeros], 2)
    next_n, next_ca = places[:, :, NUM_OWN_COORDINATES:6], places[:, :, 6:]
    link_rotation = rotation @ orthonormal_frame(next_ca - next_n, c - next_n)
    incoming, ca = (
        torch.eye(3, dtype=places.dtype, device=places.device).expand(len(places), 3, 3),
        places.new_zeros(1, 3),
    )
    n, chain = ca - first_bond * incoming[:, :, 0], []
    for i in range(places.shape[1]):
        outgoing = (incoming @ rotation[:, i]).mT
        placed_atoms = torch.stack([c[:, i], o[:, i], next_n[:, i], next_ca[:, i]], 1) @ outgoing + ca[:, None]
        chain.append(torch.stack([n, ca.expand_as(n), placed_atoms[:, 0], placed_atoms[:, 1]], 1))
        n, ca, incoming = placed_atoms[:, 2], placed_atoms[:, 3], incoming @ link_rotation[:, i]
    return torch.stack(chain, 1)
