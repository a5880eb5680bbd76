"""Private search for the values of a column of words, and for the number of cells with other words."""

import calendar
from dataclasses import replace

import pyarrow

from feller.data.loading.raw import FactorizedColumn
from feller.data.tables.clipped_cells import MIN_DEVIATIONS, KeptWords
from feller.data.tables.column import Boolean, Categorical, Column
from feller.data.tables.private_support import NoisyCounter
from feller.data.tables.schema_detection import BOOLEAN_WORDS, MISSING, OTHER
from feller.data.tables.unmodelled_columns import FreeText, HiddenColumn

SHARED = 0.1
"""Largest release threshold, as a fraction of the number of rows, at which a text column without released words counts
as free text. At a larger threshold, even frequent words are not released, and the column is hidden."""
SHORT_MONTHS = (*calendar.month_abbr[1:], "June", "July", "Sept")
_LISTS = (SHORT_MONTHS, tuple(calendar.month_name[1:]), tuple(calendar.day_abbr), tuple(calendar.day_name))
LISTS = tuple(
    tuple(map(spelling, words))
    for words in _LISTS
    for spelling in (str, str.lower, str.upper)  # Jan, jan, JAN
)
"""Public lists of words, of which a column may contain any: months and weekdays."""
PUBLIC_WORDS = tuple(dict.fromkeys(word for words in LISTS for word in words))
LIST_DEVIATIONS = 1.5
"""Minimum noisy count of a word of a public list, if other words of the list are significant, in standard deviations
of the noise."""


def search_words(name: str, cells: FactorizedColumn, delta: float, noisy: NoisyCounter, dtype: str | None) -> Column:
    """Return a column of the words whose noisy counts are significant, the most frequent ones first.

    A word is released if its noisy count exceeds the threshold of `delta`, or if it is in a public list of words and
    its count is above the noise. If no word is released, the column is free text; it is hidden if the threshold is so
    high that no word could exceed it.
    """
    exact = word_counts(cells)
    public = {str(word): count for word, count in noisy.counts(exact, PUBLIC_WORDS, [*exact.values()]).items()}
    released = dict(noisy.words({word: n for word, n in exact.items() if word not in public}, delta))
    released |= {str(word): public[str(word)] for word in noisy.significant({**public})}
    if not released:
        # The number of rows and the threshold are public, so this depends on no cell.
        is_text = noisy.threshold(delta) <= SHARED * len(cells.codes)
        return FreeText(name, dtype=dtype) if is_text else HiddenColumn(name)
    matching = [words for words in LISTS if {*released} <= {*words}]
    if len(matching) == 1:
        released |= {word: public[word] for word in matching[0] if public[word] > LIST_DEVIATIONS * noisy.sigma}
    words = sorted(released, key=lambda word: -released[word])
    boolean_pair = next((pair for pair in BOOLEAN_WORDS if {*pair} == {*words}), None)
    if boolean_pair is not None:
        return Boolean(name, *boolean_pair, "", MISSING[1:], dtype)
    return Categorical(name, tuple(words), None, "", MISSING[1:], dtype)


def with_other(
    column: Categorical, cells: FactorizedColumn, noisy: NoisyCounter, threshold: float
) -> tuple[Categorical, KeptWords | None]:
    """Return a column with a value for unlisted words, and a report, if by a noisy count a significant number is.

    Otherwise the few unlisted words are read as the most frequent one.

    Args:
        column: Column of released words, the most frequent first.
        cells: Cells of the column.
        noisy: Counter that adds noise to the number of cells with unlisted words, once.
        threshold: Noisy count above which words were released.
    """
    n = len(cells.codes)
    unlisted = sum(count for word, count in word_counts(cells).items() if word not in column.values)
    count = noisy.counts([0], [0], [unlisted])[0]
    if count <= MIN_DEVIATIONS * noisy.sigma:
        return column, None
    fraction, error = min(count / n, 1.0), 2 * noisy.sigma / n
    report = KeptWords(column.name, len(column.values), OTHER, fraction, threshold, error)
    return replace(column, values=tuple(sorted(column.values)), other=OTHER), report


def word_counts(cells: FactorizedColumn) -> dict[str, int]:
    """Return the number of cells with each word, without missing cells."""
    is_word = ~cells.is_in(MISSING)
    words = cells.uniques.filter(pyarrow.array(is_word)).to_pylist()
    return dict(zip(words, cells.counts[is_word].tolist(), strict=True))
