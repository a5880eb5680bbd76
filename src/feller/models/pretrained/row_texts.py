"""Texts of table rows for language models: prompts of columns, and values that end before the next column."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

from feller.core.errors import InputError, UsageError
from feller.data.tables.column import ModelledColumn
from feller.data.tables.modality import Table
from feller.data.text.modality import Text
from feller.data.text.pretrained_subwords import PretrainedSubwords
from feller.data.text.vocabulary import Vocabulary
from feller.models.model import Model
from feller.models.pretrained.row_language_model import RowLanguageModel
from feller.models.pretrained.transformers_network import TransformersNetwork
from feller.spaces import TrieTokenizer
from feller.spaces.trie_tokenizer import prefix_pair

ENDS = (",", ";", "|", "\n")
"""Texts that end a cell; the first one is used with which no value goes on."""
MISSING_WORDS = ("missing", "unknown", "none", "empty", "NA", "?")
"""Words for a missing cell; the first one is used that the first choice among subwords tells apart from all values, so
that it can be excluded."""


def row_language_model(table: Table, base: Model) -> tuple[Table, RowLanguageModel]:
    """Return the modality and the network with which a language model models the rows of a table.

    Args:
        table: Modality of the rows, without columns of digits.
        base: Autoregressive language model of texts.

    Raises:
        UsageError: If the model is no autoregressive language model of transformers, or rows have too many subwords.
        InputError: If the tokenizer of the model does not tell values of a column apart.
    """
    text, network = base.spec.modality.view(Text), base.spec.architecture
    vocabulary = None if text is None else text.vocabulary
    is_known = isinstance(network, TransformersNetwork) and network.is_causal
    if not isinstance(network, TransformersNetwork) or not is_known or not isinstance(vocabulary, PretrainedSubwords):
        raise UsageError(
            argument="start_from",
            expected="an autoregressive language model, such as GPT-2 or Llama, for the rows of a table",
            found=f"a model of {base.spec.modality.display_name} that {base.spec.family.describe()}",
            remedy="Import the folder of such a model: feller import FOLDER",
        )
    columns = table.schema.modelled
    prompts = tuple(_continuation(vocabulary, f" {column.name} is", ENDS[0]) for column in columns)
    texts = [_column_texts(vocabulary, column) for column in columns]
    modality = replace(table, tokenizers=_tokenizers(vocabulary, columns, texts))
    rows = RowLanguageModel(network, modality.space(), prompts)
    limit = rows.max_row_length
    if limit is not None and rows.row_length > limit:
        lengths = sorted(zip(map(sum, rows.column_lengths), (column.name for column in columns), strict=True))
        longest = ", ".join(f"{name} {length}" for length, name in reversed(lengths[-5:]))
        raise UsageError(
            argument="start_from",
            expected=f"a model of at least {rows.row_length} positions, the subwords of the longest row",
            found=f"{limit}; columns with most subwords: {longest}",
            remedy="Leave out columns, shorten their names and values, or import a model of more positions",
        )
    return modality, rows


def _continuation(vocabulary: Vocabulary, text: str, before: str) -> tuple[int, ...]:
    """Return the subwords of a text after another one, without subwords that span both."""
    whole, first = vocabulary.encode(before + text), vocabulary.encode(before)
    return tuple(whole[len(first) :] if whole[: len(first)] == first else vocabulary.encode(text))


def _column_texts(vocabulary: Vocabulary, column: ModelledColumn) -> list[tuple[int, ...]]:
    """Return the subwords of each value of a column, without the end of the cell."""
    texts = [_continuation(vocabulary, f" {name}", "is") for name in column.value_names]
    if column.missing is None:
        return texts
    for word in (column.missing, *column.also_missing, *MISSING_WORDS):
        text = _continuation(vocabulary, f" {word}", "is")
        if word and _is_first_choice(text, texts):
            return [*texts, text]
    raise InputError(
        "a word for missing cells that begins like no other value",
        f"other values begin as {', '.join(MISSING_WORDS)} do",
        "Set `missing` of the column in the schema",
        column=column.name,
    )


def _is_first_choice(text: tuple[int, ...], others: Sequence[tuple[int, ...]]) -> bool:
    """Return True if the first subword at which texts differ tells one text apart from all others."""
    for subwords in itertools.zip_longest(text, *others):
        if len({*subwords}) > 1:
            return subwords[0] not in subwords[1:]
    return False


def _tokenizers(
    vocabulary: Vocabulary, columns: Sequence[ModelledColumn], texts: Sequence[list[tuple[int, ...]]]
) -> tuple[TrieTokenizer, ...]:
    """Return the tokenizers of columns whose values have the subwords `texts`, followed by the end of a cell."""
    pairs: dict[int, tuple[int, int]] = {}
    for end in ENDS:
        end_ids = _continuation(vocabulary, end, "a")
        sequences = [tuple((*text, *end_ids) for text in column_texts) for column_texts in texts]
        pairs = {j: pair for j, values in enumerate(sequences) if (pair := prefix_pair(values)) is not None}
        if not pairs:
            return tuple(TrieTokenizer(values) for values in sequences)
    j, pair = next(iter(pairs.items()))
    first, second = (columns[j].names[code] for code in pair)
    raise InputError(
        "values that the tokenizer of the language model tells apart",
        f"{first!r} and {second!r}",
        "Rename one of them, or merge them in the schema",
        column=columns[j].name,
    )
