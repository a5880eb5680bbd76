"""The example of people: its schema is public, and codes are those of the benchmarks."""

import torch

from feller.data.examples.loaders import EXAMPLES, adult_cells
from feller.data.loading.read import read
from feller.data.tables.encoding import decode, encode
from feller.data.tables.modality import Table
from feller.data.tables.schema_lint import lint


def test_codes_and_counts() -> None:
    train, test = read("example:adult"), read("example:adult/test")
    assert isinstance(train.modality, Table)
    assert train.modality == test.modality
    assert (train.values.shape, test.values.shape) == ((32_561, 14), (16_281, 14))
    assert train.modality.counts == (15, 9, 20, 16, 7, 15, 6, 5, 2, 11, 8, 12, 42, 2)
    assert train.values[0].tolist() == [4, 5, 3, 12, 2, 8, 3, 0, 1, 2, 0, 5, 0, 0]  # 39, State-gov, 77516, 13, ...
    assert train.values[:, -1].bincount().tolist() == [24_720, 7_841]
    assert int((train.values[:, 1] == 8).sum()) == 1_836  # work class unknown
    assert lint(train.modality.schema, len(train)) == ()
    assert torch.equal(read("example:adult/test", like=train.modality).values, test.values)
    assert EXAMPLES["adult"].about.licence == "CC BY 4.0"


def test_all_columns_come_back() -> None:
    schema = read("example:adult/test").modality.schema  # pyrefly: ignore
    found = adult_cells("test")
    codes = encode(found, schema).codes
    again = decode(codes, torch.full(codes.shape, 0.5, dtype=torch.float64), schema)
    assert again.columns == found.columns
    for name in found.columns:
        if name not in ("age", "fnlwgt", "capital-gain", "capital-loss", "hours-per-week"):
            assert again.column(name) == found.column(name)


def test_which_tokens_say_that_a_cell_is_missing() -> None:
    """The last one of workclass, occupation and native-country."""
    told = read("example:adult").modality.missing_tokens.tolist()
    assert {place: token for place, token in enumerate(told) if token >= 0} == {1: 8, 5: 14, 12: 41}
