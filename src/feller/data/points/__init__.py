"""Points: numeric rows in named columns, in Euclidean space or on a manifold."""
