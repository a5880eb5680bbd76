"""State costs of a user's own, for bridges."""


def hill(x, t):
    """Return the cost of being near the middle."""
    return 4 * (-x.square().sum(-1)).exp()
