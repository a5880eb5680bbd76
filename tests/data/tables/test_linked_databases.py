"""Several tables of a database: keys that it declares, selected tables, and databases that cannot be used."""

import pathlib

import pytest
import sqlalchemy as sql

import feller
from feller.core.errors import InputError, UsageError
from feller.data.tables.linked_tables import LinkedTables
from tests.data.tables.test_linked_tables import shop
from tests.errors import refuses

STATEMENTS = (
    "CREATE TABLE clients (nr INTEGER PRIMARY KEY, country TEXT)",
    "CREATE TABLE bills (code TEXT PRIMARY KEY, buyer INTEGER REFERENCES clients (nr), amount INTEGER)",
    "CREATE TABLE lines (bill TEXT REFERENCES bills (code), place INTEGER, kind TEXT, PRIMARY KEY (bill, place))",
    "CREATE VIEW few AS SELECT country FROM clients",
)


def database(path: pathlib.Path, statements: tuple[str, ...] = STATEMENTS) -> str:
    """Create a database, with 30 clients, 60 bills and 120 lines if it has their tables; return its URL."""
    url = f"sqlite:///{path}/clients.db"
    engine = sql.create_engine(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(sql.text(statement))
        if statements == STATEMENTS:
            for i in range(30):
                connection.execute(sql.text(f"INSERT INTO clients VALUES ({i + 7}, '{'DE' if i % 3 else 'FR'}')"))
            for i in range(60):
                connection.execute(sql.text(f"INSERT INTO bills VALUES ('b{i}', {i // 2 + 7}, {i % 5})"))
                connection.execute(sql.text(f"INSERT INTO lines VALUES ('b{i}', 1, 'x'), ('b{i}', 2, 'y')"))
    engine.dispose()
    return url


def linked(source: str, **options: str) -> LinkedTables:
    modality = feller.read(source, **options).modality.view(LinkedTables)  # pyrefly: ignore
    assert modality is not None
    return modality


def test_declared_keys_are_used(tmp_path: pathlib.Path) -> None:
    """The columns have names that do not sound like keys of the tables to which they refer."""
    links = linked(database(tmp_path)).links
    assert [table.name for table in links.tables] == ["clients", "bills", "lines"]
    assert [table.primary_key for table in links.tables] == [("nr",), ("code",), ("bill", "place")]
    assert links.tables[1].foreign_keys[0].columns == ("buyer",)
    assert [links.tables[parent].name for parent in links.parents] == ["clients", "bills"]
    schema = feller.infer_schema(f"sqlite:///{tmp_path}/clients.db")
    assert schema["persons"] == "clients"


def test_tables_are_selected(tmp_path: pathlib.Path) -> None:
    links = linked(f"{database(tmp_path)}#clients,bills").links
    assert [table.name for table in links.tables] == ["clients", "bills"]
    assert len(feller.read(f"sqlite:///{tmp_path}/clients.db#bills").values) == 60


def test_keys_that_are_not_declared_are_found(tmp_path: pathlib.Path) -> None:
    engine = sql.create_engine(url := f"sqlite:///{tmp_path}/shop.db")
    for name, frame in shop().items():
        frame.to_sql(name, engine, index=False)
    engine.dispose()
    links = linked(url, person="customers").links
    assert [table.name for table in links.tables] == ["customers", "orders", "tickets", "items"]
    assert [table.name for table in links.lookups] == ["products"]


def test_bad_databases(tmp_path: pathlib.Path) -> None:
    for name, statements, kind in (
        ("empty", (), UsageError),
        ("views", (STATEMENTS[0], "CREATE VIEW few AS SELECT country FROM clients"), UsageError),
        ("rows", STATEMENTS[:2], InputError),
    ):
        (tmp_path / name).mkdir()
        with refuses(kind):
            feller.read(database(tmp_path / name, statements))
    with refuses(UsageError):
        feller.read(f"{database(tmp_path)}#clients,cheques")


def test_cycles_of_declared_keys(tmp_path: pathlib.Path) -> None:
    statements = (
        "CREATE TABLE staff (nr INTEGER PRIMARY KEY, team INTEGER REFERENCES teams (nr), age INTEGER)",
        "CREATE TABLE teams (nr INTEGER PRIMARY KEY, head INTEGER REFERENCES staff (nr), size INTEGER)",
        "INSERT INTO staff VALUES (1, 11, 30), (2, 11, 40), (3, 12, 50)",
        "INSERT INTO teams VALUES (11, 1, 2), (12, 3, 1)",
    )
    with refuses(InputError):
        feller.read(database(tmp_path, statements))


def test_keys_of_tables_with_the_name_of_a_database(tmp_path: pathlib.Path) -> None:
    links = linked(f"{database(tmp_path)}#main.clients,bills").links
    assert [table.name for table in links.tables] == ["main.clients", "bills"]
    assert links.tables[1].foreign_keys[0].table == "main.clients"


def test_declared_keys_of_unknown_tables_or_columns_are_ignored(tmp_path: pathlib.Path) -> None:
    statements = (
        "CREATE TABLE clients (nr INTEGER PRIMARY KEY, country TEXT)",
        "CREATE TABLE parts (a INTEGER, b INTEGER, PRIMARY KEY (a, b))",
        "CREATE TABLE bills (code INTEGER PRIMARY KEY, buyer INTEGER REFERENCES clients, part INTEGER REFERENCES parts,"
        " shop INTEGER REFERENCES shops (nr), amount INTEGER)",
        *(f"INSERT INTO clients VALUES ({i}, '{'DE' if i % 3 else 'FR'}')" for i in range(9)),
        *(f"INSERT INTO bills VALUES ({i}, {i // 2}, {i % 4}, {i % 3}, {i % 5})" for i in range(18)),
    )
    links = linked(f"{database(tmp_path, statements)}#clients,bills").links
    assert [(key.columns, key.table) for key in links.tables[1].foreign_keys] == [(("buyer",), "clients")]


def test_private_fits_of_several_tables_need_a_schema(tmp_path: pathlib.Path) -> None:
    for selection in ("", "#clients,bills"):
        with pytest.raises(UsageError, match="would be inferred from its cells"):
            feller.fit(f"{database(tmp_path)}{selection}", epsilon=3.0, out=str(tmp_path / "run"))
        (tmp_path / "clients.db").unlink()
