"""Conditions in words: KEY=VALUE."""

from feller.core.errors import UsageError


def pairs(words: tuple[str, ...]) -> dict[str, str]:
    """Split KEY=VALUE."""
    pairs: dict[str, str] = {}
    for word in words:
        key, is_there, value = word.partition("=")
        if not is_there:
            raise UsageError(f"--given takes KEY=VALUE, got {word!r}")
        if key in pairs:
            raise UsageError(f"--given says {key} twice, {pairs[key]!r} and {value!r}; leave one out")
        pairs[key] = value
    return pairs
