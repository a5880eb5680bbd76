"""Chains taken apart and put together: torsions by their formulas, round trips, motions that change nothing."""

import math

import torch
from torch import Tensor

from feller.core.rng import Rng
from feller.data.proteins.frames import angle, atoms_to_frames, dihedral, frames_to_atoms, orthonormal_frame
from feller.spaces import SO3


def place(a: Tensor, b: Tensor, c: Tensor, length: float, bend: float, torsion: float) -> Tensor:
    """Return the atom after a, b, c by its bond length, angle and dihedral (Parsons et al. 2005)."""
    along = (c - b) / (c - b).norm()
    across = torch.linalg.cross(b - a, along)
    across = across / across.norm()
    up = torch.linalg.cross(across, along)
    d = (-math.cos(bend), math.sin(bend) * math.cos(torsion), math.sin(bend) * math.sin(torsion))
    return c + length * (d[0] * along + d[1] * up + d[2] * across)


def chain(phi: list[float], psi: list[float], omega: float = math.pi) -> Tensor:
    """Build one chain from its torsions with the usual bonds and angles, [1, l, 4, 3]."""
    degree = math.pi / 180
    n, ca = torch.zeros(3, dtype=torch.float64), torch.tensor([1.458, 0, 0], dtype=torch.float64)
    c = place(torch.tensor([0, 1.0, 0], dtype=torch.float64), n, ca, 1.525, 111 * degree, 0.3)
    rows = []
    for i in range(len(phi)):
        following = place(n, ca, c, 1.329, 116.5 * degree, psi[i])
        o = place(n, ca, c, 1.231, 120.5 * degree, psi[i] + math.pi)
        rows.append(torch.stack([n, ca, c, o]))
        if i + 1 < len(phi):
            next_ca = place(ca, c, following, 1.458, 121.7 * degree, omega)
            n, ca, c = following, next_ca, place(c, following, next_ca, 1.525, 111 * degree, phi[i + 1])
    return torch.stack(rows)[None]


def torsions(n: int, seed: int = 0) -> list[float]:
    return ((Rng(seed).stream("torsions").uniform((n,), torch.float64) * 2 - 1) * math.pi).tolist()


def test_dihedral_and_angle_of_known_points() -> None:
    a, b, c = torch.tensor([[1.0, 0, 0], [0, 0, 0], [0, 0, 1]], dtype=torch.float64)
    for wanted in (0.0, 0.5, -2.0, 3.1):
        d = c + torch.tensor([math.cos(wanted), math.sin(wanted), 0.7], dtype=torch.float64)
        assert math.isclose(dihedral(a, b, c, d).item(), wanted, abs_tol=1e-12)
    assert math.isclose(angle(a, b, c).item(), math.pi / 2)
    assert angle(a, b, a).item() == 0


def test_axes_are_right_handed() -> None:
    x = Rng(0).stream("x").normal((5, 2, 3), torch.float64)
    frame = orthonormal_frame(x[:, 0], x[:, 1])
    torch.testing.assert_close(frame.mT @ frame, torch.eye(3, dtype=torch.float64).expand(5, 3, 3))
    assert (torch.linalg.det(frame) > 0).all()
    seen = (frame.mT @ x.mT).mT  # the first along x, the second in the upper half of the x-y plane
    assert (seen[:, 0, 0] > 0).all()
    assert (seen[:, 1, 1] > 0).all()
    torch.testing.assert_close(seen[:, [0, 0, 1], [1, 2, 2]], torch.zeros(5, 3, dtype=torch.float64))


def test_rotation_holds_phi_the_angle_and_psi() -> None:
    """R = Rx(phi) Rz(pi - angle) Rx(psi + pi) with the torsions that the chain was built from."""
    phi, psi = torsions(9, 1), torsions(9, 2)
    rotation, _, _ = atoms_to_frames(chain(phi, psi), torch.ones(1, 9, dtype=torch.bool))
    for i in range(1, 9):
        turn = math.radians(180 - 111)
        z = torch.tensor([[math.cos(turn), -math.sin(turn), 0], [math.sin(turn), math.cos(turn), 0], [0, 0, 1]])
        wanted = about_x(phi[i]) @ z.double() @ about_x(psi[i] + math.pi)
        torch.testing.assert_close(rotation[0, i], wanted, atol=1e-6, rtol=0)
    torch.testing.assert_close(rotation[0, 0, 1:, 0], torch.tensor([-math.sin(turn), 0]).double(), atol=1e-6, rtol=0)


def about_x(a: float) -> Tensor:
    return torch.tensor([[1, 0, 0], [0, math.cos(a), -math.sin(a)], [0, math.sin(a), math.cos(a)]]).double()


def test_places_are_the_bonds_of_the_chain() -> None:
    _, places, linked = atoms_to_frames(chain(torsions(7, 3), torsions(7, 4)), torch.ones(1, 7, dtype=torch.bool))
    assert linked.tolist() == [[True] * 6 + [False]]
    degree = math.pi / 180
    inside = torch.tensor([1.525, 1.525 - 1.231 * math.cos(120.5 * degree), 1.231 * math.sin(120.5 * degree)])
    torch.testing.assert_close(places[0, :, :3], inside.double().expand(7, 3), atol=1e-6, rtol=0)
    following = torch.tensor([1.525 - 1.329 * math.cos(116.5 * degree), -1.329 * math.sin(116.5 * degree), 0])
    torch.testing.assert_close(places[0, :6, 3:6], following.double().expand(6, 3), atol=1e-6, rtol=0)
    assert places[0, 6, 3:].abs().max() == 0


def test_putting_together_undoes_taking_apart() -> None:
    """All distances come back, but for the first bond, which is set; padding moves nothing."""
    atoms = chain(torsions(12, 5), torsions(12, 6)) + 0.02 * Rng(0).stream("jitter").normal(
        (1, 12, 4, 3), torch.float64
    )
    padded = torch.cat([atoms, torch.zeros(1, 3, 4, 3, dtype=torch.float64)], 1)
    valid = torch.arange(15)[None] < 12
    rotation, places, _ = atoms_to_frames(padded, valid)
    assert torch.equal(rotation[0, 12:], torch.eye(3, dtype=torch.float64).expand(3, 3, 3))
    assert places[0, 12:].abs().max() == 0
    first = (atoms[0, 0, 1] - atoms[0, 0, 0]).norm().item()
    back = frames_to_atoms(rotation[:, :12], places[:, :12], first)[0].flatten(0, 1)
    torch.testing.assert_close(
        torch.cdist(back, back), torch.cdist(atoms.flatten(1, 2)[0], atoms.flatten(1, 2)[0]), atol=1e-5, rtol=0
    )
    volume = torch.linalg.det(torch.stack([p[1:4] - p[0] for p in (back, atoms.flatten(1, 2)[0])]))
    torch.testing.assert_close(volume[0], volume[1])  # not the mirror image


def test_moving_a_chain_changes_nothing() -> None:
    atoms = chain(torsions(8, 7), torsions(8, 8))
    turn = SO3().sample_base(1, Rng(0).stream("turn")).double()[0]
    valid = torch.ones(1, 8, dtype=torch.bool)
    for own, moved in zip(atoms_to_frames(atoms, valid), atoms_to_frames(atoms @ turn.T + 5, valid), strict=True):
        torch.testing.assert_close(own, moved, atol=1e-6, rtol=0)  # the turn was drawn in float32
