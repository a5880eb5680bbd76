"""Who may come in: addresses, the token, and where a request may come from."""

import hashlib
import hmac
import ipaddress
import secrets
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from feller.core.errors import UsageError

COOKIE = "feller-page"
SHORTEST = 16
"""Characters of a token."""
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Door:
    """Where the page is reached, and by whom."""

    host: str = LOOPBACK
    port: int = 7860
    token: str | None = None
    """Who comes in must know it; None lets everybody on this machine in."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise UsageError(f"--port is from 0, any that is free, to 65535, got {self.port}")
        if self.token is None and not is_loopback(self.host):
            raise UsageError(
                f"others could reach the page at {self.host}, so it needs a token, such as --token"
                f" {secrets.token_urlsafe(18)}; or leave --host out"
            )
        if self.token is not None and (len(self.token) < SHORTEST or not self.token.isascii()):
            raise UsageError(
                f"expected a token of {SHORTEST} plain characters or more that nobody can guess, got"
                f" {len(self.token)}; such as --token {secrets.token_urlsafe(18)}"
            )

    @property
    def fits_address(self) -> bool:
        """Whether a browser sends the token as it stands in an address: what follows a # stays with the browser."""
        return self.token is None or (self.token.isprintable() and not set(self.token) & set('# "<>'))

    def knows_host(self, host: str) -> bool:
        """Tell whether a request names this machine: a stranger's name that points here is not let in without token."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return self.token is not None or is_loopback(name)

    def comes_from_here(self, origin: str | None, host: str) -> bool:
        """Tell whether a page of this address made a request; pages of others may not make one."""
        if origin is None:
            return True
        try:
            return urlsplit(origin).netloc == host
        except ValueError:
            return False

    @property
    def cookie(self) -> str:
        """What a browser shows after the token was right once; it does not tell the token."""
        return hashlib.sha256(f"feller {self.token}".encode()).hexdigest()

    def is_token(self, text: str) -> bool:
        """Tell whether somebody knows the token, in a time that tells nothing of it."""
        return self.token is not None and hmac.compare_digest(text.encode(), self.token.encode())

    def lets_in(self, cookies: str) -> bool:
        """Tell whether a request may pass by its cookies."""
        if self.token is None:
            return True
        try:
            sent = SimpleCookie(cookies).get(COOKIE)
        except CookieError:
            return False
        return sent is not None and hmac.compare_digest(sent.value.encode(), self.cookie.encode())


def is_loopback(host: str) -> bool:
    """Tell whether nothing but this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
