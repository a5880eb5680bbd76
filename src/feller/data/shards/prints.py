"""Hashes of shards: of all together, and of each, to name one that changed."""

from hashlib import sha256

from feller.data.shards.shard_names import Shard

MAX_HASHES = 10_000
"""Shards beyond which the hash of each is not kept."""


class Prints:
    """Takes shards one after the other."""

    def __init__(self) -> None:
        self._together, self._each = sha256(), {}
        self._count = 0

    def add(self, shard: Shard, content: bytes) -> None:
        """Take what tells a shard from others."""
        self._together.update(content)
        self._each[shard.path.name] = sha256(content).hexdigest()[:8]
        self._count += 1

    @property
    def together(self) -> str:
        """Hash of all."""
        return self._together.hexdigest()[:16]

    @property
    def each(self) -> dict[str, str]:
        """Hash of each, by its name; none where they are many, or some share a name."""
        return self._each if len(self._each) == self._count <= MAX_HASHES else {}


def changes(before: dict[str, str], now: dict[str, str]) -> dict[str, list[str]]:
    """Return the names of shards, by what became of them: gone, new or changed; nothing where either is not known."""
    if not before or not now:
        return {}
    became = {
        "gone": before.keys() - now.keys(),
        "new": now.keys() - before.keys(),
        "changed": {name for name in before.keys() & now.keys() if before[name] != now[name]},
    }
    return {what: sorted(names) for what, names in became.items() if names}
