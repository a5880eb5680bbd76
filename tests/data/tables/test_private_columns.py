"""Columns that a private schema search finds: codes, steps, number formats, words, and the shape within bins."""

import numpy as np
import pytest
import torch

from feller.core.errors import InputError
from feller.data.loading.raw import RawTable, text_array
from feller.data.tables.bins import Bins
from feller.data.tables.column import Categorical
from feller.data.tables.encoding import encode
from feller.data.tables.given_cells import ColumnChoice
from feller.data.tables.number_format import NumberFormat, detect_number_format
from feller.data.tables.numerical_column import Numerical
from feller.data.tables.private_schema_search import search_schema
from feller.data.tables.schema import Schema, parse_schema, schema_text
from tests.data.tables.test_private_schema_search import NoNoise, SeededGaussian
from tests.errors import refuses

N = 4000


def searched_column(cells, sigma=20.0, noise=None, n=N):
    """Search a column next to one of words."""
    rows = np.array([[str(cell), "ab"[i % 2]] for i, cell in enumerate(cells)], dtype=object)
    table = RawTable(rows, columns=("x", "y"))
    return search_schema(table, sigma, 1e-6, noise or NoNoise()).schema.columns[0]


def drawn(values, weights, n=N, seed=0):
    weights = np.array(weights, dtype=float)
    return np.random.default_rng(seed).choice(values, n, p=weights / weights.sum())


def test_codes_above_the_noise_have_their_own_values() -> None:
    """Codes 1 to 9 with a gap at 5: no other number is invented. Ten searches with noise of 20 rows."""
    codes = [1, 2, 3, 4, 6, 7, 8, 9]
    cells = drawn(codes, [40, 10, 20, 10, 6, 6, 4, 4])
    exact = searched_column(cells)
    assert isinstance(exact, Numerical)
    assert exact.numbers == tuple(map(float, codes))
    assert (exact.low, exact.high, exact.num_codes) == (1.0, 9.0, 8)
    invented = 0
    for seed in range(10):
        column = searched_column(cells, noise=SeededGaussian(seed))
        assert {*codes} <= {*column.numbers}
        invented += len({*column.numbers} - {*codes})
    assert invented <= 4  # 5 has a chance of 16 % each time, numbers outside of the range less than 1 %


def test_steps_are_found() -> None:
    """Numbers in steps of 0.2, most of them 0, as in a column of closeness to a holiday."""
    cells = drawn(["0", "0.2", "0.4", "0.6", "0.8", "1"], [90, 2, 2, 2, 2, 2])
    steps = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    exact = searched_column(cells)
    assert exact.numbers == steps
    assert exact.form == NumberFormat(1, 0)
    assert exact.value_names == ("0", "0.2", "0.4", "0.6", "0.8", "1")
    assert sum(searched_column(cells, noise=SeededGaussian(seed)).numbers == steps for seed in range(20)) >= 13


def test_columns_with_tails_are_not_codes() -> None:
    """Zeros with a continuous tail, and ages over a wide range."""
    rng = np.random.default_rng(0)
    assert searched_column(np.where(rng.random(N) < 0.9, 0, rng.integers(500, 20_000, N))).numbers == ()
    assert searched_column(rng.integers(18, 90, N)).numbers == ()


def test_numbers_outside_of_a_list_are_read_as_the_nearest() -> None:
    column = Numerical("x", 0.0, 1.0, numbers=(0.0, 0.2, 1.0), form=NumberFormat(1, 0), missing="")
    words = text_array(["0", "0.2", "1.0", "0.5", "0.7", "-3", "8", "word", ""])
    assert column.codes(words).tolist() == [0, 1, 2, -1, -1, -1, -1, -1, 3]
    assert column.clipped(words).tolist() == [0, 1, 2, 1, 2, 0, 2, 3, 3]
    assert column.code("0.25") is None
    assert column.value_cells(np.array([0, 1, 2]), np.full(3, 0.9)).to_pylist() == ["0", "0.2", "1"]
    assert column.matching("< 0.5").tolist() == [True, True, False, False]
    with refuses(InputError, column="x"):
        Numerical("x", 0.0, 1.0, numbers=(0.0, 0.2))
    with refuses(InputError, column="x"):
        Numerical("x", 0.0, 1.0, numbers=(0.0, 1.0), bins=2)


def test_lists_and_knots_survive_a_file() -> None:
    schema = Schema(
        (
            Numerical("a", 0.0, 1.0, numbers=(0.0, 0.2, 1.0), form=NumberFormat(1, 0)),
            Numerical("b", 0.0, 9.0, bins=1, knots=(3.0,), weights=(1.0, 2.0)),
            Numerical("c", 0.0, 9.0, form=NumberFormat(2, whole=True)),
        )
    )
    assert parse_schema(schema_text(schema)) == schema
    with refuses(InputError, column="b"):
        Numerical("b", 0.0, 9.0, knots=(3.0,))
    with refuses(InputError, column="b"):
        Numerical("b", 0.0, 9.0, knots=(3.0,), weights=(1.0, 0.0))
    with refuses(InputError, column="b"):
        Numerical("b", 0.0, 9.0, knots=(12.0,), weights=(1.0, 1.0))


def test_numbers_within_bins_follow_the_weights() -> None:
    """Bin 0 to 9 with knots at 2 and 5, and weights 4, 0 and 1: four of five numbers are 0 or 1, none is 2 to 4."""
    bins = Bins((0, 10), 19, (), False, (2, 5, 10), (4.0, 1e-9, 1.0, 5.0))
    uniforms = (np.arange(1000) + 0.5) / 1000
    values = bins.draw(np.zeros(1000, dtype=np.int64), uniforms)
    counts = np.bincount(values, minlength=10)
    assert counts[:2].tolist() == [400, 400]
    assert counts[2:5].tolist() == [0, 0, 0]
    assert counts[5:].tolist() == [40] * 5
    upper = bins.draw(np.ones(1000, dtype=np.int64), uniforms)
    assert np.bincount(upper)[10:].tolist() == [100] * 10
    assert (bins.codes(values) == 0).all()


def test_conditions_follow_the_weights() -> None:
    """Numbers from 1 to 5 of a bin from 0 to 9: 1 has weight 2, 2 to 4 have 1 together, and 5 has 1 / 5."""
    column = Numerical("x", 0.0, 19.0, edges=(10.0,), knots=(2.0, 5.0, 10.0), weights=(4.0, 1.0, 1.0, 5.0))
    choice = ColumnChoice(column, ((1, 5),))
    codes, uniforms = np.zeros(3200, dtype=np.int64), (np.arange(3200) + 0.5) / 3200
    assert choice.fractions(torch.tensor([0, 1])).tolist() == pytest.approx([3.2 / 6, 0.0])
    values = np.array(column.value_cells(codes, choice.uniforms(codes, uniforms)).to_pylist(), dtype=int)
    expected = [0, 2000, 1000 / 3, 1000 / 3, 1000 / 3, 200]
    assert np.bincount(values).tolist() == pytest.approx(expected, abs=2)
    levels = np.zeros(10, dtype=np.int64)
    u = column.levels.middles(levels, np.arange(10))
    assert column.levels.draw(levels, u).tolist() == list(range(10))


def test_knots_that_are_not_edges_split_their_weight() -> None:
    """A bin from 5 to 9 has half of the interval from 0 to 9."""
    bins = Bins((0, 5), 19, (), False, (10,), (10.0, 20.0))
    values = bins.draw(np.ones(1000, dtype=np.int64), (np.arange(1000) + 0.5) / 1000)
    assert np.bincount(values, minlength=20)[5:].tolist() == pytest.approx([40] * 5 + [80] * 10, abs=1)


def test_bins_have_more_rows_than_noise_and_keep_the_shape() -> None:
    """Log-normal numbers: fewer bins with more noise, while numbers drawn within them keep the median and the mean."""
    values = np.exp(np.random.default_rng(0).normal(7, 1, N))
    cells = [f"{value:.2f}" for value in values]
    fine, coarse = searched_column(cells, 2.0), searched_column(cells, 100.0)
    assert coarse.num_values < 0.6 * fine.num_values
    assert coarse.num_values <= N / (5 * 100.0)
    for column in (fine, coarse):
        codes = column.clipped(text_array(cells))
        uniforms = np.random.default_rng(1).random(N)
        made = np.array(column.value_cells(codes, uniforms).to_pylist(), dtype=float)
        assert np.median(made) == pytest.approx(np.median(values), rel=0.1)
        assert made.mean() == pytest.approx(values.mean(), rel=0.15)
        assert np.bincount(codes).min() > 0


@pytest.mark.parametrize(
    ("cells", "form"),
    [
        (["12.50", "3.75", "0.10"], NumberFormat(2)),
        (["0", "12.50", "3.75", "0.10"], NumberFormat(2, whole=True)),
        (["0", "12.5", "3.75", "0.1"], NumberFormat(2, 0)),
        (["0", "0.014285714", "0.2", "0.05"], NumberFormat(9, 0)),
        (["7", "12"], NumberFormat(0)),
    ],
)
def test_number_formats_keep_the_form_of_the_source(cells, form) -> None:
    assert detect_number_format(cells) == form
    units = form.parse(text_array(cells)).units
    assert form.texts(units).to_pylist() == cells
    assert [form.write(unit) for unit in units.tolist()] == cells


def test_number_formats_are_found_privately() -> None:
    rng = np.random.default_rng(0)
    money = [f"{value:.2f}" for value in rng.exponential(900, N)]
    zeros = ["0" if i % 3 else cell for i, cell in enumerate(money)]
    trimmed = ["0" if i % 3 else cell.rstrip("0").rstrip(".") for i, cell in enumerate(money)]
    noise = SeededGaussian(0)
    assert searched_column(money, 5.0, noise).form == NumberFormat(2)
    assert searched_column(zeros, 5.0, noise).form == NumberFormat(2, whole=True)
    assert searched_column(trimmed, 5.0, noise).form == NumberFormat(2, 0)
    assert searched_column(rng.integers(0, 9000, N), 5.0, noise).form == NumberFormat(0)


def test_complete_columns_have_no_missing_code() -> None:
    """False alarm of a column: 1.3e-3, of 40 columns below 6 %."""
    rng = np.random.default_rng(0)
    for seed in range(10):
        for cells in (rng.integers(0, 5, N), rng.exponential(5, N), rng.choice(["u", "v"], N)):
            assert searched_column(cells, 30.0, SeededGaussian(seed)).missing is None
    gaps = np.where(rng.random(N) < 0.1, "", rng.integers(0, 5, N).astype(str))
    assert searched_column(gaps, 30.0, SeededGaussian(0)).missing == ""


def test_months_are_a_public_list() -> None:
    """Two months are released; of the others, those above 1.5 deviations follow, and no month that does not occur."""
    cells = drawn(["May", "Nov", "Feb", "Oct"], [60, 34, 2, 4])
    column = searched_column(cells, 40.0)
    assert isinstance(column, Categorical)
    assert {*column.values} == {"May", "Nov", "Feb", "Oct"}
    assert column.other is None
    other_words = searched_column(drawn(["Mai", "Nov", "Febr", "Okt"], [60, 34, 2, 4]), 40.0)
    assert {*other_words.values} == {"Mai", "Nov"}


def test_codes_are_encoded_and_decoded() -> None:
    rows = np.array([[str(i % 4), "ab"[i % 2]] for i in range(N)], dtype=object)
    table = RawTable(rows, columns=("x", "y"))
    schema = search_schema(table, 10.0, 1e-6, SeededGaussian(1)).schema
    codes = encode(table, schema).codes[:, 0].numpy()
    assert schema.modelled[0].cells(codes, np.zeros(N)).to_pylist() == table.column("x")
