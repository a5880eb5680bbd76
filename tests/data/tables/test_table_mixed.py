"""Mixed tables: quantile transforms of numbers, words, and rules."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.core.serialization import from_dict, to_dict
from feller.data.modality import Dataset, Modality
from feller.data.tables.column import Boolean, Categorical
from feller.data.tables.constraints import Constraint
from feller.data.tables.dates import Datetime
from feller.data.tables.mixed_table import KNOWN, MixedTable, QuantileTransform
from feller.data.tables.modality import Table
from feller.data.tables.number_format import NumberFormat
from feller.data.tables.numerical_column import Numerical
from feller.data.tables.schema import Schema
from tests.errors import refuses

AGE = Numerical("age", 0.0, 90.0, edges=(5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 75.0))
PAY = Numerical("pay", 0.0, 99.0, bins=5, heavy=(0.0, 3.0, 50.0), digits=True, missing="?")
SCHEMA = Schema(
    (
        Categorical("job", ("a", "b", "c")),
        AGE,
        PAY,
        Numerical("size", -2.0, 9.5, bins=8, form=NumberFormat(1), digits=True),
        Numerical("debt", 0.0, 9.0, bins=9, heavy=(0.0,)),
        Numerical("rank", 1.0, 3.0, bins=3),
        Datetime("seen", "2020-01-01", "2020-12-31", bins=12),
        Boolean("smokes", "yes", "no", missing=""),
    ),
    rules=(Constraint("age", ("< 10",), "smokes", ("no",)), Constraint("job", ("a",), "age", ("< 5", ">= 75"))),
)
FREE = Table(Schema(SCHEMA.columns))
MIXED = MixedTable(FREE)


def codes(n: int, table: Table = FREE, seed: int = 0) -> torch.Tensor:
    draw = Rng(seed).stream("codes")
    return torch.stack([draw.randint(count, (n,)) for count in table.counts], 1)


def test_numbers_and_words() -> None:
    names = [column.name for column in SCHEMA.modelled]
    assert [names[j] for j in MIXED.transforms] == ["age", "pay", "size", "seen"]
    assert {names[j]: count for j, count in MIXED.words.items()} == {
        "job": 3,
        "pay": 9,  # five bins, three heavy values, and missing ones
        "debt": 9,  # its first bin is its heavy value
        "rank": 3,
        "smokes": 3,
    }
    state = MIXED.encode(codes(7))
    assert {name: (tuple(leaf.shape), leaf.dtype) for name, leaf in state.items()} == {
        "numbers": ((7, 4), torch.float32),
        "words": ((7, 5), torch.int64),
    }
    start = MIXED.space().sample_base(3, Rng(0).stream("source"))
    assert (start["words"] == 9).all()
    assert from_dict(Modality, json.loads(json.dumps(to_dict(MIXED)))) == MIXED


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_encode_decode_round_trip(data: st.DataObject) -> None:
    shares: tuple[tuple[float, ...], ...] = ()
    if data.draw(st.booleans()):  # also where noise left levels without any share
        rooms = [len(column.level_names) for column in SCHEMA.modelled]
        counted = [data.draw(st.lists(st.integers(0, 5), min_size=room, max_size=room)) for room in rooms]
        shares = tuple(tuple(each / max(sum(decoded), 1) for each in decoded) for decoded in counted)
    modality = MixedTable(Table(FREE.schema, shares))
    rows = torch.tensor([[data.draw(st.integers(0, count - 1)) for count in FREE.counts] for _ in range(4)])
    state = modality.encode(rows)
    assert torch.equal(modality.decode(state), rows)
    assert torch.equal(modality.encode(rows[1:2])["numbers"], state["numbers"][1:2])  # other rows have no say
    noise = 1e-6 * Rng(0).stream("noise").normal(tuple(state["numbers"].shape))
    assert torch.equal(modality.decode({**state, "numbers": state["numbers"] + noise}), rows)


def test_long_digit_column_round_trip() -> None:
    long = Numerical("w", 10_000.0, 160_000.0, bins=20, digits=True)
    rows = torch.arange(0, long.num_codes, 7)[:, None]
    assert torch.equal(MixedTable(Table(Schema((long,)))).decode(MixedTable(Table(Schema((long,)))).encode(rows)), rows)


@pytest.mark.parametrize("column", [AGE, SCHEMA.modelled[3]], ids=["bins", "digits"])
def test_normal_quantiles_have_level_shares(column: Numerical) -> None:
    shares = (0.0, 0.4, 0.1, 0.2, 0.0, 0.05, 0.2, 0.05)
    x = torch.from_numpy(stats.norm.ppf((np.arange(100_000) + 0.5) / 100_000)).float()
    levels = column.to_levels(QuantileTransform(column, shares).codes(x))
    decoded = np.bincount(levels, minlength=8) / len(x)
    assert abs(decoded - (KNOWN * np.array(shares) + (1 - KNOWN) / 8)).max() < 3e-5
    uniform = np.bincount(column.to_levels(QuantileTransform(column).codes(x)), minlength=8) / len(x)
    assert abs(uniform - 1 / 8).max() < 3e-5


def test_encoded_numbers_are_normal_mid_quantiles() -> None:
    places = QuantileTransform(AGE).place(np.arange(8))
    torch.testing.assert_close(places.numpy(), stats.norm.ppf((np.arange(8) + 0.5) / 8).astype(np.float32))
    inside = QuantileTransform(PAY, is_per_level=True).place(
        np.array([1, 19, 0, 3, 50, 100])
    )  # in 0 to 19, without 0 and 3
    expected = [0.5 / 18, 17.5 / 18, 0.5, 0.5, 0.5, 0.5]
    torch.testing.assert_close(inside.numpy(), stats.norm.ppf(expected).astype(np.float32))


def test_rule_violations_are_repaired() -> None:
    table = Table(SCHEMA)
    modality, rows = MixedTable(table), codes(500)
    rules = [(pair.first, pair.second, torch.from_numpy(pair.allowed)) for pair in SCHEMA.pairs]

    def keeps(rows: torch.Tensor) -> torch.Tensor:
        return torch.stack([allowed[rows[:, a], rows[:, b]] for a, b, allowed in rules]).all(0)

    decoded = modality.decode(MIXED.encode(rows))
    assert keeps(decoded).all()
    assert 0.1 < keeps(rows).double().mean() < 0.9
    assert torch.equal(decoded[keeps(rows)], rows[keeps(rows)])
    others = [j for j, column in enumerate(SCHEMA.modelled) if column.name not in ("job", "age", "smokes")]
    assert torch.equal(decoded[:, others], rows[:, others])


def test_extreme_numbers_decode_to_bounds() -> None:
    rows = codes(2)
    state = MIXED.encode(rows)
    far = MIXED.decode({**state, "numbers": torch.tensor([[-40.0] * 4, [40.0] * 4])})
    assert far[:, 1].tolist() == [0, 7]
    assert far[:, 3].tolist() == [0, 115]
    assert far[:, 6].tolist() == [0, 11]


def test_invalid_states_are_refused() -> None:
    state = MIXED.encode(codes(2))
    with refuses(InputError):
        MIXED.decode({**state, "numbers": state["numbers"] * torch.nan})
    with refuses(InputError):
        MIXED.decode({**state, "words": state["words"] + 9})
    with refuses(InputError, remedy="Use the recipe `table`"):
        MixedTable(Table(Schema((Categorical("job", ("a", "b")), Numerical("n", 0.0, 20.0, heavy=(0.0,))))))
    with refuses(UsageError, argument="smokes"):
        MIXED.parse_condition("smokes", "yes")


def test_mixed_table_is_written_and_evaluated_as_table() -> None:
    data = Dataset(codes(5), {}, MIXED)
    rows = data.modality.for_metrics(data)
    assert rows.modality is FREE
    assert FREE.for_metrics(rows).values is data.values
    assert (MIXED.arrays(data.values, {})["samples"] == FREE.arrays(data.values, {})["samples"]).all()
    assert MIXED.writers.keys() == FREE.writers.keys()
