"""A draft of a schema is told of where it follows the rows."""

import numpy as np

from feller.data.loading.raw import FoundTable
from feller.data.tables.column import Categorical
from feller.data.tables.dates import Datetime
from feller.data.tables.numerical import Numerical
from feller.data.tables.schema import Schema
from feller.data.tables.schema_lint import rare


def test_words_of_few_rows_and_edges() -> None:
    jobs = ["clerk"] * 40 + ["falconer"] + ["nurse"] * 9
    found = FoundTable(np.array([[job, "5"] for job in jobs], dtype=object), columns=("job", "age"))
    schema = Schema((Categorical("job", ("clerk", "falconer", "nurse")), Numerical("age", 0.0, 9.0, edges=(3.0,))))
    first, second = rare(schema, found)
    assert "'falconer' (1), 'nurse' (9); take them out" in first
    assert "bounds of age come from the rows" in second
    assert "edges follow how many lie where" in second
    assert rare(Schema((Categorical("job", ("clerk",)),)), found) == ()


def test_all_bounds_of_a_draft_come_from_the_rows() -> None:
    """Round numbers and dates, too: 42 stands above 40 days, the most that anybody was ill."""
    cells = [["1951-03-02", "40", "20000"]] * 30
    found = FoundTable(np.array(cells, dtype=object), columns=("born", "sick", "pay"))
    born = Datetime("born", "1951-01-01", "2005-12-31")
    (line,) = rare(Schema((born, Numerical("sick", 0.0, 42.0, bins=43), Numerical("pay", 0.0, 4e5))), found)
    assert "bounds of born, sick, pay come from the rows" in line
    assert "edges" not in line
