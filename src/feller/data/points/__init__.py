"""Points: rows of numbers in named columns, in Euclidean space or on a manifold."""
