"""Schemas: what they refuse, and their JSON."""

import json
import pathlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feller.core.errors import InputError
from feller.core.serialization import from_data, to_data
from feller.data.tables.column import Boolean, Categorical
from feller.data.tables.constraints import Constraint
from feller.data.tables.dates import Datetime
from feller.data.tables.number_format import NumberForm
from feller.data.tables.numerical import Numerical
from feller.data.tables.schema import Schema, parse_schema, read_schema, schema_text, write_schema
from feller.data.tables.unmodelled_columns import Derived, FreeText, Identifier

WHOLE = Schema(
    (
        Identifier("id", "C-{######}"),
        Numerical("age", 0.0, 99.0, edges=(15.0, 30.0), missing="N", also_missing=("NA",), dtype="int64"),
        Numerical("pay", 0.0, 10.5, bins=4, heavy=(0.0,), form=NumberForm(2, 0, thousands=",", before="$")),
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


def test_json_there_and_back(tmp_path: pathlib.Path) -> None:
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
    assert from_data(Schema, json.loads(json.dumps(to_data(WHOLE)))) == WHOLE


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=40).map(str.strip), min_size=1, unique=True
    )
)
def test_any_words(words: list[str]) -> None:
    schema = Schema((Categorical(words[0] or "x", tuple(words)),))
    assert parse_schema(schema_text(schema)) == schema


def test_numbers_are_words_where_words_are_meant() -> None:
    columns = {
        "a": {"kind": "categorical", "values": [1, 2], "missing": 9},
        "b": {"kind": "boolean", "true": 1, "false": 0},
    }
    said = json.dumps({"columns": columns})
    schema = parse_schema(said)
    assert schema.columns == (Categorical("a", ("1", "2"), missing="9"), Boolean("b", "1", "0"))
    assert schema.counts == (3, 2)


def changed(**columns: object) -> str:
    usual: dict[str, object] = {"age": {"kind": "numerical", "low": 0, "high": 9}}
    return json.dumps({"columns": usual | columns}, indent=1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{\n"columns": {\n"a" {}}}', "line 3 is no JSON"),
        ("[]", "expected an object with"),
        ("[" * 100_000, "JSON"),
        ('{"columns": {}}', "expected an object with"),
        ('{"columns": {"a": {"kind": "boolean"}, "a": {"kind": "boolean"}}}', "'a' stands twice"),
        ('{"columns": {"a": {"kind": "boolean"}}, "rule": []}', "no part 'rule': did you mean 'rules'"),
        (
            '{"columns": {"a": {"kind": "boolean"}}, "outside": "ignore"}',
            "outside: expected refuse or clip, got 'ignore'",
        ),
        (
            '{"columns": {"a": {"kind": "boolean", "true": "y", "false": "n"}}, "unit": "person"}',
            'expected the unit "row", or the identifier',
        ),
        ('{"columns": {"a": {"kind": "boolean"}}, "unit": 1}', "unit: expected the name"),
        ('{"columns": {"a": {"kind": "boolean"}}, "rules": {}}', "rules: expected a list"),
        ('{"columns": {"a": {"kind": "boolean"}}, "rules": [1]}', "rule 1: expected"),
        (
            '{"columns": {"a": {"kind": "boolean"}}, "rules": [{"if": {"a": ["True"]}, "then": {"b": ["x"]}}]}',
            "column 'b'",
        ),
        (changed(job=3), "line 8: column 'job': expected"),
        (changed(job={"kind": "word"}), "line 8: column 'job': there is no kind 'word'"),
        (changed(job={"kind": "categorical"}), "line 8: column 'job': .*values"),
        (
            changed(job={"kind": "categorical", "value": ["a"]}),
            "categorical columns have no 'value': did you mean 'values'",
        ),
        (changed(job={"kind": "categorical", "values": "ab"}), "line 8: column 'job': values: expected a list"),
        (changed(job={"kind": "categorical", "values": [1.5]}), "column 'job'.*expected str, got 1.5"),
        (
            changed(age={"kind": "numerical", "low": "0", "high": 9}),
            "line 3: column 'age': low: expected float, got '0'",
        ),
        (changed(age={"kind": "numerical", "low": 0, "high": 9, "edges": [5, 3]}), "column 'age'.*ascending"),
        (changed(age={"kind": "numerical", "low": 0, "high": 9, "form": {"decimal": 1}}), "column 'age'.*decimal"),
        (changed(e={"kind": "derived", "source": "job", "mapping": {"1": "a"}}), "'e': expected a source"),
        (changed(e={"kind": "derived", "source": "age", "mapping": {"1": "a"}}), "says nothing for age = '0'"),
        ('{"columns": {"a": {"kind": "text"}}}', "no column is left"),
        ('{"columns": {" a": {"kind": "boolean"}}}', "without blanks"),
    ],
)
def test_wrong_schemas(text: str, said: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "s.json"
    path.write_text(text)
    with pytest.raises(InputError, match=said) as found:
        read_schema(path)
    assert str(path) in str(found.value)
    assert "\n" not in str(found.value)


def test_no_file(tmp_path: pathlib.Path) -> None:
    with pytest.raises(InputError, match="feller data schema"):
        read_schema(tmp_path / "s.json")
    (tmp_path / "s.json").write_bytes(b'{"\xff')
    with pytest.raises(InputError, match="byte 0xff"):
        read_schema(tmp_path / "s.json")
    with pytest.raises(InputError, match="cannot write"):
        write_schema(WHOLE, tmp_path / "none" / "s.json")


def test_units_and_twins() -> None:
    with pytest.raises(InputError, match="two columns are called 'a'"):
        Schema((Boolean("a"), Boolean("a")))
    with pytest.raises(InputError, match="or the identifier that tells people apart, got 'household'"):
        Schema((Boolean("a"), Categorical("household", ("1", "2"))), unit="household")
    with pytest.raises(InputError, match="too many numbers"):
        Schema((Numerical("n", 0.0, 1e6), Derived("m", "n", {"1": "a"})))


def test_the_target_is_a_column_that_is_learned() -> None:
    columns = WHOLE.columns
    assert WHOLE.modelled[WHOLE.aim].name == "smokes"
    assert Schema(columns).modelled[Schema(columns).aim].name == "seen"
    with pytest.raises(InputError, match="no model sees a column 'note'"):
        Schema(columns, target="note")
    with pytest.raises(InputError, match="target: expected the name of a column, got 3"):
        parse_schema('{"target": 3, "columns": {"a": {"kind": "boolean", "true": "y", "false": "n"}}}')
