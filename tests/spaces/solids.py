"""Meshes for tests."""

import math

from feller.spaces import Mesh

Points = list[tuple[float, float, float]]
Faces = list[tuple[int, int, int]]


def _unit(x: float, y: float, z: float) -> tuple[float, float, float]:
    size = math.sqrt(x * x + y * y + z * z)
    return x / size, y / size, z / size


def sphere(level: int) -> Mesh:
    """Return an octahedron whose triangles are quartered several times, with all vertices on the unit sphere."""
    points: Points = [(1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0), (-1.0, 0, 0), (0, -1.0, 0), (0, 0, -1.0)]
    points = [tuple(map(float, p)) for p in points]
    faces: Faces = [(0, 1, 2), (1, 3, 2), (3, 4, 2), (4, 0, 2), (1, 0, 5), (3, 1, 5), (4, 3, 5), (0, 4, 5)]
    for _ in range(level):
        middles: dict[tuple[int, int], int] = {}

        def middle(a: int, b: int, middles: dict[tuple[int, int], int] = middles) -> int:
            key = (min(a, b), max(a, b))
            if key not in middles:
                middles[key] = len(points)
                points.append(_unit(*(u + w for u, w in zip(points[a], points[b], strict=True))))
            return middles[key]

        quarters: Faces = []
        for a, b, c in faces:
            ab, bc, ca = middle(a, b), middle(b, c), middle(c, a)
            quarters += [(a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca)]
        faces = quarters
    return Mesh(tuple(points), tuple(faces))


CUBE_POINTS = tuple((float(x), float(y), float(z)) for x in (0, 1) for y in (0, 1) for z in (0, 1))
CUBE_FACES = tuple(
    triangle
    for a, b, c, d in ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
    for triangle in ((a, b, c), (a, c, d))
)


def torus(around: int, across: int) -> Mesh:
    """Return a torus with the radii 1 and 0.4."""
    points: Points = []
    faces: Faces = []
    for i in range(around):
        for j in range(across):
            u, v = 2 * math.pi * i / around, 2 * math.pi * j / across
            r = 1 + 0.4 * math.cos(v)
            points.append((r * math.cos(u), r * math.sin(u), 0.4 * math.sin(v)))
            a, b = i * across + j, i * across + (j + 1) % across
            c, d = ((i + 1) % around) * across + j, ((i + 1) % around) * across + (j + 1) % across
            faces += [(a, c, d), (a, d, b)]
    return Mesh(tuple(points), tuple(faces))
