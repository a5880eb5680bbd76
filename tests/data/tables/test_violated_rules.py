"""Rows to complete whose observed cells violate a rule of a schema that was detected from other rows."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from feller.core.errors import InputError
from feller.data.tables.dataframes import from_frame
from feller.data.tables.encoding import observed_cells
from feller.data.tables.schema_detection import detect_schema


def test_the_second_cell_counts_as_unobserved_if_the_schema_imputes() -> None:
    low = np.random.default_rng(0).integers(0, 50, 400)
    frame = pd.DataFrame({"low": low, "high": low + np.random.default_rng(1).integers(0, 50, 400)})
    schema = detect_schema(from_frame(frame))
    assert len(schema.pairs) == 1
    broken = from_frame(pd.DataFrame({"low": [5, 49], "high": [60, 1]}))
    with pytest.raises(InputError) as caught:
        observed_cells(broken, schema)
    assert caught.value.row is not None
    _, observed = observed_cells(broken, replace(schema, outside="impute"))
    assert observed[0].all()
    assert observed[1].sum() == 1
