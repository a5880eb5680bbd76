"""Columns of many values: codes of groups, samples, conditions, and groups found from noisy counts."""

import numpy as np
import pytest
import torch

from feller.core.errors import InputError
from feller.data.loading.raw import text_array
from feller.data.tables.column import Boolean, Categorical
from feller.data.tables.given_cells import ColumnChoice, given_cells
from feller.data.tables.grouped_column import Grouped
from feller.data.tables.modality import Table
from feller.data.tables.private_groups import REST, group_values, prefix_lengths
from feller.data.tables.schema import Schema, parse_schema, schema_text
from tests.errors import refuses

ICD = Grouped("icd", ("I10",), {"E11*": ("E11.0", "E11.1", "E11.9"), REST: ("A00", "Z99")}, missing="")


def test_values_of_a_group_share_a_code() -> None:
    words = text_array(["I10", "E11.0", "E11.9", "Z99", "X", ""])
    assert ICD.codes(words).tolist() == [0, 1, 1, 2, -1, 3]
    assert (ICD.num_codes, ICD.value_names) == (4, ("I10", "E11*", REST))
    uniforms = (np.arange(300) + 0.5) / 300
    cells = ICD.cells(np.ones(300, dtype=np.int64), uniforms).to_pylist()
    assert [cells.count(word) for word in ("E11.0", "E11.1", "E11.9")] == [100, 100, 100]
    other = Grouped("x", ("a",), {"g": ("b", "c")}, "rest")
    assert other.codes(text_array(["a", "rest", "b", "unheard of"])).tolist() == [0, 1, 2, 1]


def test_groups_survive_a_file() -> None:
    schema = Schema((ICD, Boolean("b")))
    assert parse_schema(schema_text(schema)) == schema
    for values, groups in ((("a", "b"), {"g": ("b",)}), ((), {}), (("a",), {"g": ()}), (("g",), {"g": ("a",)})):
        with refuses(InputError, column="x"):
            Grouped("x", values, groups)


def test_given_values_of_a_group_appear_in_rows() -> None:
    table = Table(Schema((ICD, Boolean("b"))))
    rows = torch.tensor([[1, 0], [1, 1]] * 50)
    one = table.with_given(rows, given_cells({"icd": "E11.1"}, table.schema))
    assert set(one.column("icd")) == {"E11.1"}
    some = table.with_given(rows, given_cells({"icd": ["E11.0", "E11.9", "I10"]}, table.schema))
    assert set(some.column("icd")) <= {"E11.0", "E11.9"}
    choice = ColumnChoice(ICD, ((0, 0), (1, 1), (3, 3)))
    assert choice.fractions(torch.tensor([0, 1, 2])).tolist() == pytest.approx([1, 2 / 3, 0])


def test_groups_of_codes_have_common_prefixes() -> None:
    """Two frequent codes stay alone; of the rest, E11 has enough rows for a group, E05 and Z50 have not."""
    words = tuple(f"{chapter}.{i}" for chapter in ("E11", "E05", "Z50") for i in range(10))
    assert prefix_lengths(words) == (4, 1)
    assert prefix_lengths(("baker", "butter", "diner")) == ()
    counts = dict.fromkeys(words, 0.0)
    counts |= {"E11.0": 900.0, "Z50.3": 500.0} | {f"E11.{i}": 50.0 for i in range(1, 10)}
    counts |= {f"E05.{i}": 9.0 for i in range(10)}
    prefix_counts = {
        prefix: sum(count for word, count in counts.items() if word.startswith(prefix))
        for prefix in ("E11.", "E05.", "Z50.", "E", "Z")
    }
    column = group_values(Categorical("x", words, missing=""), counts, prefix_counts, 20.0)
    assert column.values == ("E11.0", "Z50.3")
    assert {*column.words} == {*words}
    assert {name: len(members) for name, members in column.groups.items()} == {"E11.*": 9, REST: 19}
    less_noise = group_values(Categorical("x", words, missing=""), counts, prefix_counts, 13.0)
    assert {name: len(members) for name, members in less_noise.groups.items()} == {"E11.*": 9, "E05.*": 10, REST: 9}


def test_words_without_a_structure_have_one_group() -> None:
    words = tuple(f"{a}{b}" for a in "abcdef" for b in ("aker", "utter", "iner"))
    column = group_values(
        Categorical("x", words, "OTHER"), {word: 400.0 * (word == "baker") for word in words}, {}, 20.0
    )
    assert column.values == ("baker",)
    assert column.other == "OTHER"
    assert [*column.groups] == [REST]
    kept = group_values(Categorical("x", words), dict.fromkeys(words, 0.0), {}, 20.0, {"diner"})
    assert kept.values == ("diner",)
