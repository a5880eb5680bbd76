"""Names of database tables as data: SQLAlchemy URLs followed by #TABLE or #QUERY, without their passwords."""

import re
from typing import TypeVar
from urllib.parse import unquote

from feller.core.errors import UsageError

_SCHEME = re.compile(r"[A-Za-z][\w+]*://")
_FILE_SCHEMES = ("s3", "gs", "gcs", "http", "https", "ftp", "file", "hdfs", "abfs", "az", "hf", "pipe")
"""Schemes of URLs of files."""
_LOGIN = re.compile(r"(?P<head>[A-Za-z][\w+]*://[^:/@#?]*)(?::(?P<password>[^/#?]*))?@")
_SECRET = re.compile(r"(?i)pass|pwd|secret|token|key|odbc_connect")
"""Names of URL parameters that may hold a password."""
_QUERY = re.compile(r"(?is)\s*(select|with|values|table)\s")
"""Beginning of an SQL query."""
_FULL: dict[str, str] = {}
"""URL without password -> URL with password, for this process only: passwords are neither recorded nor printed."""
Value = TypeVar("Value")


def is_database(source: object) -> bool:
    """Return True if a data source is a database URL, such as `sqlite:///shop.db#orders`."""
    match = _SCHEME.match(source) if isinstance(source, str) else None
    return match is not None and match[0].removesuffix("://").lower() not in _FILE_SCHEMES


def hide_password(source: Value) -> Value:
    """Return a database URL without its password, which this process remembers; other values are unchanged.

    Raises:
        UsageError: If the login has special characters that are not percent-encoded.
    """
    if not isinstance(source, str) or not is_database(source):
        return source
    login = _LOGIN.match(source)
    head, rest = (login["head"], source[login.end() - 1 :]) if login else ("", source)
    address, mark, selection = rest.partition("#")
    password = login["password"] if login else None
    is_query = _QUERY.match(selection) is not None
    if "@" in (password or "") or "@" in address[bool(login) :] or (not is_query and re.search("[@/#]", selection)):
        raise UsageError(
            argument="data",
            expected="a database URL like SCHEME://USER@HOST/DATABASE#TABLE",
            found="special characters in its login",
            remedy="Percent-encode them: urllib.parse.quote_plus",
        )
    base, question, parameters = address.partition("?")
    kept = [field for field in parameters.split("&") if not _SECRET.search(field.partition("=")[0])]
    safe = head + base + (question + "&".join(kept) if kept != [""] and kept else "") + mark + selection
    if safe != source:
        _FULL[safe] = source
    return safe  # pyrefly: ignore - a string


def with_selection(source: str, selection: str) -> str:
    """Return a database URL without password with another table after #; this process remembers its password."""
    safe = f"{source.partition('#')[0]}#{selection}"
    if source in _FULL:
        _FULL[safe] = connection_url(source) + f"#{selection}"
    return safe


def connection_url(source: str) -> str:
    """Return the URL to connect to, with its password if this process was given one, and without the table."""
    full = _FULL.get(source, source)
    login = _LOGIN.match(full)
    begin = login.end() if login else 0
    return full[:begin] + full[begin:].partition("#")[0]


def selection_of(source: str) -> str:
    """Return the name of the table, or the query, of a database URL without password; empty if there is none."""
    return source.partition("#")[2]


def is_query(selection: str) -> bool:
    """Return True if the text after # is a query and not the name of a table."""
    return _QUERY.match(selection) is not None


def without_secrets(text: str, source: str) -> str:
    """Return a message without the password of a database URL."""
    full = _FULL.get(source, "")
    login = _LOGIN.match(full)
    secrets = [login["password"]] if login and login["password"] else []
    secrets += [
        field.partition("=")[2]
        for field in connection_url(source).partition("?")[2].split("&")
        if _SECRET.search(field.partition("=")[0])
    ]
    for secret in filter(None, secrets):
        text = text.replace(secret, "***").replace(unquote(secret), "***")
    return text
