"""Relations between columns: kept in decoded and completed rows, checked on real rows, and found in tables."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.core.serialization import from_dict, to_dict
from feller.data.loading.raw import RawTable
from feller.data.tables.column import Boolean, Categorical
from feller.data.tables.constraints import allowed_codes
from feller.data.tables.dataframes import from_frame, to_frame
from feller.data.tables.dates import Datetime
from feller.data.tables.dependent_columns import Copy, Gap, Sum
from feller.data.tables.encoding import encode
from feller.data.tables.modality import Table, table_dataset
from feller.data.tables.number_format import NumberFormat
from feller.data.tables.numerical_column import Numerical
from feller.data.tables.ordered_draws import ordered_uniforms
from feller.data.tables.relations import relation_lines, with_relations
from feller.data.tables.rules import Combination, MissingTogether, Order, Unique
from feller.data.tables.schema import Schema, parse_schema, schema_text
from feller.data.tables.schema_detection import detect_schema
from feller.data.tables.unmodelled_columns import Derived, Identifier
from tests.errors import refuses

STAYS = Schema(
    (
        Identifier("id"),
        Datetime("in", "2020-01-01 00:00:00", "2020-12-31 23:59:59", "%Y-%m-%d %H:%M:%S", missing=""),
        Gap(
            "out", "in", 400.0, edges=(1.0, 6.0, 24.0, 96.0), unit="hours", format="%Y-%m-%d %H:%M:%S", missing="",
            heavy=(0.0,),
        ),
        Gap("paid", "out", 60.0, bins=6, unit="days", format="%d.%m.%Y", missing=""),
        Copy("seen", "in"),
        Numerical("low", 0.0, 9.9, bins=5, heavy=(3.0,), form=NumberFormat(1), missing="NA"),
        Numerical("high", 2.0, 12.0, edges=(4.0, 5.0, 9.0), heavy=(6.0,), missing="NA"),
        Gap("more", "high", 5.0, low=-2.0, bins=4, form=NumberFormat(2, 0), missing="NA"),
        Sum("total", ("low", "high", "more"), NumberFormat(2), "NA"),
        Numerical("net", 0.0, 50.0),
        Sum("gross", ("net", "tax")),
        Numerical("tax", 0.0, 9.0),
        Categorical("city", ("Paris", "Lyon", "Rome")),
        Categorical("country", ("France", "Italy")),
    ),
    rules=(
        Order("low", "high"),
        MissingTogether(("in", "out", "high")),
        Combination(("city", "country"), (("Paris", "France"), ("Lyon", "France"), ("Rome", "Italy"))),
        Unique("id"),
    ),
)  # fmt: skip


def random_codes(schema: Schema, n: int, seed: int) -> torch.Tensor:
    """Codes that satisfy the masks of all pairs, column by column, since the pairs form a forest."""
    rng, counts = np.random.default_rng(seed), schema.counts
    masks = allowed_codes(schema.pairs, counts)
    codes, placed = np.zeros((n, len(counts)), dtype=np.int64), set()
    for start in range(len(counts)):
        queue = [start] if start not in placed else []
        while queue:
            j = queue.pop(0)
            allowed = np.broadcast_to(masks[j], (n, counts[j])).copy()
            for pair in schema.pairs:
                for a, b, mask in ((pair.first, pair.second, pair.allowed), (pair.second, pair.first, pair.allowed.T)):
                    if b == j and a in placed:
                        allowed &= mask[codes[:, a]]
                    if a == j and b not in placed:
                        queue.append(b)
            codes[:, j] = (rng.random(allowed.shape) * allowed).argmax(1)
            placed.add(j)
    return torch.from_numpy(codes)


def test_relations_hold_in_a_hundred_thousand_decoded_rows() -> None:
    codes = random_codes(STAYS, 100_000, 1)
    table = Table(STAYS)
    cells = table.cells(codes)
    assert (encode(cells, STAYS).codes == codes).all()  # refuses a row that violates a relation or rule
    frame = {name: np.array(cells.column(name)) for name in cells.columns}
    stay = frame["in"] != ""
    assert 0.5 < stay.mean() < 1
    start, end = (frame[name][stay].astype("M8[s]") for name in ("in", "out"))
    assert (start <= end[frame["out"][stay] != ""]).all()
    assert ((frame["out"] == "") == ~stay).all()
    assert (end - start).astype(int).max() > 90 * 3600
    assert (frame["seen"] == frame["in"]).all()
    assert len({*frame["id"]}) == len(codes)
    both = (frame["low"] != "NA") & (frame["high"] != "NA")
    assert (frame["low"][both].astype(float) <= frame["high"][both].astype(float)).all()
    three = both & (frame["more"] != "NA")
    parts = [frame[name][three].astype(float) for name in ("low", "high", "more")]
    assert np.allclose(sum(parts), frame["total"][three].astype(float), atol=1e-9)
    assert (frame["total"][~three] == "NA").all()
    assert (frame["gross"].astype(int) == frame["net"].astype(int) + frame["tax"].astype(int)).all()
    assert {*zip(frame["city"], frame["country"], strict=True)} == {*STAYS.rules[2].values}  # pyrefly: ignore


def test_schemas_with_relations_round_trip() -> None:
    assert parse_schema(schema_text(STAYS)) == STAYS
    assert from_dict(Schema, json.loads(json.dumps(to_dict(STAYS)))) == STAYS
    rules = [{"order": ["a", "b", "c"]}]
    numbers = {"kind": "numerical", "low": 0, "high": 9}
    schema = parse_schema(json.dumps({"columns": {"a": numbers, "b": numbers, "c": numbers}, "rules": rules}))
    assert schema.rules == (Order("a", "b"), Order("b", "c"))


def test_ordered_draws_are_uniform_among_the_pairs_in_order() -> None:
    """In the same bin of m numbers, the lower one of an ordered pair has probability ~ m - x; exact joint law."""
    schema = Schema((Numerical("a", 0.0, 9.0, bins=1), Numerical("b", 0.0, 9.0, bins=1)), rules=(Order("a", "b"),))
    n = 110_000
    codes, u = np.zeros((n, 2), dtype=np.int64), np.random.default_rng(0).random((n, 2))
    mapped = ordered_uniforms(codes, u, schema)
    a, b = (schema.modelled[j].levels.draw(codes[:, j], mapped[:, j]) for j in (0, 1))  # pyrefly: ignore
    counts = np.histogram2d(a, b, bins=[np.arange(11), np.arange(11)])[0]
    expected = np.triu(np.full((10, 10), n / 55))
    assert (counts[expected == 0] == 0).all()
    chi_square = ((counts - expected)[expected > 0] ** 2 / expected[expected > 0]).sum()
    assert chi_square < 120  # 54 degrees of freedom: false alarm about 1e-6


def test_rare_overlaps_and_chains_are_in_order() -> None:
    wide, narrow = Numerical("a", 0.0, 1e6, bins=1), Numerical("b", 0.0, 3.0, bins=1, heavy=(0.0, 2.0))
    schema = Schema((wide, narrow), rules=(Order("a", "b"),))
    cells = Table(schema).cells(random_codes(schema, 2_000, 0))
    assert (np.array(cells.column("a"), dtype=int) <= np.array(cells.column("b"), dtype=int)).all()
    columns = tuple(Numerical(name, 0.0, 99.0, bins=3) for name in "abcd")
    schema = Schema(columns, rules=(Order("a", "b"), Order("b", "c"), Order("c", "d")))
    cells = Table(schema).cells(random_codes(schema, 5_000, 0))
    values = np.stack([np.array(cells.column(name), dtype=int) for name in "abcd"])
    assert (np.diff(values, axis=0) >= 0).all()


def test_times_of_different_precision_are_compared_in_the_coarser_unit() -> None:
    schema = Schema(
        (
            Datetime("day", "2020-01-01", "2020-12-31", bins=5),
            Datetime("time", "2020-01-01 00:00", "2020-12-31 23:59", "%Y-%m-%d %H:%M", bins=7),
            Gap("done", "time", 3.0, unit="days", format="%Y-%m-%d", bins=4),
        ),
        rules=(Order("day", "time"),),
    )
    cells = Table(schema).cells(random_codes(schema, 3_000, 0))
    day, time, done = (np.array(cells.column(name)).astype("M8[m]") for name in ("day", "time", "done"))
    assert (day <= time).all()
    assert (time.astype("M8[D]") <= done).all()
    assert {*(done - time.astype("M8[D]")).astype(int).tolist()} == {0, 1440, 2880, 4320}


def stays(**cells: str) -> RawTable:
    row = {"id": "1", "in": "2020-03-01 10:00:00", "out": "2020-03-01 12:30:00", "paid": "05.03.2020"}
    row |= {"seen": row["in"], "low": "1.5", "high": "6", "more": "7.25", "total": "14.75", "net": "10", "tax": "2"}
    row |= {"gross": "12", "city": "Lyon", "country": "France"} | cells
    names = tuple(row)
    return RawTable(np.array([[row[name] for name in names]]), columns=names)


@pytest.mark.parametrize(
    ("cells", "column"),
    [
        ({"out": "2020-03-01 09:00:00"}, "out"),
        ({"out": "2021-03-01 09:00:00", "paid": "02.03.2021"}, "out"),
        ({"out": "soon"}, "out"),
        ({"in": "", "seen": "", "high": "NA", "more": "NA", "total": "NA"}, "out"),
        ({"seen": "2020-03-01 10:00:01"}, "seen"),
        ({"total": "14.76"}, "total"),
        ({"total": "NA"}, "total"),
        ({"gross": "13"}, "gross"),
        ({"low": "6.1", "total": "19.35"}, "high"),
        ({"city": "Rome"}, None),
        ({"out": "", "paid": ""}, None),
    ],
)
def test_rows_that_violate_a_relation_are_refused_or_clipped(cells: dict[str, str], column: str | None) -> None:
    with refuses(InputError, column=column, row=1):
        encode(stays(**cells), STAYS)
    clipping = Schema(STAYS.columns, "clip", rules=STAYS.rules)
    codes = encode(stays(**cells), clipping).codes
    encode(Table(STAYS).cells(codes), STAYS)


def test_valid_rows_are_encoded() -> None:
    codes = dict(zip([c.name for c in STAYS.modelled], encode(stays(), STAYS).codes[0].tolist(), strict=True))
    assert (codes["out"], codes["paid"], codes["more"]) == (1, 0, 1)  # 2.5 hours, 4 days, 1.25
    empty = {"in": "", "out": "", "paid": "", "seen": "", "high": "NA", "more": "NA", "total": "NA"}
    assert encode(stays(**empty), STAYS).codes[0, :3].tolist() == [20, 5, 6]


def test_repeated_identifiers_of_a_unique_column_are_refused() -> None:
    two = stays().subset(np.array([0, 0]))
    with refuses(InputError, column="id", row=2):
        encode(two, STAYS)


NUMBER = Numerical("a", 0.0, 9.0)
DAY = Datetime("d", "2020-01-01", "2020-12-31")
INVALID: list[tuple[tuple[object, ...], tuple[object, ...], str | None]] = [
    ((NUMBER, Copy("b", "c")), (), "b"),
    ((NUMBER, Copy("b", "c"), Copy("c", "b")), (), None),
    ((NUMBER, Gap("b", "c", 9.0), Gap("c", "b", 9.0)), (), None),
    ((NUMBER, Categorical("w", ("x",)), Gap("b", "w", 9.0)), (), "b"),
    ((NUMBER, DAY, Gap("b", "d", 9.0)), (), "b"),
    ((NUMBER, Gap("b", "a", 9.0, unit="days", format="%Y-%m-%d")), (), "b"),
    ((Numerical("a", 0.0, 9.0, missing=""), Gap("b", "a", 9.0)), (), "b"),
    ((Numerical("a", 0.0, 9.0, form=NumberFormat(1)), Gap("b", "a", 9.0)), (), "b"),
    ((NUMBER, DAY, Gap("b", "d", 1e7, unit="days", format="%Y-%m-%d")), (), "b"),
    ((NUMBER, Numerical("b", 0.0, 1.0, form=NumberFormat(2)), Sum("s", ("a", "b"))), (), "s"),
    ((NUMBER, Numerical("b", 0.0, 1.0, missing=""), Sum("s", ("a", "b"))), (), "s"),
    ((NUMBER, DAY), (Order("a", "d"),), None),
    ((NUMBER, Numerical("b", 0.0, 9.0)), (Order("a", "b"), Order("b", "a")), None),
    ((Numerical("a", 5.0, 9.0), Numerical("b", 0.0, 4.0)), (Order("a", "b"),), None),
    ((NUMBER, Numerical("b", 0.0, 9.0)), (MissingTogether(("a", "b")),), "a"),
    ((NUMBER, Boolean("b")), (Unique("b"),), None),
    ((NUMBER, Copy("b", "a"), Numerical("c", 0.0, 9.0)), (Order("b", "c"),), None),
    (
        tuple(Numerical(n, 0.0, 30.0, edges=e) for n, e in (("a", (8.0, 20.0)), ("b", (11.0,)), ("c", (3.0, 7.0)))),
        (Order("a", "b"), Order("b", "c")),
        None,
    ),
]


@pytest.mark.parametrize(("columns", "rules", "column"), INVALID, ids=range(len(INVALID)))
def test_contradicting_relations_are_refused(columns: tuple, rules: tuple, column: str | None) -> None:
    with refuses(InputError, column=column):
        Schema(columns, rules=rules)


@pytest.mark.parametrize("kind", ["seconds", "weeks"])
def test_units_of_gaps_are_checked(kind: str) -> None:
    with refuses(InputError, column="b"):
        Gap("b", "a", 9.0, unit=kind, format="%Y-%m-%d")


@pytest.mark.parametrize(
    "rule",
    [
        {"order": ["a"]},
        {"order": "a"},
        {"combination": ["a", "b"]},
        {"combination": ["a", "b", "c"], "values": [["1", "2", "3"]]},
        {"combination": ["a", "b"], "values": [["1"]]},
        {"missing_together": ["a"]},
        {"unique": ["a"]},
    ],
)
def test_invalid_rules_are_refused(rule: dict[str, object]) -> None:
    numbers = {"kind": "numerical", "low": 0, "high": 9}
    with refuses(InputError):
        parse_schema(json.dumps({"columns": dict.fromkeys("abc", numbers), "rules": [rule]}))


def visits(n: int = 400) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    start = np.datetime64("2020-01-01") + rng.integers(0, 700, n)
    end = start + rng.geometric(0.05, n)
    age, gone = rng.integers(18, 90, n), rng.random(n) < 0.2
    a, b = rng.integers(0, 50, n), rng.integers(1, 60, n)
    city = rng.integers(0, 4, n)
    frame = pd.DataFrame({
        "in": start.astype(str), "out": end.astype(str), "age": age, "again": start.astype(str),
        "group": np.where(age < 30, "young", np.where(age < 65, "middle", "old")),
        "a": a, "b": b, "all": a + b, "city": np.array(["Lyon", "Paris", "Rome", "Bonn"])[city],
        "code": np.array([10, 20, 30, 40])[city], "land": np.array(["F", "F", "I", "D"])[city],
        "flag": rng.random(n) < 0.5,
    })  # fmt: skip
    frame.loc[gone, ["in", "out", "again"]] = None
    return frame


def test_relations_are_found() -> None:
    raw = from_frame(visits())
    schema = detect_schema(raw)
    columns = schema.by_name
    assert isinstance(columns["out"], Gap)
    assert columns["out"].after == "in"
    assert columns["out"].unit == "days"
    assert columns["again"] == Copy("again", "in", columns["again"].dtype)
    assert isinstance(columns["all"], Sum)
    assert columns["all"].parts == ("a", "b")
    assert isinstance(columns["code"], Derived)
    assert columns["code"].mapping["Rome"] == "30"
    combined = next(rule for rule in schema.rules if isinstance(rule, Combination))
    assert combined.columns == ("city", "land")
    assert len(combined.values) == 4
    assert MissingTogether(("in", "out")) in schema.rules
    assert {rule.names for rule in schema.rules if rule.names[0] == "group"} == {("group", "age")}
    assert schema.outside == "refuse"
    assert len(relation_lines(raw, schema)) == 7
    found = table_dataset(raw)
    assert parse_schema(schema_text(schema)) == schema
    frame = to_frame(Table(schema).cells(found.values), schema)
    assert list(frame.dtypes) == list(to_frame(raw, schema).dtypes)
    assert (frame["all"] == frame["a"] + frame["b"]).all()


def test_independent_columns_have_no_relations() -> None:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({f"x{i}": rng.integers(0, 100, 300) for i in range(8)})
    for i in range(4):
        frame[f"w{i}"] = rng.choice(["a", "b", "c"], 300)
        frame[f"f{i}"] = rng.random(300) < 0.01
    schema = detect_schema(from_frame(frame))
    assert not schema.rules
    assert {type(column) for column in schema.columns} <= {Numerical, Categorical, Boolean}
    assert with_relations(from_frame(frame.iloc[:20]), schema) is schema


def test_orders_with_exceptions_are_clipped() -> None:
    rng = np.random.default_rng(2)
    a = rng.integers(0, 1000, 1_000)
    b = a + rng.integers(0, 300, 1_000)
    b[:10] = 0
    schema = detect_schema(from_frame(pd.DataFrame({"a": a, "b": b, "w": rng.choice(["x", "y"], 1_000)})))
    assert schema.outside == "clip"
    assert schema.rules == (Order("a", "b"),)
    b[:80] = 0
    assert not detect_schema(from_frame(pd.DataFrame({"a": a, "b": b}))).rules


@pytest.mark.parametrize("seed", range(3))
def test_partial_tables_keep_observed_cells_and_relations(seed: int) -> None:
    codes = random_codes(STAYS, 300, seed)
    table = Table(STAYS)
    cells = table.cells(codes)
    rng = np.random.default_rng(seed)
    names = [name for name in cells.columns if name not in ("low", "high", "more", "total")]
    texts = {name: np.array(cells.column(name), dtype=object) for name in cells.columns}
    for name in names:
        texts[name][rng.random(300) < 0.3] = ""
    partial = RawTable(np.stack([*texts.values()], 1), columns=tuple(texts))
    known, observed = table.known(partial)
    assert (known[observed] == codes[observed]).all()
    j = [column.name for column in STAYS.modelled].index("out")
    has_both = (texts["in"] != "") & (texts["out"] != "")
    assert (observed[:, j].numpy()[has_both]).all()
    assert not observed[:, j].numpy()[texts["out"] == ""].any()
    completed = table.completed(partial, torch.where(observed, known, codes))
    for name in names:
        kept = texts[name] != ""
        assert (np.array(completed.column(name), dtype=object)[kept] == texts[name][kept]).all()
    encode(completed, Schema(STAYS.columns, "refuse", rules=STAYS.rules[:1]))


def test_known_ends_of_orders_and_sums_bound_generated_cells() -> None:
    numbers = tuple(Numerical(name, 0.0, 100.0, bins=1) for name in "abxy")
    schema = Schema((*numbers, Sum("s", ("x", "y"))), rules=(Order("a", "b"),))
    table, n = Table(schema), 500
    known_b, known_s = (np.random.default_rng(i).integers(0, 100 * (i + 1), n) for i in (0, 1))
    partial = RawTable(np.stack([known_b.astype(str), known_s.astype(str)], 1), columns=("b", "s"))
    completed = table.completed(partial, torch.zeros((n, 4), dtype=torch.long))
    a, b, x, y, s = (np.array(completed.column(name), dtype=int) for name in "abxys")
    assert (a <= b).all()
    assert (b == known_b).all()
    assert (s == known_s).all()
    assert (x + y == s).all()
    assert np.ptp(a) > 50
    assert max(x.max(), y.max()) <= 100


def test_contradicting_observed_cells_are_refused() -> None:
    table = Table(STAYS)
    for cells in ({"seen": "2020-03-01 10:00:01"}, {"gross": "13"}, {"total": "1.00"}):
        with refuses(InputError, column=next(iter(cells)), row=1):
            table.known(stays(**cells))


def test_marginals_do_not_suffer() -> None:
    """Repair for rules of order changes no code of rows that satisfy them."""
    rng = Rng(0).stream("x").uniform((2_000, 2), torch.float64).numpy()
    low, high = np.sort((rng * 100).astype(int), 1).T
    columns = tuple(Numerical(name, 0.0, 100.0, bins=10) for name in ("low", "high"))
    raw = RawTable(np.stack([low.astype(str), high.astype(str)], 1), columns=("low", "high"))
    with_rule = Schema(columns, "clip", rules=(Order("low", "high"),))
    codes = encode(raw, with_rule).codes
    assert (codes == encode(raw, Schema(columns)).codes).all()
    decoded = Table(with_rule).cells(codes)
    assert (encode(decoded, with_rule).codes == codes).all()
    assert all(map(int.__le__, map(int, decoded.column("low")), map(int, decoded.column("high"))))


def test_given_cells_of_dependent_columns() -> None:
    table = Table(STAYS)
    names = [column.name for column in STAYS.modelled]
    given = {"seen": "2020-03-01 10:00:00", "out": "2020-03-01 12:30:00", "total": "14.75", "low": "1.5", "high": "6"}
    cells = table.given_cells(given)
    observed = {names[j] for j in torch.nonzero(cells.observed)[:, 0].tolist()}
    assert observed == {"in", "out", "low", "high", "more"}
    codes = torch.where(cells.observed, cells.codes, random_codes(STAYS, 50, 0))
    frame = table.with_given(codes, cells)
    for name, cell in given.items():
        assert {*frame.column(name)} == {cell}
    assert {*frame.column("in")} == {given["seen"]}
    assert {*frame.column("more")} == {"7.25"}
    assert {*table.given_cells({"out": ""}).codes[torch.tensor([1])].tolist()} == {5}


@pytest.mark.parametrize(
    ("given", "argument"),
    [
        ({"out": "2020-03-01 12:30:00"}, "out"),
        ({"out": "2020-03-01 12:30:00", "in": "2020-03-01..2020-03-02"}, "out"),
        ({"out": "2020-03-01 12:30:00", "in": "2020-03-02 00:00:00"}, "out"),
        ({"more": ("3", "4"), "high": "6"}, "more"),
        ({"total": "14", "low": "3"}, "total"),
        ({"gross": "14", "net": "3", "tax": "2"}, "gross"),
        ({"low": "7", "high": "5"}, None),
        ({"low": ("7", "9"), "high": ("3", "4")}, None),
        ({"seen": "2020-03-01 10:00:00", "in": "2020-03-01 10:00:01"}, "seen"),
    ],
)
def test_given_cells_without_their_sources_are_refused(given: dict, argument: str | None) -> None:
    with pytest.raises(UsageError) as caught:
        Table(STAYS).given_cells(given)
    assert argument in (None, caught.value.argument)


def test_given_ends_of_orders_limit_other_columns() -> None:
    columns = tuple(Numerical(name, 0.0, 99.0, bins=10) for name in "abc")
    table = Table(Schema(columns, rules=(Order("a", "b"), Order("b", "c"))))
    cells = table.given_cells({"a": "45", "c": ("30", "80")})
    assert cells.choices[1].spans == ((45, 80),)
    assert cells.choices[2].spans == ((45, 80),)
    probs = cells.choices[1].acceptance_probs(torch.arange(10))
    assert probs.tolist() == [0, 0, 0, 0, 0.5, 1, 1, 1, 0.1, 0]
    codes = torch.tensor([[4, 4, 4], [4, 4, 8], [4, 7, 7]]).repeat(300, 1)
    frame = table.with_given(codes, cells)
    a, b, c = (np.array(frame.column(name), dtype=int) for name in "abc")
    assert (a == 45).all()
    assert (a <= b).all()
    assert (b <= c).all()
    assert c.max() == 80
