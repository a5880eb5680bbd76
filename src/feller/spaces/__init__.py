"""State spaces: Euclidean space, Riemannian manifolds, tokens, and products of these."""

from feller.spaces.euclidean import Euclidean
from feller.spaces.history_tokens import HistoryTokens
from feller.spaces.hyperbolic import Poincare
from feller.spaces.manifold import Manifold
from feller.spaces.mesh import Mesh
from feller.spaces.product import Product, as_manifold
from feller.spaces.rotations import SO3, se3
from feller.spaces.sequences import EmptySequence, RandomSequence, Sequences, SequenceSource
from feller.spaces.simplex import Simplex
from feller.spaces.space import Space
from feller.spaces.spd import SPD
from feller.spaces.sphere import Sphere
from feller.spaces.table_tokens import CategoryTokenizer, ColumnTokenizer, DigitTokenizer, PairConstraint, TableTokens
from feller.spaces.tokens import CategoricalSource, MaskSource, Tokens, TokenSource, UniformSource
from feller.spaces.torus import Torus
from feller.spaces.trie_tokenizer import TrieTokenizer

__all__ = [
    "SO3",
    "SPD",
    "CategoricalSource",
    "CategoryTokenizer",
    "ColumnTokenizer",
    "DigitTokenizer",
    "EmptySequence",
    "Euclidean",
    "HistoryTokens",
    "Manifold",
    "MaskSource",
    "Mesh",
    "PairConstraint",
    "Poincare",
    "Product",
    "RandomSequence",
    "SequenceSource",
    "Sequences",
    "Simplex",
    "Space",
    "Sphere",
    "TableTokens",
    "TokenSource",
    "Tokens",
    "Torus",
    "TrieTokenizer",
    "UniformSource",
    "as_manifold",
    "se3",
]
