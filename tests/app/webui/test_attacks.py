"""The page as an attacker meets it, over the wire: nothing outside is read or written, and it goes on answering."""

import contextlib
import http.client
import io
import json
import pathlib
import socket
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
from PIL import Image

from tests.app.webui.served import Client, served, status

pytestmark = pytest.mark.slow
pytest.importorskip("gradio", reason="the page needs Gradio: pip install 'feller[serve]'")

TOKEN = "not-to-be-guessed-1"
SECRET = "nobody may read this"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Return where the page makes its folder, beside a secret."""
    home = tmp_path_factory.mktemp("attacked")
    (home / "secret.txt").write_text(SECRET)
    return home


@pytest.fixture(scope="module")
def client(fitted: Callable[[str], pathlib.Path], home: pathlib.Path) -> Iterator[Client]:
    with served([fitted("digits")], home=home) as client:
        yield client


def raw(client: Client, line: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
    """Send a request line as it is, which clients would tidy."""
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
def test_no_way_leads_out_of_the_folder_of_the_page(client: Client, home: pathlib.Path, place: str) -> None:
    (page,) = home.glob("feller-page-*")
    code, body = raw(client, f"GET /gradio_api/file={place.format(home=home, page=page)}")
    assert code in (403, 404)
    assert SECRET.encode() not in body


@pytest.mark.parametrize(
    "name", ["../../x.png", "/tmp/x.png", "..\\..\\x.png", "a/../../x.png", "x" * 300 + ".png", "\0"]
)
def test_uploads_stay_where_they_belong_whatever_they_are_called(client: Client, home: pathlib.Path, name: str) -> None:
    (page,) = home.glob("feller-page-*")
    outside = {path for path in home.rglob("*") if not path.is_relative_to(page)}
    with contextlib.suppress(OSError):  # refusing is right, too
        place = pathlib.Path(client.upload(name, b"x")["path"])
        assert place.resolve().is_relative_to(page)
    assert {path for path in home.rglob("*") if not path.is_relative_to(page)} == outside
    assert status(client, "config") == 200


def test_a_picture_that_would_fill_the_memory_is_refused_and_the_page_goes_on(client: Client) -> None:
    bomb, layer = io.BytesIO(), io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "PNG")
    Image.new("RGBA", (8, 8), "white").save(layer, "PNG")
    assert len(bomb.getvalue()) < 2**20
    files = {
        "background": client.upload("b.png", bomb.getvalue()),
        "layers": [client.upload("l.png", layer.getvalue())],
    }
    data = client.usual("fill_in")
    found = client.ask("fill_in", [{**files, "composite": None}, *data[1:]])
    assert not found["success"] or "wrong" in found["output"]["data"][0]
    assert client.ask("sample", [3, *client.usual("sample")[1:]])["success"]


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "127.0.0.1@evil.example", "[::1", ""],
)
def test_other_names_that_lead_here_are_refused(client: Client, host: str) -> None:
    """A page of a stranger whose name was pointed to this machine (DNS rebinding)."""
    assert raw(client, "GET /config", Host=host)[0] in (400, 403)


@pytest.mark.parametrize(
    "origin", ["null", "http://evil.example", "http://127.0.0.1:1", "https://127.0.0.1", "file://"]
)
def test_pages_of_others_cannot_ask(client: Client, origin: str) -> None:
    body = json.dumps({"data": [], "fn_index": 0, "session_hash": "x"}).encode()
    for path in ("queue/join", "upload", "cancel", "reset"):
        assert raw(client, f"POST /gradio_api/{path}", body, Origin=origin)[0] == 403


def test_no_place_of_this_machine_is_told(client: Client, fitted: Callable[[str], pathlib.Path]) -> None:
    told = client.get("config").decode() + client.get("").decode() + client.get("gradio_api/info").decode()
    assert str(fitted("digits").parent) not in told
    assert str(pathlib.Path.home()) not in told
    found = client.ask("reports", client.usual("reports"))
    assert str(fitted("digits").parent) not in json.dumps(found)


@pytest.fixture(scope="module")
def locked(fitted: Callable[[str], pathlib.Path]) -> Iterator[Client]:
    with served([fitted("moons")], "--token", TOKEN) as client:
        yield client


@pytest.mark.parametrize(
    "path",
    [
        *("", "config", "theme.css", "gradio_api/info", "gradio_api/app_id"),
        *("gradio_api/queue/data?session_hash=x", "gradio_api/heartbeat/x", "gradio_api/upload_progress?upload_id=x"),
        *("?token=wrong", "config?token=" + TOKEN, "gradio_api/file=/etc/hostname", "assets/index.js"),
    ],
)
def test_nothing_answers_without_the_token(locked: Client, path: str) -> None:
    assert status(locked, path) == 401


@pytest.mark.parametrize(
    "cookie", ["feller-page=", f"feller-page={TOKEN}", "feller-page=" + "0" * 64, "=;=;\x7f", "x" * 9000]
)
def test_forged_cookies_do_not_open(locked: Client, cookie: str) -> None:
    assert raw(locked, "GET /config", Cookie=cookie)[0] == 401


def test_sockets_are_closed(locked: Client, client: Client) -> None:
    wish = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13", "Sec_WebSocket_Key": "eA=="}
    for page in (locked, client):
        code, _ = raw(page, "GET /gradio_api/queue/data", **wish)
        assert code != 101


def test_methods_that_change_things_are_refused(client: Client) -> None:
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        assert raw(client, f"{method} /config")[0] in (400, 403, 404, 405)
