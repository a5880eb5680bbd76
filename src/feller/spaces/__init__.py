"""Where states live."""

from feller.spaces.euclidean import Euclidean
from feller.spaces.product import Product
from feller.spaces.space import Space
from feller.spaces.tokens import Law, Mask, Source, Tokens, Uniform

__all__ = ["Euclidean", "Law", "Mask", "Product", "Source", "Space", "Tokens", "Uniform"]
