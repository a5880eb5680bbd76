"""Schemas: JSON, invalid schemas, rules by enumeration, and warnings on drafts."""

import itertools
import json
import pathlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feller.core.errors import InputError
from feller.core.serialization import from_dict, to_dict
from feller.data.loading.raw import RawTable
from feller.data.tables.column import Boolean, Categorical
from feller.data.tables.constraints import Constraint, Pair, allowed_codes, repair, violations
from feller.data.tables.dates import Datetime
from feller.data.tables.number_format import NumberFormat
from feller.data.tables.numerical_column import Numerical
from feller.data.tables.rules import compile_rules
from feller.data.tables.schema import Schema, parse_schema, read_schema, schema_text, write_schema
from feller.data.tables.schema_lint import rare_value_warnings
from feller.data.tables.unmodelled_columns import Derived, FreeText, Identifier
from tests.errors import refuses

WHOLE = Schema(
    (
        Identifier("id", "C-{######}"),
        Numerical("age", 0.0, 99.0, edges=(15.0, 30.0), missing="N", also_missing=("NA",), dtype="int64"),
        Numerical("pay", 0.0, 10.5, bins=4, heavy=(0.0,), form=NumberFormat(2, 0, thousands=",", before="$")),
        Numerical("rank", 1.0, 3.0, bins=3),
        Derived("title", "rank", {"1": "low", "2": "mid", "3": "high"}),
        Categorical("job", tuple(f"a rather long job, number {i}" for i in range(30)), other="OTHER"),
        Boolean("smokes", "yes", "no", missing=""),
        Datetime("seen", "2020-01-01", "2020-12-31", edges=("2020-07-01",)),
        FreeText("note", "-"),
    ),
    "clip",
    rules=(Constraint("age", ("< 15",), "smokes", ("no",)), Constraint("age", ("N", ">= 30"), "job", ("OTHER",))),
    target="smokes",
)


def test_json_round_trip(tmp_path: pathlib.Path) -> None:
    write_schema(WHOLE, tmp_path / "s.json")
    assert read_schema(tmp_path / "s.json") == WHOLE
    text = (tmp_path / "s.json").read_text()
    assert max(map(len, text.splitlines())) <= 120 + 20
    plain = json.loads(text)
    assert plain["columns"]["age"] == {
        "kind": "numerical",
        "low": 0,
        "high": 99,
        "edges": [15, 30],
        "missing": "N",
        "also_missing": ["NA"],
        "dtype": "int64",
    }
    assert plain["rules"][0] == {"if": {"age": ["< 15"]}, "then": {"smokes": ["no"]}}
    assert from_dict(Schema, json.loads(json.dumps(to_dict(WHOLE)))) == WHOLE


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=40).map(str.strip), min_size=1, unique=True
    )
)
def test_values_of_any_text_round_trip(words: list[str]) -> None:
    schema = Schema((Categorical(words[0] or "x", tuple(words)),))
    assert parse_schema(schema_text(schema)) == schema


def test_numbers_as_category_values() -> None:
    columns = {
        "a": {"kind": "categorical", "values": [1, 2], "missing": 9},
        "b": {"kind": "boolean", "true": 1, "false": 0},
    }
    text = json.dumps({"columns": columns})
    schema = parse_schema(text)
    assert schema.columns == (Categorical("a", ("1", "2"), missing="9"), Boolean("b", "1", "0"))
    assert schema.counts == (3, 2)


def schema_json(**columns: object) -> str:
    usual: dict[str, object] = {"age": {"kind": "numerical", "low": 0, "high": 9}}
    return json.dumps({"columns": usual | columns}, indent=1)


def with_rules(rules: str) -> str:
    return f'{{"columns": {{"a": {{"kind": "boolean"}}}}, "rules": {rules}}}'


INVALID_SCHEMAS = [
    ('{\n"columns": {\n"a" {}}}', None, None),
    ("[]", None, None),
    ("[" * 100_000, None, None),
    ('{"columns": {}}', None, None),
    ('{"columns": {"a": {"kind": "boolean"}, "a": {"kind": "boolean"}}}', None, None),
    ('{"columns": {"a": {"kind": "boolean"}}, "rule": []}', None, "'rule'"),
    ('{"columns": {"a": {"kind": "boolean"}}, "outside": "ignore"}', None, "'ignore'"),
    ('{"columns": {"a": {"kind": "boolean", "true": "y", "false": "n"}}, "unit": "person"}', None, "'person'"),
    ('{"columns": {"a": {"kind": "boolean"}}, "unit": 1}', None, "1"),
    (with_rules("{}"), None, None),
    (with_rules("[1]"), None, "1"),
    (with_rules('[{"if": {"a": ["True"]}, "then": {"b": ["x"]}}]'), None, "'b'"),
    (schema_json(job=3), "job", "3"),
    (schema_json(job={"kind": "word"}), "job", "'word'"),
    (schema_json(job={"kind": "categorical"}), "job", None),
    (schema_json(job={"kind": "categorical", "value": ["a"]}), "job", "'value'"),
    (schema_json(job={"kind": "categorical", "values": "ab"}), "job", "'ab'"),
    (schema_json(job={"kind": "categorical", "values": [1.5]}), "job", None),
    (schema_json(age={"kind": "numerical", "low": "0", "high": 9}), "age", None),
    (schema_json(age={"kind": "numerical", "low": 0, "high": 9, "edges": [5, 3]}), "age", None),
    (schema_json(age={"kind": "numerical", "low": 0, "high": 9, "form": {"decimal": 1}}), "age", None),
    (schema_json(e={"kind": "derived", "source": "job", "mapping": {"1": "a"}}), "e", "'job'"),
    (schema_json(e={"kind": "derived", "source": "age", "mapping": {"1": "a"}}), "e", None),
    ('{"columns": {"a": {"kind": "text"}}}', None, None),
    ('{"columns": {" a": {"kind": "boolean"}}}', None, None),
]


@pytest.mark.parametrize(("text", "column", "found"), INVALID_SCHEMAS, ids=range(len(INVALID_SCHEMAS)))
def test_invalid_schemas_are_refused(tmp_path: pathlib.Path, text: str, column: str | None, found: str | None) -> None:
    path = tmp_path / "s.json"
    path.write_text(text)
    with refuses(InputError, file=str(path), column=column) as caught:
        read_schema(path)
    assert found in (None, caught.value.found)
    assert column is None or column == "e" or caught.value.place == f"line {3 if column == 'age' else 8}"


def test_unreadable_files_are_refused(tmp_path: pathlib.Path) -> None:
    with refuses(InputError, file=str(tmp_path / "s.json")):
        read_schema(tmp_path / "s.json")
    (tmp_path / "s.json").write_bytes(b'{"\xff')
    with refuses(InputError, file=str(tmp_path / "s.json"), found="byte 0xff"):
        read_schema(tmp_path / "s.json")
    with refuses(InputError, remedy="Choose another path"):
        write_schema(WHOLE, tmp_path / "none" / "s.json")


def test_invalid_units_and_columns_are_refused() -> None:
    with refuses(InputError, remedy="Rename one"):
        Schema((Boolean("a"), Boolean("a")))
    with refuses(InputError, found="'household'"):
        Schema((Boolean("a"), Categorical("household", ("1", "2"))), unit="household")
    with refuses(InputError, column="n"):
        Schema((Numerical("n", 0.0, 1e6), Derived("m", "n", {"1": "a"})))


def test_target_column() -> None:
    columns = WHOLE.columns
    assert WHOLE.modelled[WHOLE.target_index].name == "smokes"
    assert Schema(columns).modelled[Schema(columns).target_index].name == "seen"
    with refuses(InputError, argument="column", found="'note'"):
        Schema(columns, target="note")
    with refuses(InputError, argument="target", found="3"):
        parse_schema('{"target": 3, "columns": {"a": {"kind": "boolean", "true": "y", "false": "n"}}}')


ABC = [Categorical(name, ("0", "1", "2")) for name in "abcd"]


def rule(when: str, among: str, then: str, only: str) -> Constraint:
    return Constraint(when, tuple(among), then, tuple(only))


def test_rules_compile_to_allowed_pairs() -> None:
    pairs = compile_rules([rule("b", "0", "a", "1"), rule("a", "2", "b", "12"), rule("c", "01", "b", "2")], ABC)
    assert [(pair.first, pair.second) for pair in pairs] == [(0, 1), (1, 2)]
    assert pairs[0].allowed.tolist() == [[False, True, True], [True, True, True], [False, True, True]]
    assert pairs[1].allowed.tolist() == [[False, False, True], [False, False, True], [True, True, True]]


FORESTS = [[(0, 1)], [(0, 1), (1, 2)], [(0, 2), (1, 2), (2, 3)], [(0, 3), (1, 2)], [(1, 3), (0, 3), (2, 3)]]


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_allowed_codes_and_repair_by_enumeration(data: st.DataObject) -> None:
    edges = data.draw(st.sampled_from(FORESTS))
    tables = st.lists(st.booleans(), min_size=9, max_size=9).map(lambda row: np.array(row).reshape(3, 3))
    pairs = [Pair(a, b, data.draw(tables)) for a, b in edges]
    rows = np.array(list(itertools.product(range(3), repeat=4)))
    valid = ~np.any([violations(rows, pair) for pair in pairs], axis=0)
    allowed = allowed_codes(pairs, [3] * 4)
    for j in range(4):
        assert allowed[j].tolist() == [bool((rows[valid, j] == code).any()) for code in range(3)]
    if valid.any():
        repaired = repair(rows, pairs, [3] * 4)
        assert not np.any([violations(repaired, pair) for pair in pairs])
        assert np.array_equal(repaired[valid], rows[valid])


INVALID_RULES = [
    [rule("x", "0", "a", "1")],
    [rule("a", "0", "a", "1")],
    [rule("a", "", "b", "1")],
    [rule("a", "7", "b", "1")],
    [rule("a", "0", "b", "1"), rule("b", "0", "c", "1"), rule("c", "0", "a", "1")],
    [rule("a", "012", "b", "0"), rule("b", "0", "a", "1"), rule("a", "1", "b", "1")],
]


@pytest.mark.parametrize("rules", INVALID_RULES, ids=["unknown", "same", "empty", "value", "cycle", "contradiction"])
def test_invalid_rules_are_refused(rules: list[Constraint]) -> None:
    with refuses(InputError):
        compile_rules(rules, ABC)


def test_rare_values_of_drafts_are_warned_about() -> None:
    jobs = ["clerk"] * 40 + ["falconer"] + ["nurse"] * 9
    found = RawTable(np.array([[job, "5"] for job in jobs], dtype=object), columns=("job", "age"))
    schema = Schema((Categorical("job", ("clerk", "falconer", "nurse")), Numerical("age", 0.0, 9.0, edges=(3.0,))))
    first, second = rare_value_warnings(schema, found)
    assert all(word in first for word in ("'falconer' (1)", "'nurse' (9)"))
    assert all(word in second for word in ("age", "edges"))
    assert rare_value_warnings(Schema((Categorical("job", ("clerk",)),)), found) == ()


def test_bounds_of_drafts_are_warned_about() -> None:
    """Including round numbers and dates."""
    cells = [["1951-03-02", "40", "20000"]] * 30
    found = RawTable(np.array(cells, dtype=object), columns=("born", "sick", "pay"))
    born = Datetime("born", "1951-01-01", "2005-12-31")
    (line,) = rare_value_warnings(
        Schema((born, Numerical("sick", 0.0, 42.0, bins=43), Numerical("pay", 0.0, 4e5))), found
    )
    assert "born, sick, pay" in line
    assert "edges" not in line
