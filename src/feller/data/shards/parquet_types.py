"""Types of parquet columns: what can be read, and what somebody must write otherwise."""

from typing import Any

from feller.core.errors import InputError
from feller.data.shards.shard_names import ShardFile


def is_number(kind: Any) -> bool:
    """Tell whether a column holds numbers."""
    from pyarrow import types

    return types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)


def is_text(kind: Any) -> bool:
    """Tell whether a column holds texts, or nothing at all."""
    from pyarrow import types

    return any(is_so(storage_type(kind)) for is_so in (types.is_string, types.is_large_string, types.is_null))


def is_ordered(kind: Any) -> bool:
    """Tell whether the least and the largest tell of all cells."""
    from pyarrow import types

    return is_number(kind) or types.is_date(kind) or types.is_timestamp(kind)


def storage_type(kind: Any) -> Any:
    """Return the type to look through values in: a dictionary packs them, and half a float has no functions."""
    import pyarrow
    from pyarrow import types

    if types.is_float16(kind):
        return pyarrow.float32()
    return kind.value_type if types.is_dictionary(kind) else kind


def check_cells(shard: ShardFile, name: str, kind: Any) -> None:
    """Raise an InputError on a column whose cells are no numbers, words, dates, times, or yes and no."""
    from pyarrow import types

    known = storage_type(kind)
    if is_text(known) or is_ordered(known) or types.is_boolean(known) or types.is_time(known):
        return
    raise InputError(
        f"has the type {_short(kind)}",
        expected=f"numbers, words, dates, times, or yes and no; {_advice(known)}, or drop the column",
        file=shard.path,
        column=name,
    )


def check_text(shard: ShardFile, name: str, kind: Any) -> None:
    """Raise an InputError on a column that holds no texts."""
    if not is_text(kind):
        raise InputError(
            f"has the type {_short(kind)}",
            expected=f"texts; {_advice(storage_type(kind))}",
            file=shard.path,
            column=name,
        )


def _advice(kind: Any) -> str:
    from pyarrow import types

    if types.is_duration(kind):
        return "write durations as numbers of one unit"
    if types.is_nested(kind):
        return "write a column for each of its parts"
    if types.is_binary(kind) or types.is_large_binary(kind):
        return "decode its bytes to strings"
    return "write it as strings"


def _short(kind: Any) -> str:
    text = str(kind)
    return text if len(text) <= 60 else f"{text[:60]}..."
