"""Who may come in."""

import socket

import pytest

from feller.app.webui.access import COOKIE, Door, is_loopback
from feller.app.webui.run_request import Heard
from feller.app.webui.server import Address, _announce
from feller.core.errors import UsageError

TOKEN = "not-to-be-guessed-1"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.5.5.5", "::1", "[::1]", "localhost"])
def test_addresses_of_this_machine_need_no_token(host: str) -> None:
    assert is_loopback(host)
    assert Door(host).token is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "", "127.0.0.1.example.org"])
def test_other_addresses_need_a_token(host: str) -> None:
    with pytest.raises(UsageError, match="needs a token, such as --token"):
        Door(host)
    assert Door(host, token=TOKEN).token == TOKEN


@pytest.mark.parametrize("token", ["", "short", "x" * 15, "no-plain-characters-ä"])
def test_weak_tokens_are_refused(token: str) -> None:
    with pytest.raises(UsageError, match="16 plain characters or more"):
        Door(token=token)


@pytest.mark.parametrize(("token", "fits"), [(TOKEN, True), ("a+b&c%d=e/f?ghijk", True), ("a#bcdefghijklmnop", False)])
def test_the_address_is_offered_with_the_token_where_it_can_hold_it(token: str, fits: bool) -> None:
    heard = Heard()
    _announce(Address("127.0.0.1", 1), Door(token=token), heard)
    assert ("?token=..." in "".join(heard.lines)) == fits
    assert "type" in heard.lines[1]


def test_a_port_that_there_is_not() -> None:
    with pytest.raises(UsageError, match="got 70000"):
        Door(port=70000)


def test_names_of_strangers_that_point_here_are_refused_without_a_token() -> None:
    """Else a page from elsewhere could reach this one by giving its own name our address."""
    door = Door()
    assert all(door.knows_host(host) for host in ("127.0.0.1:7860", "localhost:7860", "[::1]:7860"))
    assert not any(door.knows_host(host) for host in ("evil.example:7860", "", "127.0.0.1.evil.example", "[", "a@b"))
    assert Door(token=TOKEN).knows_host("studio.example")


def test_pages_from_elsewhere_may_not_ask() -> None:
    door = Door()
    assert door.comes_from_here(None, "localhost:7860")
    assert door.comes_from_here("http://localhost:7860", "localhost:7860")
    for origin in ("http://evil.example", "null", "http://localhost:7861", "http://["):
        assert not door.comes_from_here(origin, "localhost:7860")


def test_the_cookie_lets_in_and_tells_no_token() -> None:
    door = Door(token=TOKEN)
    assert door.lets_in(f"other=1; {COOKIE}={door.cookie}")
    assert TOKEN not in door.cookie
    for cookies in ("", f"{COOKIE}=", f"{COOKIE}={TOKEN}", f"{COOKIE}={Door(token=TOKEN + 'x').cookie}", "a;;=b\x00"):
        assert not door.lets_in(cookies)
    assert Door().lets_in("")


def test_visitors_are_told_a_name_that_leads_here_and_not_the_token() -> None:
    said: list[str] = []
    tell = Heard()
    _announce(Address("0.0.0.0", 7923), Door("0.0.0.0", 7923, TOKEN), tell)
    said = tell.lines
    assert said[0].startswith(f"the page is at http://{socket.gethostname()}:7923/; ")
    assert f"http://{socket.gethostname()}:7923/?token=..." in said[1]
    assert not any(TOKEN in line for line in said)
    assert Address("::1", 80).url == "http://[::1]:80/"
    plain = Heard()
    _announce(Address("127.0.0.1", 80), Door(), plain)
    assert plain.lines == ["the page is at http://127.0.0.1:80/; stop it with Ctrl-C"]


def test_the_token_is_compared_as_a_whole() -> None:
    door = Door(token=TOKEN)
    assert door.is_token(TOKEN)
    assert not any(door.is_token(text) for text in ("", TOKEN[:-1], TOKEN + "x", "ä" * 20))
    assert not Door().is_token("")
