"""Random damage to a file."""

import re
from collections.abc import Callable

from hypothesis import strategies as st

NUMBER = re.compile(rb"-?\d+(\.\d+)?([eE][-+]?\d+)?")
EXTREME = (
    *(b"", b"0", b"-1", b"nan", b"inf", b"1e400", b"-1e308", b"0.1e-320", b"9" * 25, b"9" * 5_000, b"4294967295"),
    *(b"null", b"true", b"[]", b"{}", b'""', b"\x00", b"\xff\xfe", b"\xc3\xa9", b"\r", b"\n", b'"', b",", b"\\ud800"),
    b"[" * 3_000,
)
"""What stands where a number is expected."""

Edit = Callable[[bytearray], bytearray]


def _cut(share: float) -> Edit:
    return lambda content: content[: int(share * len(content))]


def _flip(share: float, bit: int) -> Edit:
    def edit(content: bytearray) -> bytearray:
        if content:
            content[int(share * len(content))] ^= 1 << bit
        return content

    return edit


def _put(share: float, length: int, what: bytes) -> Edit:
    """Put something in the place of some bytes: nothing drops them, none of them inserts."""

    def edit(content: bytearray) -> bytearray:
        at = int(share * len(content))
        content[at : at + length] = what
        return content

    return edit


def _twice(share: float, length: int) -> Edit:
    def edit(content: bytearray) -> bytearray:
        at = int(share * len(content))
        content[at:at] = content[at : at + length]
        return content

    return edit


def _count(share: float, what: bytes) -> Edit:
    """Put something in the place of a number, as a stranger would who knows the format."""

    def edit(content: bytearray) -> bytearray:
        found = list(NUMBER.finditer(content))
        if found:
            match = found[int(share * len(found))]
            content[match.start() : match.end()] = what
        return content

    return edit


_SHARE = st.floats(0, 1, exclude_max=True)
_EDITS = st.one_of(
    st.builds(_cut, _SHARE),
    st.builds(_flip, _SHARE, st.integers(0, 7)),
    st.builds(_put, _SHARE, st.integers(0, 40), st.one_of(st.binary(max_size=8), st.sampled_from(EXTREME))),
    st.builds(_twice, _SHARE, st.integers(1, 200)),
    st.builds(_count, _SHARE, st.sampled_from(EXTREME)),
)


def damages() -> st.SearchStrategy[Callable[[bytes], bytes]]:
    """Return a strategy of one to four damages, one after the other."""

    def together(edits: list[Edit]) -> Callable[[bytes], bytes]:
        def damage(content: bytes) -> bytes:
            changed = bytearray(content)
            for edit in edits:
                changed = edit(changed)
            return bytes(changed)

        return damage

    return st.lists(_EDITS, min_size=1, max_size=4).map(together)
