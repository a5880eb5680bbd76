"""Several tables linked by keys: keys found, rows grouped, codes and cells in both directions, wrong keys."""

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import feller
from feller.core.errors import InputError, UsageError
from feller.core.rng import Rng
from feller.data.loading.linked_files import load_tables
from feller.data.modality import Dataset
from feller.data.tables.key_detection import detect_linked_schema
from feller.data.tables.linked_schema import LinkedSchema, separate_schema
from feller.data.tables.linked_schema_files import linked_schema_of, linked_schema_text
from feller.data.tables.linked_tables import LinkedTables
from tests.errors import refuses

Frames = dict[str, pd.DataFrame]


def shop(n: int = 60, seed: int = 0) -> Frames:
    """Return customers with orders and tickets, items of orders, and a lookup table of products."""
    rng = np.random.default_rng(seed)
    customers = pd.DataFrame(
        {
            "customer_id": [f"C{i:04}" for i in range(n)],
            "country": rng.choice(["DE", "FR"], n),
            "age": rng.integers(18, 80, n),
        }
    )
    orders, items, tickets = [], [], []
    for i in range(n):
        day = pd.Timestamp("2024-01-01") + pd.Timedelta(days=int(rng.integers(0, 100)))
        for _ in range(rng.integers(0, 4)):
            order = f"O{len(orders):05}"
            orders.append((order, f"C{i:04}", day, rng.choice(["web", "shop"])))
            items += [
                (order, line, f"P{rng.integers(0, 5)}", int(rng.geometric(0.5)))
                for line in range(1, rng.integers(1, 4))
            ]
            day += pd.Timedelta(days=int(rng.choice([7, 30])))
        tickets += [(f"C{i:04}", rng.choice(["late", "broken"])) for _ in range(rng.integers(0, 3))]
    return {
        "items": pd.DataFrame(items, columns=["order_id", "line", "product_id", "quantity"]),
        "customers": customers,
        "orders": pd.DataFrame(orders, columns=["order_id", "customer_id", "date", "channel"]),
        "tickets": pd.DataFrame(tickets, columns=["customer_id", "reason"]),
        "products": pd.DataFrame({"product_id": [f"P{i}" for i in range(5)], "price": [3.5, 2, 9, 10, 7]}),
    }


def read(frames: Frames, **options: str | int | LinkedSchema) -> tuple[Dataset, LinkedTables]:
    data = feller.read(frames, **options)  # pyrefly: ignore
    modality = data.modality.view(LinkedTables)
    assert modality is not None
    return data, modality


def test_keys_are_found() -> None:
    _, modality = read(shop())
    links = modality.links
    assert [table.name for table in links.tables] == ["customers", "orders", "tickets", "items"]
    assert [table.primary_key for table in links.tables] == [("customer_id",), ("order_id",), (), ("order_id", "line")]
    assert [links.tables[parent].name for parent in links.parents] == ["customers", "customers", "orders"]
    assert [table.name for table in links.lookups] == ["products"]
    assert {key.table for key in links.tables[3].foreign_keys} == {"orders", "products"}


@pytest.mark.parametrize("order", [None, "orders.date", "date"])
def test_tables_come_back(order: str | None) -> None:
    """Categories, counts and links of the decoded tables are those of the real ones, with new keys."""
    frames = shop()
    data, modality = read(frames) if order is None else read(frames, order=order)
    made = modality.frames(data.values)
    assert {*made} == {"customers", "orders", "tickets", "items"}
    for name, frame in made.items():
        assert list(frame) == list(frames[name])
        assert len(frame) == len(frames[name])
    pd.testing.assert_series_equal(made["orders"].channel, frames["orders"].channel, check_dtype=False)
    pd.testing.assert_series_equal(made["items"].product_id, frames["items"].product_id, check_dtype=False)
    assert (made["items"].line.astype(int) == frames["items"].line).all()
    for child, key, parent in (("orders", "customer_id", "customers"), ("items", "order_id", "orders")):
        assert made[child][key].isin(made[parent][key]).all()
        sizes = [t[child].groupby(t[child][key]).size().reindex(t[parent][key], fill_value=0) for t in (made, frames)]
        assert sizes[0].tolist() == sizes[1].tolist()
    assert made["orders"].order_id.is_unique
    assert not made["items"].duplicated(["order_id", "line"]).any()
    again, _ = modality.values_from_raw(load_tables(made))
    if order is None:
        torch.testing.assert_close(again, data.values)
    else:  # numbers within bins are sampled again, so the order of equal dates may change
        assert made["orders"].groupby("customer_id").date.diff().dropna().min() >= pd.Timedelta(0)
    torch.testing.assert_close(modality.decode(modality.encode(data.values)), data.values)


def test_order_of_rows_does_not_matter() -> None:
    """Children follow their parents in their own order, wherever parents and children stand in their files."""
    frames = shop()
    data, _ = read(frames, order="date")
    orders = frames["orders"].sample(frac=1, random_state=1)
    shuffled = frames | {"orders": orders, "items": frames["items"].sort_values(["line", "order_id"])}
    other, _ = read(shuffled, order="date")
    torch.testing.assert_close(other.values, data.values)


def test_schema_is_written_and_read() -> None:
    schema = detect_linked_schema(load_tables(shop()), order="date")
    text = linked_schema_text(schema, draft=True)
    content = json.loads(text)
    assert content["draft"] is True
    assert content["tables"]["items"]["foreign_keys"] == [
        {"columns": ["order_id"], "table": "orders"},
        {"columns": ["product_id"], "table": "products"},
    ]
    again = linked_schema_of(content)
    assert again == schema
    data, _ = read(shop(), schema=schema)
    assert data.values.shape[0] == 60


def test_columns_may_have_the_names_of_parts_of_a_schema() -> None:
    """A column named like a field of the schema, such as the unit of a quantity, stays in the written schema."""
    frames = shop()
    frames["items"]["unit"] = "kg"
    schema = detect_linked_schema(load_tables(frames))
    assert linked_schema_of(json.loads(linked_schema_text(schema))) == schema


def test_windows_count_consecutive_rows_of_a_kind() -> None:
    data, modality = read(shop(200))
    u = torch.rand(200, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    windows = modality.windows_of(data.values, u)
    persons, rows = modality.split(data.values)
    for i in range(200):
        later = int(persons[i, 0]) + modality.history.min_rows - 1
        step, run = (1 + int(u[i] * later), 1) if later > 0 else (0, 0)
        while step - run > 0 and rows[i, step - 1 - run, 0] == rows[i, step - 1, 0]:
            run += 1
        assert windows[i, -2] == run
        assert windows[i, -1] == min(max(later - step, 0), 3)
    for rule in modality.windows.space.constraints:
        assert rule.allowed_mask()[windows[:, rule.first], windows[:, rule.second]].all()


def test_windows_keep_the_numbers_of_children() -> None:
    """With exact conditional probabilities of the next kind, simulated orders have as many items as real ones."""
    data, modality = read(shop(600))
    generator = torch.Generator().manual_seed(0)
    u = torch.rand(30, 600, generator=generator, dtype=torch.float64)
    known = torch.cat([modality.windows_of(data.values, each) for each in u])
    a, k = len(modality.persons.counts), len(modality.rows.counts)
    kind, before = a, [a + k, a + 2 * k, a + 2 * k + 1]

    def sample(windows: torch.Tensor, observed: torch.Tensor, rng: Rng) -> torch.Tensor:
        made = windows.clone()
        for i in range(len(windows)):
            columns = [j for j in (kind, *before) if observed[i, j]]
            fits = (known[:, columns] == windows[i, columns]).all(1).nonzero()[:, 0]
            if not len(fits):  # a kind that was chosen because few rows are left
                fits = (known[:, kind] == windows[i, kind]).nonzero()[:, 0]
            drawn = known[fits[int(torch.randint(len(fits), (), generator=generator))]]
            made[i] = torch.where(observed[i], windows[i], drawn)
        return made

    made = modality.sample_windows(sample, 1000, Rng(0))
    shares = []
    for values in (data.values, made):
        tree = modality.tree(values)
        items, orders = (
            next(i for i, t in enumerate(modality.links.tables) if t.name == n) for n in ("items", "orders")
        )
        numbers = np.bincount(tree.parents[items], minlength=len(tree.rows[orders]))
        shares.append(np.bincount(numbers, minlength=9)[:9] / len(numbers))
    assert abs(np.cumsum(shares[0]) - np.cumsum(shares[1])).max() < 0.06


def test_rows_after_the_maximum_are_dropped() -> None:
    data, modality = read(shop(), max_rows=3)
    assert int(modality.lengths(data.values).max()) == 3
    made = modality.frames(data.values)
    assert made["items"].order_id.isin(made["orders"].order_id).all()
    assert any("not used" in note for note in data.notes)


def test_composite_keys_and_one_to_one() -> None:
    """A key of two columns is copied to the children; a table whose key is its foreign key has one row per parent."""
    stores = pd.DataFrame({"region": ["N", "N", "S"], "store_no": [1, 2, 1], "size": ["a", "b", "a"]})
    staff = pd.DataFrame({"region": ["N", "N", "S"], "store_no": [1, 1, 1], "role": ["x", "y", "x"]})
    details = pd.DataFrame({"region": ["N", "S"], "store_no": [2, 1], "open": ["yes", "no"]})
    identifier, word = {"kind": "identifier"}, lambda *values: {"kind": "categorical", "values": list(values)}
    foreign = [{"columns": ["region", "store_no"], "table": "stores"}]
    keys = {"region": {"kind": "identifier"}, "store_no": identifier}
    tables = {
        "stores": {
            "primary_key": ["region", "store_no"],
            "columns": {"region": word("N", "S"), "store_no": identifier, "size": word("a", "b")},
        },
        "staff": {"foreign_keys": foreign, "columns": {**keys, "role": word("x", "y")}},
        "details": {
            "primary_key": ["region", "store_no"],
            "foreign_keys": foreign,
            "columns": {**keys, "open": word("yes", "no")},
        },
    }
    schema = linked_schema_of({"persons": "stores", "max_rows": 5, "tables": tables})
    data, modality = read({"stores": stores, "staff": staff, "details": details}, schema=schema)
    made = modality.frames(data.values)
    assert made["stores"].region.tolist() == ["N", "N", "S"]
    assert not made["stores"].duplicated(["region", "store_no"]).any()
    merged = made["staff"].merge(made["stores"], on=["region", "store_no"])
    assert merged.role.tolist() == ["x", "y", "x"]
    assert modality.links.is_single(2)
    kinds = modality.space().kinds
    assert kinds[1].successors == ()
    assert kinds[0].successors == (0, 1)


def _orphan(frames: Frames) -> Frames:
    items = frames["items"].copy()
    items.loc[3, "order_id"] = "O99999"
    return frames | {"items": items}


def _duplicate(frames: Frames) -> Frames:
    customers = frames["customers"].copy()
    customers.loc[5, "customer_id"] = "C0004"
    return frames | {"customers": customers}


def _no_key(frames: Frames) -> Frames:
    orders = frames["orders"].copy()
    orders["customer_id"] = orders.customer_id.where(orders.index != 2, None)
    return frames | {"orders": orders}


@pytest.mark.parametrize(
    ("change", "table", "column", "row"),
    [
        (_orphan, "items", "order_id", 4),
        (_duplicate, "customers", "customer_id", 6),
        (_no_key, "orders", "customer_id", 3),
    ],
)
def test_wrong_keys_are_refused(change: Callable[[Frames], Frames], table: str, column: str, row: int) -> None:
    schema = detect_linked_schema(load_tables(shop()))
    with refuses(InputError, place=table, column=column, row=row):
        feller.read(change(shop()), schema=schema)


def test_numbers_restart_for_the_row_whose_key_they_complete() -> None:
    """A key of a customer and a number is unique, although the rows belong to orders of customers."""
    frames = shop()
    lines = frames["items"].merge(frames["orders"][["order_id", "customer_id"]], on="order_id")
    lines["seq"] = lines.groupby("customer_id").cumcount() + 1
    content = json.loads(linked_schema_text(detect_linked_schema(load_tables(frames))))
    items = content["tables"]["items"]
    items["primary_key"] = ["customer_id", "seq"]
    items["foreign_keys"].append({"columns": ["customer_id"], "table": "customers"})
    items["columns"] |= {"customer_id": {"kind": "identifier"}, "seq": {"kind": "identifier"}}
    items["columns"]["line"] = {"kind": "skip"}
    data, modality = read(frames | {"items": lines}, schema=linked_schema_of(content))
    made = modality.frames(data.values)["items"]
    assert not made.duplicated(["customer_id", "seq"]).any()
    assert made.seq.astype(int).max() == lines.seq.max()


def test_persons_with_one_row_per_table_have_few_rows() -> None:
    """Histories cannot be longer than their tables allow."""
    customers = pd.DataFrame({"customer_id": range(1, 31), "vip": ["a", "b"] * 15})
    details = pd.DataFrame({"customer_id": range(1, 30, 2), "note": ["x", "y", "x"] * 5})
    extras = pd.DataFrame({"customer_id": range(1, 31, 3), "kind": ["u", "v"] * 5})
    tables = {"customers": customers, "details": details, "extras": extras}
    data, modality = read(tables, person="customers", max_rows=9)
    assert modality.history.max_rows == 2
    assert modality.space().max_following.tolist() == [1, 0]
    made = modality.frames(data.values)
    assert (len(made["details"]), len(made["extras"])) == (15, 10)


def test_keys_of_lookup_tables_may_be_missing() -> None:
    frames = shop()
    frames["items"]["product_id"] = frames["items"].product_id.where(frames["items"].index % 3 > 0, None)
    frames["products"] = pd.concat([frames["products"], pd.DataFrame({"product_id": ["P77"], "price": [1.0]})])
    data, modality = read(frames)
    made = modality.frames(data.values)["items"]
    assert (made.product_id.isna() == frames["items"].product_id.isna()).all()
    assert "P77" in modality.schema.by_name["items.product_id"].values  # never bought, but public


def test_keys_of_persons_are_checked() -> None:
    frames = shop()
    customers = frames["customers"].assign(region_id=["R1", "R2", "R3"] * 20)
    regions = pd.DataFrame({"region_id": ["R1", "R2", "R3"], "name": ["a", "b", "a"]})
    feller.read(frames | {"customers": customers, "regions": regions}, person="customers")
    customers.loc[4, "region_id"] = "R9"
    with refuses(InputError, place="customers", column="region_id", row=5):
        feller.read(frames | {"customers": customers, "regions": regions}, person="customers")


def test_two_keys_of_one_table_are_refused() -> None:
    content = json.loads(linked_schema_text(detect_linked_schema(load_tables(shop()))))
    content["tables"]["orders"]["foreign_keys"].append({"columns": ["channel"], "table": "customers"})
    with refuses(InputError, place="orders"):
        linked_schema_of(content)


def test_repeated_keys_are_refused_without_a_schema() -> None:
    with refuses(InputError, place="customers", column="customer_id", row=6):
        feller.read(_duplicate(shop()))


def test_a_repeated_key_of_named_persons_is_refused_without_a_schema() -> None:
    planes = pd.DataFrame({"tailnum": [f"N{i}" for i in range(20)], "seats": range(20)})
    flights = pd.DataFrame({"tailnum": [f"N{i % 20}" for i in range(60)], "day": range(60)})
    planes.loc[7, "tailnum"] = "N3"
    with refuses(InputError, place="planes", column="tailnum", row=8):
        detect_linked_schema(load_tables({"planes": planes, "flights": flights}), persons="planes")


def test_cycles_are_refused() -> None:
    schema = detect_linked_schema(load_tables(shop()))
    content = json.loads(linked_schema_text(schema))
    tables = content["tables"]
    tables["orders"]["foreign_keys"].append({"columns": ["channel"], "table": "tickets"})
    tables["tickets"]["primary_key"] = ["reason"]
    tables["tickets"]["foreign_keys"] = [{"columns": ["reason"], "table": "orders"}]
    with pytest.raises(InputError, match="cycle"):
        linked_schema_of(content)
    tables["tickets"]["foreign_keys"] = [{"columns": ["reason"], "table": "tickets"}]
    with pytest.raises(InputError, match="cycle"):
        linked_schema_of(content)


def test_unlinked_and_unknown_tables_are_refused() -> None:
    frames = shop()
    with refuses(InputError, argument="person"):
        feller.read(frames, person="client")
    alone = {"a": pd.DataFrame({"x": [1.5, 2.5]}), "b": pd.DataFrame({"y": [1.5, 2.5]})}
    with pytest.raises(InputError):
        feller.read(alone)
    schema = detect_linked_schema(load_tables(frames))
    with pytest.raises(InputError):
        replace(schema, persons="items")


def enrolments(n: int = 60) -> Frames:
    """Return students, their courses (many-to-many) and logins, both in tables of keys only."""
    rng = np.random.default_rng(0)
    students = pd.DataFrame({"student_id": [f"S{i:03}" for i in range(n)], "sex": rng.choice(["f", "m"], n)})
    courses = pd.DataFrame({"course_id": [f"K{j}" for j in range(6)], "title": list("abcdef")})
    chosen = [(f"S{i:03}", f"K{j}") for i in range(n) for j in rng.choice(6, rng.integers(0, 4), replace=False)]
    logins = [f"S{i:03}" for i in range(n) for _ in range(rng.integers(0, 5))]
    return {
        "students": students,
        "courses": courses,
        "enrolments": pd.DataFrame(chosen, columns=["student_id", "course_id"]),
        "logins": pd.DataFrame({"login_id": [f"L{i:05}" for i in range(len(logins))], "student_id": logins}),
    }


@pytest.mark.parametrize("has_attributes", [True, False])
def test_tables_of_keys_only(has_attributes: bool) -> None:
    """Numbers of rows per parent and keys of lookup tables are those of the real tables."""
    frames = enrolments()
    if not has_attributes:
        frames["students"] = frames["students"][["student_id"]]
    data, modality = read(frames, person="students")
    assert [table.name for table in modality.links.lookups] == ["courses"]
    assert not modality.schemas[2].modelled
    made = modality.frames(data.values)
    assert made["logins"].login_id.is_unique
    for name in ("enrolments", "logins"):
        for frame, key in ((frames[name], "real"), (made[name], "made")):
            assert len(frame) == len(frames[name]), key
        counts = [frame.groupby("student_id").size().value_counts().to_dict() for frame in (frames[name], made[name])]
        assert counts[0] == counts[1]
    pd.testing.assert_series_equal(
        made["enrolments"].course_id.value_counts().sort_index(),
        frames["enrolments"].course_id.value_counts().sort_index(),
    )
    assert [level.shape[1] for level in modality.levels(data.values)] == [int(has_attributes), 1, 0]
    schema = detect_linked_schema(load_tables(frames), "students")
    assert linked_schema_of(json.loads(linked_schema_text(schema))) == schema


def test_given_columns_are_of_persons() -> None:
    """Names may be qualified; columns of other tables, and names of two columns, are refused."""
    _, modality = read(shop())
    plain, qualified = (modality.given_cells({name: "FR"}) for name in ("country", "customers.country"))
    torch.testing.assert_close(plain.codes, qualified.codes)
    torch.testing.assert_close(plain.observed, qualified.observed)
    assert plain.observed.sum() == 1
    ages = [modality.given_cells({name: ("30", "40")}) for name in ("age", "customers.age")]
    assert [*ages[0].choices] == [*ages[1].choices] != []
    for name in ("orders.channel", "orders.country", "customers.channel", "channel"):
        with refuses(UsageError):
            modality.given_cells({name: "web"})
    frames = shop()
    frames["customers"]["customers.age"] = frames["customers"].age
    _, clashing = read(frames)
    with refuses(UsageError, argument="given"):
        clashing.given_cells({"customers.age": "30"})


@pytest.mark.parametrize("order", [None, "orders.date"])
def test_keys_are_noted_and_kept(order: str | None) -> None:
    """One note per table names its keys and its parent; the schema of the data is that which was detected."""
    data, modality = read(shop()) if order is None else read(shop(), order=order)
    for table, names in (
        ("customers", ("customer_id", "persons")),
        ("orders", ("order_id", "rows of customers by customer_id")),
        ("items", ("order_id, line", "rows of orders by order_id", "refers to products by product_id")),
    ):
        (note,) = (line for line in data.notes if f" {table} (" in line)
        assert all(name in note for name in names)
    found = separate_schema(modality.schema, modality.links)
    detected = detect_linked_schema(load_tables(shop()), order=order)
    assert found.schemas == detected.schemas
    assert {*found.keys} == {*detected.keys}
    assert linked_schema_of(json.loads(linked_schema_text(found))) == found


def test_a_single_table_of_identifiers_is_refused() -> None:
    table = pd.DataFrame({"login_id": [f"L{i:05}" for i in range(60)]})
    with refuses(InputError):
        feller.read(table, schema={"columns": {"login_id": {"kind": "identifier", "format": "L{#####}"}}})


def one_to_one(first: str, second: str, key: str) -> Frames:
    keys = [f"A{i:03}" for i in range(40)]
    return {
        first: pd.DataFrame({key: keys, "x": ["p", "q"] * 20}),
        second: pd.DataFrame({key: keys, "y": ["r", "s"] * 20}),
    }


@pytest.mark.parametrize("names", [("patients", "details"), ("details", "patients")])
def test_the_owner_of_a_key_is_its_table(names: tuple[str, str]) -> None:
    _, modality = read(one_to_one(*names, "patient_id"))
    assert [table.name for table in modality.links.tables] == ["patients", "details"]
    assert modality.links.is_single(1)


def test_tables_with_the_same_keys_need_a_name() -> None:
    frames = one_to_one("one", "two", "ref_id")
    with refuses(InputError, argument="person"):
        feller.read(frames)
    _, modality = read(frames, person="two")
    assert [table.name for table in modality.links.tables] == ["two", "one"]
