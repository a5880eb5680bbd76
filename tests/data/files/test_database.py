"""Tables of databases: types, order, quoting, passwords, and errors that name table, column and row."""

import datetime
import sqlite3

import numpy as np
import pandas as pd
import pytest

import feller
from feller.core.errors import InputError, UsageError
from feller.core.optional_dependency import NotInstalledError
from feller.data import database_urls
from feller.data.database_urls import connection_url, hide_password, is_database, selection_of, without_secrets
from feller.data.files import database
from feller.data.loading.file_formats import load_table
from tests.errors import refuses

ROWS = pd.DataFrame(
    {
        "id": [3, 1, 2],
        "total": [1.5, 20.0, np.nan],
        "count": pd.array([4, None, 6], dtype="Int64"),
        "paid": [True, False, True],
        "day": pd.to_datetime(["2024-01-31", "2023-05-01", "2024-02-29"]),
        'the "name"': ["a, b", None, "Zoë"],
    }
)


@pytest.fixture
def shop(tmp_path):
    import sqlalchemy as sql

    engine = sql.create_engine(f"sqlite:///{tmp_path}/shop.db")
    ROWS.set_index("id").to_sql("the orders", engine, dtype={"id": sql.Integer})
    pd.DataFrame({"a": [1]}).to_sql("other", engine, index=False)
    engine.dispose()
    return f"sqlite:///{tmp_path}/shop.db"


def test_types_are_those_of_the_database(shop):
    table = load_table(f"{shop}#the orders")
    assert table.columns == tuple(ROWS.columns)
    assert table.dtypes == ("int64", "float64", "Int64", "bool", "datetime64[us]", "object")
    assert table.column("day") == ["2024-01-31", "2023-05-01", "2024-02-29"]
    assert table.column("total") == ["1.5", "20", ""]
    assert table.column("count") == ["4", "", "6"]
    assert table.column("paid") == ["True", "False", "True"]
    assert table.column('the "name"') == ["a, b", "", "Zoë"]


def test_parts_are_equal_to_all_rows_at_once(shop, monkeypatch):
    whole = load_table(f"{shop}#the orders")
    monkeypatch.setattr(database, "ROWS_PER_FETCH", 1)
    parts = load_table(f"{shop}#the orders")
    assert parts.values.equals(whole.values)
    assert parts.dtypes == whole.dtypes


def test_rows_are_in_the_order_of_the_primary_key(tmp_path):
    with sqlite3.connect(tmp_path / "a.db") as connection:
        connection.execute("create table t (name text, k integer not null, primary key (k)) without rowid")
        connection.executemany("insert into t values (?, ?)", [("c", 3), ("a", 1), ("b", 2)])
    assert load_table(f"sqlite:///{tmp_path}/a.db#t").column("name") == ["a", "b", "c"]


def test_queries_and_data_sets(shop):
    table = load_table(f"{shop}#SELECT id, total FROM \"the orders\" WHERE total > 2 AND id * 1 < 9 -- '@' /")
    assert (table.columns, table.column("total")) == (("id", "total"), ["20"])
    kinds = {"id": {"kind": "identifier"}, "paid": {"kind": "boolean", "true": "True", "false": "False"}}
    others = {key: {"kind": "skip"} for key in ROWS.columns.difference(["id", "paid"])}
    data = feller.read(f"{shop}#the orders", schema={"columns": {**kinds, **others}})
    assert (
        data.values[:, 0].tolist() == feller.read(ROWS, schema={"columns": {**kinds, **others}}).values[:, 0].tolist()
    )


def test_unknown_tables_and_files(shop, tmp_path):
    with refuses(UsageError) as caught:
        load_table(f"{shop}#the order")
    assert "the orders" in str(caught.value)
    with refuses(UsageError, argument="data") as caught:
        load_table(shop)
    assert "other, the orders" in str(caught.value)
    with refuses(InputError, expected="a database file"):
        load_table(f"sqlite:///{tmp_path}/none.db#t")
    assert not (tmp_path / "none.db").exists()
    with refuses(InputError):
        load_table(f"{shop}#select nothing from nowhere")
    with refuses(InputError):
        (tmp_path / "no.db").write_text("these are words, and no database at all" * 100)
        load_table(f"sqlite:///{tmp_path}/no.db#t")
    with refuses(UsageError):
        load_table("nosuchdialect://host/db#t")


def test_values_of_other_types_name_row_and_column(tmp_path):
    with sqlite3.connect(tmp_path / "a.db") as connection:
        connection.execute("create table t (k integer, n integer, picture blob)")
        connection.executemany("insert into t values (?, ?, ?)", [(1, 1, b"x"), (2, 2, None), (3, "many", None)])
    url = f"sqlite:///{tmp_path}/a.db"
    with refuses(InputError, column="picture", row=1):
        load_table(f"{url}#select picture from t")
    with refuses(InputError, column="n", row=3):
        load_table(f"{url}#select n from t")
    with refuses(InputError):
        load_table(f"{url}#select k from t where k > 9")


def test_times_with_zones_are_in_utc():
    zone = datetime.timezone(datetime.timedelta(hours=2))
    values = [datetime.datetime(2024, 1, 1, 1, tzinfo=zone), None]
    series = database._series(values, "t", 1, "x")
    assert series.tolist() == [pd.Timestamp("2023-12-31 23:00"), pd.NaT]


@pytest.mark.parametrize(
    ("source", "safe", "address"),
    [
        ("sqlite:///a.db#t", "sqlite:///a.db#t", "sqlite:///a.db"),
        ("postgresql+psycopg://me:s%40cret@host:5432/db#a.b", "postgresql+psycopg://me@host:5432/db#a.b", None),
        ("mysql://host/db?user=me&password=secret#t", "mysql://host/db?user=me#t", None),
        ("mysql://host/db?password=secret#t", "mysql://host/db#t", None),
        ("mssql://?odbc_connect=PWD%3Dsecret#t", "mssql://#t", None),
        ("mysql://me@host/db#select '@#/' from t", "mysql://me@host/db#select '@#/' from t", "mysql://me@host/db"),
        ("mysql://h:33/db#select '@' from t", "mysql://h:33/db#select '@' from t", "mysql://h:33/db"),
    ],
)
def test_passwords_are_hidden_and_remembered(source, safe, address, monkeypatch):
    monkeypatch.setattr(database_urls, "_FULL", {})
    assert is_database(source)
    assert hide_password(source) == safe
    assert hide_password(safe) == safe
    assert connection_url(safe) == (address or source.rpartition("#")[0])
    assert selection_of(safe) == source.partition("#")[2]
    if address is None:
        message = without_secrets("login with s@cret, s%40cret or secret failed", safe)
        assert message.count("***") == (2 if "s%40cret" in source else 0 if "odbc" in source else 1)


@pytest.mark.parametrize("login", ["me:p@ss", "me:p/ss", "me:p#ss", "me:p/s#s@s"])
def test_unclear_logins_are_refused_without_printing_them(login):
    with refuses(UsageError) as caught:
        hide_password(f"postgresql://{login}@host/db#orders")
    assert "ss" not in str(caught.value).replace("special characters", "").replace("password", "").replace(
        "ADDRESS", ""
    )


@pytest.mark.parametrize("source", ["people.csv", "example:adult", "C:\\people.csv", None, 3, "memory:DataFrame"])
def test_other_sources_are_unchanged(source):
    assert not is_database(source)
    assert hide_password(source) == source


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sqlalchemy", None)
    with refuses(NotInstalledError):
        load_table("sqlite:///a.db#t")
