"""Access to the page, and checks of requests."""

import asyncio
import json
import socket
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from PIL import EpsImagePlugin, Image

from feller.app.webui.run_request import RequestReporter
from feller.app.webui.server import (
    COOKIE,
    FILE,
    JOIN,
    JSON_BYTES,
    UPLOAD_BYTES,
    Access,
    Gate,
    _announce,
    _free_port,
    configure_gradio,
    is_loopback,
)
from feller.core.errors import InputError, UsageError
from tests.errors import refuses

pytest.importorskip("starlette", reason="the page needs Gradio: pip install 'feller[serve]'")

TOKEN = "not-to-be-guessed-1"
LOCAL, OPEN = Access(), Access("0.0.0.0", token=TOKEN)
UPLOAD = "/gradio_api/upload"


def request(path, method="GET", body=b"", access=LOCAL, query="", **headers):
    """Return status, headers and body of an answer; 299 and the body of the request where the page was reached."""
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        read = (await receive())["body"]
        await send({"type": "http.response.start", "status": 299, "headers": [(b"referrer-policy", b"unsafe-url")]})
        await send({"type": "http.response.body", "body": read})

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    named = {"host": "127.0.0.1:7860", "content-length": str(len(body))}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    pairs = [(name.encode(), value.encode()) for name, value in named.items() if value]
    scope = {"type": "http", "path": path, "method": method, "headers": pairs, "query_string": query.encode()}
    scope |= {"scheme": "http", "server": ("127.0.0.1", 7860)}
    asyncio.run(Gate(app, access)(scope, receive, send))
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], found, b"".join(one.get("body", b"") for one in sent[1:])


def test_loopback_addresses_need_no_token():
    for host in ("127.0.0.1", "127.5.5.5", "::1", "[::1]", "localhost"):
        assert is_loopback(host)
        assert Access(host).token is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "", "127.0.0.1.example.org"])
def test_other_addresses_need_a_token(host):
    with refuses(UsageError):
        Access(host)
    assert Access(host, token=TOKEN).token == TOKEN


@pytest.mark.parametrize("token", ["", "short", "x" * 15, "no-plain-characters-ä"])
def test_weak_tokens_are_refused(token):
    with refuses(UsageError):
        Access(token=token)


def test_invalid_ports_and_ports_in_use():
    with refuses(UsageError, argument="port"):
        Access(port=70000)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with refuses(InputError):
            _free_port(Access(port=taken.getsockname()[1]))
    assert _free_port(Access(port=0)) > 0


def test_announced_address_has_no_token():
    reporter = RequestReporter()
    _announce(Access("0.0.0.0", 7923, TOKEN), reporter)
    text = "".join(reporter.lines)
    assert f"http://{socket.gethostname()}:7923/?token=..." in text
    assert TOKEN not in text
    assert Access("::1", 80).url == "http://[::1]:80/"


@pytest.mark.parametrize("host", ["evil.example:7860", "", "127.0.0.1.evil.example", "[", "a@b"])
def test_other_host_names_are_refused_without_a_token(host):
    assert request("/", host=host)[0] == 403


def test_cross_origin_requests_are_refused():
    for origin in ("http://evil.example", "null", "http://localhost:7861", "http://["):
        assert request(UPLOAD, "POST", b"x", origin=origin)[0] == 403
    assert request(UPLOAD, "POST", b"x", origin="http://127.0.0.1:7860")[0] == 299
    assert request("/", host="studio.example", access=OPEN)[0] == 401


def test_every_route_needs_the_token():
    for path in ("/config", "/assets/x.js", f"{FILE}/x", "/gradio_api/queue/data", "/gradio_api/info"):
        assert request(path, access=OPEN)[0] == 401
    assert request(JOIN, "POST", b"{}", access=OPEN)[0] == 401
    status, _, body = request("/", access=OPEN, query="token=wrong")
    assert (status, b'name="token"' in body) == (401, True)
    assert request("/manifest.json", access=OPEN)[2] == b"{}"


@pytest.mark.parametrize("token", ["a+b&c=d%41;e/f?gh+", "%%%%%%%%%%%%%%%%", "token=token=token=", TOKEN])
def test_token_in_the_address_may_be_quoted(token):
    access = Access("0.0.0.0", token=token)
    for query in (f"token={token}", f"token={quote(token, safe='')}", urlencode({"token": token})):
        assert request("/", access=access, query=query)[0] == 303
    for query in (f"token={token}x", token, "token=", ""):
        assert request("/", access=access, query=query)[0] == 401


def test_cookie_does_not_contain_the_token():
    status, headers, _ = request("/", access=OPEN, query=f"token={TOKEN}")
    cookie = headers["set-cookie"]
    assert (status, headers["location"]) == (303, "/")
    assert "HttpOnly" in cookie
    assert TOKEN not in cookie
    assert request("/", access=OPEN, cookie=cookie.partition(";")[0])[0] == 299
    for forged in ("", f"{COOKIE}=", f"{COOKIE}={TOKEN}", f"{COOKIE}={'0' * 64}", "a;;=b\x00"):
        assert request("/", access=OPEN, cookie=forged)[0] == 401


def test_other_routes_are_closed():
    for path in ("run/sample", "proxy=x", "process_recording", "call/x"):
        assert request(f"/gradio_api/{path}")[0] == 404
    assert request("/monitoring")[0] == 404
    assert request("/config", "DELETE")[0] == 405


def test_size_of_requests_is_bounded():
    for length in ("", "-1", "x", str(JSON_BYTES + 1)):
        assert request(JOIN, "POST", b"{}", content_length=length)[0] == 413
    assert request(UPLOAD, "POST", b"x", content_length=str(3 * UPLOAD_BYTES))[0] == 413


def test_server_fetches_no_addresses():
    assert request(f"{FILE}https://example.org/a.png")[0] == 403
    body = {"data": [{"background": {"path": "https://example.org/a.png", "meta": {"_type": "gradio.FileData"}}}]}
    assert request(JOIN, "POST", json.dumps(body).encode())[0] == 403
    own = {"path": "/tmp/a.png", "url": "http://127.0.0.1:7860/gradio_api/file=/tmp/a.png"}
    typed = json.dumps({"data": ["see https://example.org", own]}).encode()
    assert request(JOIN, "POST", typed)[::2] == (299, typed)
    for body in (b"{", b"[" * 100_000, b"\xff"):
        assert request(JOIN, "POST", body)[0] == 299  # Gradio refuses what is no JSON


def test_content_security_policy():
    page, file = request("/")[1], request(f"{FILE}/tmp/a.svg")[1]
    assert page["content-security-policy"].startswith("default-src 'self'")
    assert "http" not in page["content-security-policy"]
    assert file["content-security-policy"] == page["content-security-policy"]
    assert (file["x-content-type-options"], page["referrer-policy"]) == ("nosniff", "no-referrer")


def test_images_are_bounded_and_read_by_no_other_program(tmp_path, monkeypatch):
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", "gs")  # as where Ghostscript is installed
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    gradio, hub = ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED"), ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY")
    for name in (*gradio, *hub, "NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "")
    configure_gradio(tmp_path)
    assert EpsImagePlugin.gs_binary is False
    assert Image.MAX_IMAGE_PIXELS is not None
