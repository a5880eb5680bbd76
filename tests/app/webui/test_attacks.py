"""Attacks over HTTP: nothing outside the page's folder is read or written, and the page goes on answering."""

import contextlib
import http.client
import io
import json
import pathlib
import socket
import urllib.request
from urllib.parse import urlsplit

import pytest
from PIL import Image

from tests.app.webui.served import Client, served, status

pytestmark = pytest.mark.slow
pytest.importorskip("gradio", reason="the page needs Gradio: pip install 'feller[serve]'")

TOKEN = "not-to-be-guessed-1"
SECRET = "nobody may read this"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Return the parent of the page's folder, with a secret."""
    home = tmp_path_factory.mktemp("attacked")
    (home / "secret.txt").write_text(SECRET)
    return home


@pytest.fixture(scope="module")
def client(fitted, home):
    with served([fitted("digits")], home=home) as client:
        yield client


def raw(client, line, body=b"", **headers):
    """Send a request line without the normalisation of clients."""
    where = urlsplit(client.url)
    named = {"Host": where.netloc, "Content-Length": str(len(body)), "Connection": "close"}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in named.items() if value)
    with socket.create_connection((str(where.hostname), int(where.port or 0)), timeout=60) as line_to:
        line_to.sendall(f"{line} HTTP/1.1\r\n{head}\r\n".encode() + body)
        answer = http.client.HTTPResponse(line_to)
        answer.begin()
        return answer.status, answer.read()


@pytest.mark.parametrize(
    "place",
    [
        "{home}/secret.txt",
        "{page}/../secret.txt",
        "{page}/%2e%2e/secret.txt",
        "{page}/..%2fsecret.txt",
        "{page}/%252e%252e/secret.txt",
        "{page}/results/../../secret.txt",
        "%2f..{home}/secret.txt",
        "file://{home}/secret.txt",
        "/proc/self/environ",
        "/proc/self/cwd/README.md",
        "http://127.0.0.1:1/secret.txt",
        "%00{home}/secret.txt",
    ],
)
def test_paths_outside_the_folder_of_the_page(client, home, place):
    (page,) = home.glob("feller-page-*")
    code, body = raw(client, f"GET /gradio_api/file={place.format(home=home, page=page)}")
    assert code in (403, 404)
    assert SECRET.encode() not in body


@pytest.mark.parametrize(
    "name", ["../../x.png", "/tmp/x.png", "..\\..\\x.png", "a/../../x.png", "x" * 300 + ".png", "\0"]
)
def test_names_of_uploads(client, home, name):
    (page,) = home.glob("feller-page-*")

    def outside():
        return {path for path in home.rglob("*") if not path.is_relative_to(page)}

    before = outside()
    with contextlib.suppress(OSError):  # refusing is right, too
        assert pathlib.Path(client.upload(name, b"x")["path"]).resolve().is_relative_to(page)
    assert outside() == before
    assert status(client, "config") == 200


def test_decompression_bomb(client):
    bomb, layer = io.BytesIO(), io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "PNG")
    Image.new("RGBA", (8, 8), "white").save(layer, "PNG")
    assert len(bomb.getvalue()) < 2**20
    layers = [client.upload("l.png", layer.getvalue())]
    files = {"background": client.upload("b.png", bomb.getvalue()), "layers": layers, "composite": None}
    found = client.ask("fill_in", [files, *client.usual("fill_in")[1:]])
    assert not found["success"] or "wrong" in found["output"]["data"][0]
    assert client.ask("sample", [3, *client.usual("sample")[1:]])["success"]


def test_dns_rebinding(client):
    evil = ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "127.0.0.1@evil.example")
    for host in (*evil, "[::1", ""):
        assert raw(client, "GET /config", Host=host)[0] in (400, 403)


@pytest.mark.parametrize(
    "origin", ["null", "http://evil.example", "http://127.0.0.1:1", "https://127.0.0.1", "file://"]
)
def test_cross_origin_requests(client, origin):
    body = json.dumps({"data": [], "fn_index": 0, "session_hash": "x"}).encode()
    for path in ("queue/join", "upload", "cancel", "reset"):
        assert raw(client, f"POST /gradio_api/{path}", body, Origin=origin)[0] == 403


def test_answers_contain_no_local_paths(client, fitted):
    texts = [client.get(path).decode() for path in ("config", "", "gradio_api/info")]
    texts.append(json.dumps(client.ask("reports", client.usual("reports"))))
    for folder in (fitted("digits").parent, pathlib.Path.home()):
        assert not any(str(folder) in text for text in texts)


@pytest.fixture(scope="module")
def locked(fitted):
    with served([fitted("moons")], "--token", TOKEN) as client:
        yield client


def test_nothing_answers_without_the_token(locked):
    gradio = ("info", "app_id", "queue/data?session_hash=x", "heartbeat/x", "upload_progress?upload_id=x")
    other = ("", "config", "theme.css", "?token=wrong", f"config?token={TOKEN}", "assets/index.js")
    for path in (*other, *(f"gradio_api/{name}" for name in (*gradio, "file=/etc/hostname"))):
        assert status(locked, path) == 401
    for cookie in ("feller-page=", f"feller-page={TOKEN}", "feller-page=" + "0" * 64, "=;=;\x7f", "x" * 9000):
        assert raw(locked, "GET /config", Cookie=cookie)[0] == 401


def test_token(locked):
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    with opener.open(urllib.request.Request(f"{locked.url}?token={TOKEN}")) as answer:
        assert answer.status == 200
        assert TOKEN not in answer.url
    cookie = next(one for one in opener.handlers if hasattr(one, "cookiejar")).cookiejar  # type: ignore[attr-defined]
    client = Client(locked.url, "; ".join(f"{one.name}={one.value}" for one in cookie))
    assert client.ask("sample", [3, *client.usual("sample")[1:]])["success"]


def test_websockets_and_other_methods(locked, client):
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"}
    upgrade |= {"Sec_WebSocket_Version": "13", "Sec_WebSocket_Key": "eA=="}
    for page in (locked, client):
        assert raw(page, "GET /gradio_api/queue/data", **upgrade)[0] != 101
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        assert raw(client, f"{method} /config")[0] in (400, 403, 404, 405)
