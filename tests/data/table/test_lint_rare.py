"""A draft of a schema is told of where it follows the rows."""

import numpy as np

from feller.data.found import FoundTable
from feller.data.table.categorical import Categorical
from feller.data.table.lint import rare
from feller.data.table.numerical import Numerical
from feller.data.table.schema import Schema


def test_words_of_few_rows_and_edges() -> None:
    jobs = ["clerk"] * 40 + ["falconer"] + ["nurse"] * 9
    found = FoundTable(np.array([[job, "5"] for job in jobs], dtype=object), columns=("job", "age"))
    schema = Schema((Categorical("job", ("clerk", "falconer", "nurse")), Numerical("age", 0.0, 9.0, edges=(3.0,))))
    first, second = rare(schema, found)
    assert "'falconer' (1), 'nurse' (9); take them out" in first
    assert "edges and bounds of age follow how many rows" in second
    assert rare(Schema((Categorical("job", ("clerk",)), Numerical("age", 0.0, 9.0, bins=3))), found) == ()
