"""Parquet column types: checks that a type can be read, with remedies in the errors."""

from typing import Any

from feller.core.errors import InputError
from feller.data.shards.shard_names import ShardFile


def is_number(kind: Any) -> bool:
    """Return True for a numeric column type."""
    from pyarrow import types

    return types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)


def is_text(kind: Any) -> bool:
    """Return True for the type of a string column (also dictionary-encoded), or of a column with only nulls."""
    from pyarrow import types

    return any(predicate(storage_type(kind)) for predicate in (types.is_string, types.is_large_string, types.is_null))


def is_ordered(kind: Any) -> bool:
    """Return True for numbers, dates and timestamps, for which minimum and maximum represent the values of a column."""
    from pyarrow import types

    return is_number(kind) or types.is_date(kind) or types.is_timestamp(kind)


def storage_type(kind: Any) -> Any:
    """Return the type to which a column is cast for computations: dictionaries are decoded, and float16 is widened."""
    import pyarrow
    from pyarrow import types

    if types.is_float16(kind):
        return pyarrow.float32()
    return kind.value_type if types.is_dictionary(kind) else kind


def check_cells(shard: ShardFile, name: str, kind: Any) -> None:
    """Raise an InputError if the type `kind` of a column is not a number, string, date, time or boolean.

    `shard` and `name` are the file and the name of the column, for the error.
    """
    from pyarrow import types

    storage = storage_type(kind)
    if is_text(storage) or is_ordered(storage) or types.is_boolean(storage) or types.is_time(storage):
        return
    raise InputError(
        expected="numbers, words, dates, times or booleans",
        found=f"type {_short(kind)}",
        remedy=f"{_advice(storage)}, or drop the column",
        file=shard.path,
        column=name,
    )


def check_text(shard: ShardFile, name: str, kind: Any) -> None:
    """Raise an InputError if the type `kind` of a column is not text; the error names `shard` and the column `name`."""
    if not is_text(kind):
        raise InputError(
            expected="texts",
            found=f"type {_short(kind)}",
            remedy=_advice(storage_type(kind)),
            file=shard.path,
            column=name,
        )


def _advice(dtype: Any) -> str:
    from pyarrow import types

    if types.is_duration(dtype):
        return "Write durations as numbers in one unit"
    if types.is_nested(dtype):
        return "Write one column per nested field"
    if types.is_binary(dtype) or types.is_large_binary(dtype):
        return "Decode the bytes to strings"
    return "Convert it to strings"


def _short(dtype: Any) -> str:
    text = str(dtype)
    return text if len(text) <= 60 else f"{text[:60]}..."
