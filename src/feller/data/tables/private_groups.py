"""Grouping of the values of wide categorical columns by noisy counts and by common prefixes."""

import math
import re
from collections.abc import Collection, Mapping, Sequence

import scipy

from feller.data.tables.column import Categorical
from feller.data.tables.grouped_column import Grouped
from feller.data.tables.private_support import FALSE_POSITIVE_PROB

REST = "other values"
"""Name of the group of values that no other group contains."""
CODE = re.compile(r"(?=.*\d)[A-Za-z0-9][A-Za-z0-9./ -]{0,11}")
"""Regular expression of codes with a hierarchy of prefixes, such as ICD codes and post codes."""
MIN_CODES = 0.9
"""Minimum fraction of values that are codes, for groups of common prefixes."""
MAX_PREFIXES = 200
"""Maximum number of prefixes that are counted."""
GROUP_DEVIATIONS = 5.0
"""Minimum noisy count of a group, in standard deviations of the noise on it."""


def prefix_lengths(words: Sequence[str]) -> tuple[int, ...]:
    """Return at most two lengths of prefixes into which codes are grouped, longest first; it depends on no row.

    The shorter is the least length at which prefixes differ, the longer the largest with at most `MAX_PREFIXES`
    prefixes. The result is empty if the words are no codes.
    """
    if sum(CODE.fullmatch(word) is not None for word in words) < MIN_CODES * len(words):
        return ()
    numbers = {length: len({word[:length] for word in words}) for length in range(1, max(map(len, words)))}
    usable = [length for length, number in numbers.items() if 1 < number <= min(MAX_PREFIXES, len(words) / 2)]
    return tuple(dict.fromkeys((usable[-1], usable[0]))) if usable else ()


def group_values(
    column: Categorical,
    counts: Mapping[str, float],
    prefix_counts: Mapping[str, float],
    sigma: float,
    kept: Collection[str] = (),
) -> Grouped:
    """Return a column in which only values with significant noisy counts have codes of their own.

    The others share codes: those with a common prefix whose remaining noisy count is significant, longest prefixes
    first; the rest is one group. The names of all values are public; the result depends on the noisy counts only.

    Args:
        column: Column with all its values.
        counts: Noisy count of each value.
        prefix_counts: Noisy count of each prefix of values that are codes.
        sigma: Standard deviation of the noise on each count.
        kept: Values that keep their codes, for example because rules name them.
    """
    words = [word for word in column.value_names if word != column.other]
    threshold = sigma * float(scipy.stats.norm.isf(FALSE_POSITIVE_PROB / len(words)))
    single = {word for word in words if counts[word] > threshold or word in kept}
    taken = {word: counts[word] for word in single}  # noisy counts that are not those of a remaining value
    rest = [word for word in words if word not in single]
    groups: dict[str, tuple[str, ...]] = {}
    for prefix in sorted(prefix_counts, key=lambda prefix: (-len(prefix), prefix)):
        members = tuple(word for word in rest if word.startswith(prefix))
        inside = [count for name, count in taken.items() if name.startswith(prefix)]
        total = prefix_counts[prefix] - sum(inside)
        if len(members) > 1 and total > GROUP_DEVIATIONS * sigma * math.sqrt(1 + len(inside)):
            groups[f"{prefix}*"] = members
            taken[f"{prefix}*"] = total
            rest = [word for word in rest if not word.startswith(prefix)]
    if len(rest) == 1:
        single, rest = {*single, *rest}, []
    if rest:
        groups[REST] = tuple(rest)
    values = tuple(word for word in words if word in single)
    return Grouped(column.name, values, groups, column.other, column.missing, column.also_missing, column.dtype)
