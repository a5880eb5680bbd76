"""Button presses checked against the page, and requests to stop.

Gradio finds such requests out while it works on them, and then fills the log with where it was.
"""

import contextlib
import json
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from feller.app.webui.asgi import MOST_JSON, App, Message, Receive, Refused, Send, again, answer, body_of
from feller.app.webui.run_request import Heard

BEGINS = "begins"
"""Attribute of what a button does: hears the session of whoever asks for it, before it waits for its turn."""
MOST = 1000
"""Sessions whose wish to stop is remembered until the turn of their request comes; the oldest are forgotten."""


class Stops:
    """Knows what is worked on for one tab of a page, and whose page asked for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._works: dict[str, Heard] = {}
        self._stopped: deque[str] = deque(maxlen=MOST)

    def begin(self, session: str) -> None:
        """Hear that a page asks for something new, which what it stopped before has nothing to do with."""
        with self._lock:
            self._forget(session)

    @contextlib.contextmanager
    def working(self, session: str, heard: Heard) -> Iterator[None]:
        """Let a request be stopped until the end of the block; one that was stopped while it waited stops at once."""
        with self._lock:
            self._works[session] = heard
            if session in self._stopped:
                heard.stop()
        try:
            yield
        finally:
            with self._lock:
                self._works.pop(session, None)
                self._forget(session)

    def stop(self, session: str) -> None:
        """Stop what a page has asked for, now or as soon as its turn comes."""
        with self._lock:
            self._forget(session)
            self._stopped.append(session)
            if session in self._works:
                self._works[session].stop()

    def _forget(self, session: str) -> None:
        if session in self._stopped:
            self._stopped.remove(session)


JOIN, DATA = "/gradio_api/queue/join", "/gradio_api/queue/data"
TOLD = {"msg": "unexpected_error", "message": "404: Session not found.", "session_not_found": True, "success": False}
GONE = f"data: {json.dumps(TOLD)}\n\n"
"""What Gradio tells a session that waits for nothing, from which the page knows that its server is another."""
LONGEST = 64
"""Letters of the name of a session."""
SCALAR = (str, int, float, bool, type(None))
Fits = Callable[[Any], bool]
"""Tells whether a value has the form of what a control sends."""


@dataclass(frozen=True)
class Pressed:
    """An ASGI application behind one that looks at what its buttons are sent."""

    app: App
    buttons: Mapping[int, tuple[Fits, ...]]
    """What each button takes, by its number."""
    waits: Callable[[str], bool]
    """Tells whether a session waits for an answer."""
    begins: Mapping[int, Callable[[str], None]] = field(default_factory=dict)
    """Hear whose page presses a button, by its number; a request of its own could come too late."""

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and scope["path"] == DATA and not self.waits(_session(scope)):
            await answer(send, 200, GONE, "text/event-stream")
            return
        try:
            passed = await self._passed(scope, receive)
        except Refused as refused:
            await answer(send, refused.status, f"{refused.why}\n", "text/plain; charset=utf-8")
            return
        await self.app(scope, passed, send)

    async def _passed(self, scope: Message, receive: Receive) -> Receive:
        """Return what the application may read.

        Raises:
            Refused: If it may not pass.
        """
        if scope["type"] != "http" or scope["path"] != JOIN or scope["method"] != "POST":
            return receive
        body = await body_of(receive, MOST_JSON)
        try:
            asked = json.loads(body)
        except (ValueError, RecursionError):
            raise Refused(400, "this is no JSON") from None
        self.check(asked)
        if asked["fn_index"] in self.begins:
            self.begins[asked["fn_index"]](asked["session_hash"])
        return again(body, receive)

    def check(self, asked: Any) -> None:
        """Refuse what is not what the page itself would send.

        Raises:
            Refused: Then.
        """
        if not isinstance(asked, dict):
            raise Refused(400, "a request is a JSON object")
        session, number, data = (asked.get(name) for name in ("session_hash", "fn_index", "data"))
        if not isinstance(session, str) or not 0 < len(session) <= LONGEST:
            raise Refused(400, f"session_hash is a name of up to {LONGEST} letters")
        if not isinstance(number, int) or isinstance(number, bool) or number not in self.buttons:
            raise Refused(400, "fn_index is of no button of this page")
        if asked.get("batched") or asked.get("simple_format"):
            raise Refused(400, "this page is asked one thing at a time")
        takes = self.buttons[number]
        if not isinstance(data, list) or len(data) != len(takes):
            got = len(data) if isinstance(data, list) else "something else"
            raise Refused(400, f"data is a list of {len(takes)} values for this button, got {got}")
        for place, (fits, value) in enumerate(zip(takes, data, strict=True), 1):
            if not fits(value):
                raise Refused(400, f"value {place} of data is not of the form that its control sends")


def _session(scope: Message) -> str:
    return parse_qs(scope.get("query_string", b"").decode("latin-1")).get("session_hash", [""])[0]


def pressed(app: App, blocks: Any) -> Pressed:
    """Return the page behind a look at what its buttons are sent, from Gradio's blocks."""
    buttons = {
        number: tuple(_form(one) for one in does.inputs) for number, does in blocks.fns.items() if does.fn is not None
    }
    begins = {number: getattr(does.fn, BEGINS) for number, does in blocks.fns.items() if hasattr(does.fn, BEGINS)}
    waiting = blocks._queue.pending_messages_per_session
    return Pressed(app, buttons, lambda session: session in waiting, begins)


def _form(shown: Any) -> Fits:
    """Return what tells whether a value is what a component sends."""
    model = getattr(shown, "data_model", None)
    if model is None:
        return lambda value: isinstance(value, SCALAR)

    def fits(value: Any) -> bool:
        if value is None:
            return True
        try:
            model.model_validate(value, context={"validate_meta": True})
        except (ValueError, TypeError, RecursionError):
            return False
        return True

    return fits
