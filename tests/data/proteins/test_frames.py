"""Frames and coordinates of protein backbones, by the formulas of torsion angles."""

import math

import torch
from torch import Tensor

from feller.core.rng import Rng
from feller.data.proteins.frames import angle, atoms_to_frames, dihedral, frames_to_atoms, orthonormal_frame
from feller.spaces import SO3


def next_atom(a: Tensor, b: Tensor, c: Tensor, length: float, bend: float, torsion: float) -> Tensor:
    """Return the atom after a, b, c by its bond length, angle and dihedral (Parsons et al. 2005)."""
    along = (c - b) / (c - b).norm()
    across = torch.linalg.cross(b - a, along)
    across = across / across.norm()
    up = torch.linalg.cross(across, along)
    d = (-math.cos(bend), math.sin(bend) * math.cos(torsion), math.sin(bend) * math.sin(torsion))
    return c + length * (d[0] * along + d[1] * up + d[2] * across)


def chain(phi: list[float], psi: list[float], omega: float = math.pi) -> Tensor:
    """Return a chain with the given torsions and the usual bonds and angles, [1, l, 4, 3]."""
    degree = math.pi / 180
    n, ca = torch.zeros(3, dtype=torch.float64), torch.tensor([1.458, 0, 0], dtype=torch.float64)
    c = next_atom(torch.tensor([0, 1.0, 0], dtype=torch.float64), n, ca, 1.525, 111 * degree, 0.3)
    rows = []
    for i in range(len(phi)):
        following = next_atom(n, ca, c, 1.329, 116.5 * degree, psi[i])
        o = next_atom(n, ca, c, 1.231, 120.5 * degree, psi[i] + math.pi)
        rows.append(torch.stack([n, ca, c, o]))
        if i + 1 < len(phi):
            next_ca = next_atom(ca, c, following, 1.458, 121.7 * degree, omega)
            n, ca, c = following, next_ca, next_atom(c, following, next_ca, 1.525, 111 * degree, phi[i + 1])
    return torch.stack(rows)[None]


def torsions(n: int, seed: int = 0) -> list[float]:
    return ((Rng(seed).stream("torsions").uniform((n,), torch.float64) * 2 - 1) * math.pi).tolist()


def test_dihedral_and_angle_in_closed_form() -> None:
    a, b, c = torch.tensor([[1.0, 0, 0], [0, 0, 0], [0, 0, 1]], dtype=torch.float64)
    for expected in (0.0, 0.5, -2.0, 3.1):
        d = c + torch.tensor([math.cos(expected), math.sin(expected), 0.7], dtype=torch.float64)
        assert math.isclose(dihedral(a, b, c, d).item(), expected, abs_tol=1e-12)
    assert math.isclose(angle(a, b, c).item(), math.pi / 2)
    assert angle(a, b, a).item() == 0


def test_frames_are_right_handed() -> None:
    x = Rng(0).stream("x").normal((5, 2, 3), torch.float64)
    frame = orthonormal_frame(x[:, 0], x[:, 1])
    torch.testing.assert_close(frame.mT @ frame, torch.eye(3, dtype=torch.float64).expand(5, 3, 3))
    assert (torch.linalg.det(frame) > 0).all()
    local = (frame.mT @ x.mT).mT  # the first along x, the second in the upper half of the x-y plane
    assert (local[:, 0, 0] > 0).all()
    assert (local[:, 1, 1] > 0).all()
    torch.testing.assert_close(local[:, [0, 0, 1], [1, 2, 2]], torch.zeros(5, 3, dtype=torch.float64))


def test_rotation_equals_torsion_formula() -> None:
    """R = Rx(phi) Rz(pi - angle) Rx(psi + pi) with the torsions of the chain."""
    phi, psi = torsions(9, 1), torsions(9, 2)
    rotation, _, _ = atoms_to_frames(chain(phi, psi), torch.ones(1, 9, dtype=torch.bool))
    for i in range(1, 9):
        turn = math.radians(180 - 111)
        z = torch.tensor([[math.cos(turn), -math.sin(turn), 0], [math.sin(turn), math.cos(turn), 0], [0, 0, 1]])
        expected = rotation_x(phi[i]) @ z.double() @ rotation_x(psi[i] + math.pi)
        torch.testing.assert_close(rotation[0, i], expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(rotation[0, 0, 1:, 0], torch.tensor([-math.sin(turn), 0]).double(), atol=1e-6, rtol=0)


def rotation_x(a: float) -> Tensor:
    return torch.tensor([[1, 0, 0], [0, math.cos(a), -math.sin(a)], [0, math.sin(a), math.cos(a)]]).double()


def test_positions_equal_bond_geometry() -> None:
    _, positions, has_next = atoms_to_frames(chain(torsions(7, 3), torsions(7, 4)), torch.ones(1, 7, dtype=torch.bool))
    assert has_next.tolist() == [[True] * 6 + [False]]
    degree = math.pi / 180
    inside = torch.tensor([1.525, 1.525 - 1.231 * math.cos(120.5 * degree), 1.231 * math.sin(120.5 * degree)])
    torch.testing.assert_close(positions[0, :, :3], inside.double().expand(7, 3), atol=1e-6, rtol=0)
    following = torch.tensor([1.525 - 1.329 * math.cos(116.5 * degree), -1.329 * math.sin(116.5 * degree), 0])
    torch.testing.assert_close(positions[0, :6, 3:6], following.double().expand(6, 3), atol=1e-6, rtol=0)
    assert positions[0, 6, 3:].abs().max() == 0


def test_frames_round_trip() -> None:
    """Distances are kept up to the first bond, which is set; padding is at rest."""
    atoms = chain(torsions(12, 5), torsions(12, 6)) + 0.02 * Rng(0).stream("jitter").normal(
        (1, 12, 4, 3), torch.float64
    )
    padded = torch.cat([atoms, torch.zeros(1, 3, 4, 3, dtype=torch.float64)], 1)
    valid = torch.arange(15)[None] < 12
    rotation, positions, _ = atoms_to_frames(padded, valid)
    assert torch.equal(rotation[0, 12:], torch.eye(3, dtype=torch.float64).expand(3, 3, 3))
    assert positions[0, 12:].abs().max() == 0
    first = (atoms[0, 0, 1] - atoms[0, 0, 0]).norm().item()
    rebuilt = frames_to_atoms(rotation[:, :12], positions[:, :12], first)[0].flatten(0, 1)
    torch.testing.assert_close(
        torch.cdist(rebuilt, rebuilt), torch.cdist(atoms.flatten(1, 2)[0], atoms.flatten(1, 2)[0]), atol=1e-5, rtol=0
    )
    volume = torch.linalg.det(torch.stack([p[1:4] - p[0] for p in (rebuilt, atoms.flatten(1, 2)[0])]))
    torch.testing.assert_close(volume[0], volume[1])  # not the mirror image


def test_frames_are_invariant_to_motion() -> None:
    atoms = chain(torsions(8, 7), torsions(8, 8))
    turn = SO3().sample_base(1, Rng(0).stream("turn")).double()[0]
    valid = torch.ones(1, 8, dtype=torch.bool)
    for expected, moved in zip(atoms_to_frames(atoms, valid), atoms_to_frames(atoms @ turn.T + 5, valid), strict=True):
        torch.testing.assert_close(expected, moved, atol=1e-6, rtol=0)  # the turn was drawn in float32
