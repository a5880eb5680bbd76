"""Where states live."""

from feller.spaces.euclidean import Euclidean
from feller.spaces.product import Product
from feller.spaces.space import Space
from feller.spaces.tokens import LawSource, MaskSource, Tokens, TokenSource, UniformSource

__all__ = ["Euclidean", "LawSource", "MaskSource", "Product", "Space", "TokenSource", "Tokens", "UniformSource"]
