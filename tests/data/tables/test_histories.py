"""Tables with several rows per person: grouping, codes, cells, detection, schemas, errors."""

import json
import pathlib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import feller
from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.core.serialization import from_dict, to_dict
from feller.data.modality import Modality
from feller.data.tables.dataframes import from_frame, to_frame
from feller.data.tables.histories import Histories
from feller.data.tables.history_rows import detect_history
from feller.data.tables.history_schema import HistorySchema
from feller.data.tables.numerical_column import Numerical
from feller.data.tables.schema import Schema, parse_schema, schema_text
from tests.errors import refuses


def visits(persons: int = 40, seed: int = 0) -> pd.DataFrame:
    """Visits in random order: sex per person, dates 1 to 30 days apart, a ward and a blood pressure per visit."""
    rng = np.random.default_rng(seed)
    rows = []
    for person in range(persons):
        sex, day = rng.choice(["F", "M"]), int(rng.integers(0, 300))
        for _ in range(rng.integers(1, 6)):
            date = pd.Timestamp("2020-01-01") + pd.Timedelta(days=day)
            ward, shift = rng.choice(["A", "B"]), rng.choice(["day", "night"])
            rows.append((f"P{person}", sex, date, ward, shift, int(rng.integers(90, 160))))
            day += int(rng.integers(1, 30))
    table = pd.DataFrame(rows, columns=["patient", "sex", "date", "ward", "shift", "pressure"])
    return table.sample(frac=1, random_state=seed).reset_index(drop=True)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return visits()


def test_persons_and_rows_are_read_in_order(table: pd.DataFrame) -> None:
    data = feller.read(table, person="patient", order="date")
    modality = data.modality.view(Histories)
    assert modality is not None
    assert modality.history.attributes == ("sex",)
    assert modality.history.max_rows == table.groupby("patient").size().max()
    lengths = table.groupby("patient", sort=False).size()
    assert modality.lengths(data.values).tolist() == lengths.tolist()
    written = modality.frame(data.values, {})
    ordered = table.assign(first=table.patient.map({name: i for i, name in enumerate(lengths.index)}))
    ordered = ordered.sort_values(["first", "date"], kind="stable")
    assert written.ward.tolist() == ordered.ward.tolist()
    assert written.sex.tolist() == ordered.sex.tolist()
    assert written.patient.tolist() == [f"P{i + 1}" for i in ordered["first"]]
    assert (written.dtypes == table.dtypes).all()


def test_dates_ascend_and_their_differences_stay_in_their_bins(table: pd.DataFrame) -> None:
    data = feller.read(table, person="patient", order="date")
    written = data.frame()
    expected = table.sort_values("date").groupby("patient").date.diff().dropna().dt.days
    found = written.groupby("patient").date.diff().dropna().dt.days
    gap = data.modality.view(Histories).history.gap  # type: ignore[union-attr]
    assert 0 <= gap.low < expected.min() + 1
    codes = [np.sort(gap.codes(gap.form.texts(np.array(days)))) for days in (found, expected)]
    assert (codes[0] == codes[1]).all()


def test_codes_are_tokens_and_back(table: pd.DataFrame) -> None:
    data = feller.read(table, person="patient", order="date")
    modality = data.modality
    assert torch.equal(modality.decode(modality.encode(data.values)), data.values)
    assert torch.equal(modality.values_from_raw(from_frame(data.frame()))[0], data.values)
    with_statistics = modality.with_statistics(data).modality.view(Histories)
    assert with_statistics is not None
    assert from_dict(Modality, to_dict(with_statistics)) == with_statistics
    assert with_statistics.attribute_marginals[1] == pytest.approx(
        [(table.drop_duplicates("patient").sex == sex).mean() for sex in ("F", "M")]
    )
    assert with_statistics.row_marginals[1] == pytest.approx([(table.ward == ward).mean() for ward in "AB"])


def test_order_may_be_numbers_or_that_of_the_file() -> None:
    table = pd.DataFrame(
        {"who": [2, 1, 2, 1], "time": [0.5, 1.25, -1.0, 1.0], "colour": ["red", "blue", "green", "red"]}
    )
    by_time = feller.read(table, person="who", order="time").frame()
    assert by_time.colour.tolist() == ["green", "red", "red", "blue"]
    assert by_time.groupby("who", sort=False).time.apply(lambda times: times.diff().iloc[1]).tolist() == [1.5, 0.25]
    assert feller.read(table.drop(columns="time"), person="who").frame().colour.tolist() == [
        "red",
        "green",
        "blue",
        "red",
    ]


def test_rows_after_the_maximum_are_dropped(table: pd.DataFrame) -> None:
    data = feller.read(table, person="patient", order="date", max_rows=2)
    modality = data.modality.view(Histories)
    assert modality is not None
    assert modality.lengths(data.values).max() == 2
    assert len(data.frame()) == table.groupby("patient").size().clip(upper=2).sum()
    first = table.sort_values("date").groupby("patient").head(2)
    assert sorted(data.frame().ward) == sorted(first.ward)
    assert any(str(len(table) - len(first)) in note for note in data.notes)


@pytest.mark.parametrize("groups", [0, 3])
def test_windows_have_one_row_per_person(table: pd.DataFrame, groups: int) -> None:
    data = feller.read(table, person="patient", order="date")
    modality = data.modality.view(Histories)
    assert modality is not None
    modality = replace(modality, window_groups=groups)
    lengths, rows = modality.lengths(data.values), modality.split(data.values)[1]
    first, last = (
        modality.windows_of(data.values, torch.full((len(data),), u, dtype=torch.float64)) for u in (0.0, 1 - 1e-9)
    )
    a, k, index = len(modality.persons.counts), len(modality.rows.counts), torch.arange(len(data))
    column = k - 1  # pressure
    count = modality.rows.counts[column]
    group = torch.arange(count) * groups // count if groups else torch.arange(count)
    several = lengths > 1
    for found, step in ((first, torch.ones_like(lengths)), (last, lengths - 1)):
        assert torch.equal(
            found[several, a + column], group[rows[index, step.clamp(max=rows.shape[1] - 1), column]][several]
        )
        assert torch.equal(found[several, a + k + column], group[rows[index, (step - 1).clamp(min=0), column]][several])
        assert torch.equal(found[~several, a + column], group[rows[~several, 0, column]])
        assert (found[~several, a + k + column] == group.max() + 1).all()
        assert modality.windows.space.encode(found).shape == found.shape
    sizes = [field.num_values for field in modality.windows.space.columns]
    assert (last < torch.tensor(sizes)).all()


@pytest.mark.parametrize("groups", [0, 3])
def test_histories_are_sampled_from_windows(table: pd.DataFrame, groups: int) -> None:
    """A sampler that alternates wards gives each row another ward than the row before."""
    data = feller.read(table, person="patient", order="date")
    modality = data.modality.view(Histories)
    assert modality is not None
    modality = replace(modality, window_groups=groups)
    a, k, ward = len(modality.persons.counts), len(modality.rows.counts), 1

    def sample(windows: torch.Tensor, mask: torch.Tensor, rng: Rng) -> torch.Tensor:
        drawn = windows.clone()
        count = modality.windows.space.columns[0].num_values
        drawn[:, 0] = torch.where(mask[:, 0], drawn[:, 0], torch.arange(len(drawn)) % count)
        drawn[:, a : a + k] = 0
        drawn[:, a + ward] = torch.where(mask[:, a + k + ward], (windows[:, a + k + ward] + 1) % 2, 1)
        return drawn

    values = modality.sample_windows(sample, 200, Rng(0))
    assert torch.equal(modality.decode(modality.encode(values)), values)
    lengths, rows = modality.lengths(values), modality.split(values)[1][..., ward]
    assert set(lengths.tolist()) == set(range(1, modality.history.max_rows + 1))
    for length, row in zip(lengths.tolist(), rows.tolist(), strict=True):
        assert row == [(step + 1) % 2 if step < length else 0 for step in range(len(row))]


def test_persons_are_raked_to_their_marginals(table: pd.DataFrame) -> None:
    data = feller.read(table, person="patient", order="date")
    modality = data.modality.view(Histories)
    assert modality is not None
    assert modality.with_statistics(data).modality.resample(data.values, 10, Rng(0)).shape == (10, data.values.shape[1])
    many = data.values.repeat(20, 1)
    counts = len(modality.persons.counts)
    shares = [(0.5, 0.125, 0.125, 0.125, 0.125), (0.25, 0.75)]
    uniform = [tuple([1 / count] * count) for count in modality.persons.counts[2:]]
    assert counts == 2 + len(uniform)
    marginals = (*shares, *uniform)
    raked = replace(modality, attribute_marginals=marginals).resample(many, 200, Rng(0))
    found = torch.bincount(modality.split(raked)[0][:, 1], minlength=2) / 200
    assert found[1] == pytest.approx(0.75, abs=0.1)
    with refuses(UsageError):
        modality.resample(many, 10, Rng(0))


def test_rules_hold_in_histories_from_windows() -> None:
    content = {**_columns(), "rules": [{"if": {"ward": ["A"]}, "then": {"shift": ["day"]}}]}
    modality = Histories(Schema.from_dict(content), window_groups=2)
    space = modality.windows.space
    values = modality.sample_windows(
        lambda windows, mask, rng: torch.where(mask, windows, space.sample_base(len(windows), rng.stream("x"))),
        100,
        Rng(1),
    )
    cells = modality.frame(values, {})
    assert (cells.ward == "A").any()
    assert (cells["shift"][cells.ward == "A"] == "day").all()


def test_schemas_are_written_and_read(table: pd.DataFrame, tmp_path: object) -> None:
    schema = detect_history(from_frame(table), "patient", "date")
    assert parse_schema(schema_text(schema)) == schema
    content = json.loads(schema_text(schema))
    assert content["history"]["order"] == "date"
    assert content["history"]["gap"]["low"] == 0
    data = feller.read(table, schema=schema)
    assert data.modality.view(Histories) is not None
    assert torch.equal(data.values, feller.read(table, person="patient", order="date").values)


def _columns(**changes: object) -> dict[str, object]:
    content = detect_history(from_frame(visits()), "patient", "date").to_dict()
    history = {**content["history"], **changes}  # type: ignore[dict-item]
    return {**content, "history": {name: value for name, value in history.items() if value is not None}}


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"order": "ward"}, {"column": "ward"}),
        ({"order": "day"}, {}),
        ({"attributes": ["sex", "patient"]}, {"column": "patient"}),
        ({"attributes": ["sex", "date"]}, {"column": "date"}),
        ({"attributes": ["sex", "ward", "shift", "pressure", "height"]}, {}),
        ({"max_rows": 1}, {}),
        ({"gap": None}, {}),
        ({"gap": {"low": -3, "high": 5}}, {}),
        ({"gap": 5}, {"argument": "history"}),
        ({"sorted": True}, {}),
    ],
)
def test_wrong_histories_of_schemas_are_refused(changes: dict[str, object], fields: dict[str, str]) -> None:
    with pytest.raises((InputError, UsageError)) as error:
        Schema.from_dict(_columns(**changes))
    assert all(getattr(error.value, name) == value for name, value in fields.items())
    assert "\n" not in str(error.value)


def test_rules_do_not_relate_persons_and_rows() -> None:
    content = _columns()
    rule = {"if": {"sex": ["F"]}, "then": {"ward": ["A"]}}
    with refuses(InputError):
        Schema.from_dict({**content, "rules": [rule]})
    of_rows = {"if": {"ward": ["A"]}, "then": {"shift": ["day"]}}
    assert Schema.from_dict({**content, "rules": [of_rows]}).history is not None


def test_cells_that_do_not_fit_are_located(table: pd.DataFrame) -> None:
    schema = detect_history(from_frame(table), "patient", "date")
    row = int(np.flatnonzero(table.duplicated("patient"))[0])
    other = table.assign(sex=[("M" if s == "F" else "F") if i == row else s for i, s in enumerate(table.sex)])
    with refuses(InputError, column="sex"):
        feller.read(other, schema=schema)
    empty = table.assign(patient=[None if i == 3 else p for i, p in enumerate(table.patient)])
    with refuses(InputError, row=4, column="patient"):
        feller.read(empty, person="patient", order="date")
    no_date = table.assign(date=[pd.NaT if i == 5 else d for i, d in enumerate(table.date)])
    with refuses(InputError, row=6, column="date"):
        feller.read(no_date, schema=schema)
    late = table.assign(date=[pd.Timestamp("2031-01-01") if i == 5 else d for i, d in enumerate(table.date)])
    with refuses(InputError, column="date"):
        feller.read(late, schema=schema)
    clipped = feller.read(late, schema=Schema.from_dict({**schema.to_dict(), "outside": "clip"}))
    assert clipped.frame().date.max() <= pd.Timestamp(str(schema.to_dict()["columns"]["date"]["last"]))  # type: ignore[index]


@pytest.mark.parametrize(
    ("person", "order", "argument"),
    [("patint", None, "person"), ("patient", "dates", "order"), (None, "date", "order")],
)
def test_unknown_columns_are_refused(table: pd.DataFrame, person: str | None, order: str | None, argument: str) -> None:
    with pytest.raises((InputError, UsageError)) as error:
        feller.read(table, person=person, order=order)
    assert argument in (error.value.argument or "") or argument in str(error.value)


def test_one_row_per_person_is_refused(table: pd.DataFrame) -> None:
    with refuses(InputError, column="patient"):
        feller.read(table.drop_duplicates("patient"), person="patient", order="date")
    with refuses(InputError, column="ward"):
        feller.read(table, person="patient", order="ward")
    with refuses(InputError):
        feller.read(table[["patient", "sex"]], person="patient")


def test_gaps_start_at_zero() -> None:
    with refuses(InputError, argument="gap"):
        HistorySchema("date", gap=Numerical("date", -1.0, 5.0))


def test_dates_that_would_pass_the_end_do_not_gather_there(table: pd.DataFrame) -> None:
    """Persons who would end late begin earlier; a given first date stays, and later dates stop at the end."""
    data = feller.read(table, person="patient", order="date")
    modality = data.modality.view(Histories)
    assert modality is not None
    values, first = data.values.clone(), modality.persons.schema.place("date")
    values[:, first] = modality.persons.counts[first] - 1  # the last bin of the first date
    last = pd.Timestamp(str(modality.order_column.last))  # type: ignore[union-attr]
    moved = modality.frame(values, {})
    assert moved.date.max() <= last
    assert (moved.date == last).mean() < 0.05
    days = [
        frame.groupby("patient").date.diff().dropna().dt.days.to_numpy()
        for frame in (moved, modality.frame(data.values, {}))
    ]
    assert (days[0] == days[1]).all()
    given = modality.given_cells({"date": str(modality.order_column.last)})  # type: ignore[union-attr]
    kept = to_frame(modality.with_given(values, given), modality.schema)
    assert (kept.date == last).all()


def test_given_numbers_are_written_as_given(table: pd.DataFrame, tmp_path: pathlib.Path) -> None:
    table = table.assign(age=table.patient.str[1:].astype(int) + 20)
    data = feller.read(table, person="patient", order="date")
    modality = data.modality.view(Histories)
    assert modality is not None
    given = modality.given_cells({"age": "33"})

    for name in ("rows.csv", "rows.npz"):
        modality.write_given(data.values[:1], given, tmp_path / name)
    written = pd.read_csv(tmp_path / "rows.csv")
    arrays = np.load(tmp_path / "rows.npz")
    assert set(written.age) == {33}
    assert {*arrays["samples"][:, arrays["columns"].tolist().index("age")]} == {"33"}
