"""Where states live."""

from feller.spaces.euclidean import Euclidean
from feller.spaces.hyperbolic import Poincare
from feller.spaces.manifold import Manifold
from feller.spaces.mesh import Mesh
from feller.spaces.product import Product, geometry
from feller.spaces.rotations import SO3, se3
from feller.spaces.simplex import Simplex
from feller.spaces.space import Space
from feller.spaces.spd import SPD
from feller.spaces.sphere import Sphere
from feller.spaces.table_tokens import Digits, Field, Rows, Rule, Single
from feller.spaces.tokens import LawSource, MaskSource, Tokens, TokenSource, UniformSource
from feller.spaces.torus import Torus

__all__ = [
    "SO3",
    "SPD",
    "Digits",
    "Euclidean",
    "Field",
    "LawSource",
    "Manifold",
    "MaskSource",
    "Mesh",
    "Poincare",
    "Product",
    "Rows",
    "Rule",
    "Simplex",
    "Single",
    "Space",
    "Sphere",
    "TokenSource",
    "Tokens",
    "Torus",
    "UniformSource",
    "geometry",
    "se3",
]
