"""Crooked requests are refused in words at the door, and nothing of them reaches Gradio or the log."""

import asyncio
import json
from typing import Any

import pytest

from feller.app.webui.button_presses import DATA, JOIN, Pressed, pressed
from feller.app.webui.controls import Choice, Number, Sound, Wave, Words
from feller.app.webui.widgets import widget

RIGHT: dict[str, Any] = {"data": [1, "a"], "fn_index": 3, "session_hash": "own"}


def asked(page: Pressed, path: str, body: bytes = b"", query: str = "") -> tuple[int, str]:
    """Return status and text of an answer; 299 where the application was reached."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "path": path, "method": "POST" if body else "GET", "query_string": query.encode()}
    asyncio.run(page(scope, receive, send))
    return sent[0]["status"], sent[1]["body"].decode()


async def app(scope: Any, receive: Any, send: Any) -> None:
    read = (await receive())["body"]
    await send({"type": "http.response.start", "status": 299, "headers": []})
    await send({"type": "http.response.body", "body": read})


@pytest.fixture
def page() -> Pressed:
    takes = (lambda value: isinstance(value, int), lambda value: isinstance(value, str))
    return Pressed(app, {3: takes}, lambda session: session == "own")


def test_what_the_page_sends_passes_as_it_is(page: Pressed) -> None:
    body = json.dumps(RIGHT).encode()
    assert asked(page, JOIN, body) == (299, body.decode())
    assert asked(page, "/gradio_api/cancel", b"[]") == (299, "[]")


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"fn_index": 99999}, "no button"),
        ({"fn_index": -1}, "no button"),
        ({"fn_index": True}, "no button"),
        ({"fn_index": "3"}, "no button"),
        ({"fn_index": None}, "no button"),
        ({"data": []}, "2 values for this button, got 0"),
        ({"data": [1, "a", 2]}, "2 values for this button, got 3"),
        ({"data": {"0": 1}}, "got something else"),
        ({"data": ["abc", "a"]}, "value 1 of data"),
        ({"data": [1, 2]}, "value 2 of data"),
        ({"session_hash": None}, "session_hash"),
        ({"session_hash": "x" * 65}, "session_hash"),
        ({"batched": True}, "one thing at a time"),
    ],
)
def test_crooked_requests_are_refused_in_one_line(
    page: Pressed, changed: dict[str, Any], told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    status, text = asked(page, JOIN, json.dumps({**RIGHT, **changed}).encode())
    assert status == 400
    assert told in text
    assert len(text.splitlines()) == 1
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("body", [b"[1]", b'"x"', b"{", b"[" * 100_000, b"\xff"])
def test_what_is_no_object_is_refused(page: Pressed, body: bytes) -> None:
    assert asked(page, JOIN, body)[0] == 400


def test_a_session_that_waits_for_nothing_is_told_so_without_asking_gradio(page: Pressed) -> None:
    status, text = asked(page, DATA, query="session_hash=another")
    assert status == 200
    assert json.loads(text.removeprefix("data: "))["session_not_found"] is True
    assert asked(page, DATA, query="session_hash=own")[0] == 299


def test_values_have_the_forms_that_controls_of_gradio_send() -> None:
    gr: Any = pytest.importorskip("gradio", reason="the page needs Gradio: pip install 'feller[serve]'")
    controls = (
        Number(label="How many", value=1, least=1, most=9),
        Choice(label="Way", options=("a", "b"), value="a"),
        Words(label="Text"),
        Sound(label="Voice"),
        Wave(label="Mark", of="voice", size=(64, 16), draw=lambda path, size: NotImplemented),
    )
    with gr.Blocks() as blocks:
        shown = [widget(gr, control) for control in controls]
        gr.Button("Go").click(lambda *_: None, shown, None)
        gr.Button("Seen by the browser alone").click(None, None, shown[0], js="() => 1")
    page = pressed(app, blocks)
    (number,) = page.buttons
    file = {"path": "/x/a.wav", "meta": {"_type": "gradio.FileData"}}
    usual = [1, "a", "", None, None]
    drawn = {"background": file, "layers": [file], "composite": None}
    for data in (usual, [1.5, "zz", "words", file, drawn], ["abc", 5, None, None, {**drawn, "layers": []}]):
        body = json.dumps({"data": data, "fn_index": number, "session_hash": "s"}).encode()
        assert asked(page, JOIN, body)[0] == 299  # what a control refuses, it refuses in words of its own
    for place, wrong in ((0, [1]), (1, {"a": 1}), (2, ["x"]), (3, "/etc/passwd"), (3, {"path": 5}), (4, [1]), (4, "x")):
        data = [*usual[:place], wrong, *usual[place + 1 :]]
        body = json.dumps({"data": data, "fn_index": number, "session_hash": "s"}).encode()
        assert asked(page, JOIN, body) == (
            400,
            f"value {place + 1} of data is not of the form that its control sends\n",
        )
    for one, sent in ((shown[0], 10**9), (shown[0], "abc"), (shown[1], "zz")):
        assert one.preprocess(sent) == sent  # Gradio's own refusal names no field
