"""Tabs of a page, asked as a client asks them."""

from collections.abc import Callable
from typing import Any

from feller.app.webui.limits import Limits
from feller.app.webui.loaded_run import Opened
from feller.app.webui.page import abilities_of
from feller.app.webui.tab import Outcome, Place, Tab

OnPage = Callable[..., tuple[Opened, Place]]
FEW = {"n": 3, "calls": 4, "steps": 1}


def tab_of(page: tuple[Opened, Place], name: str) -> Tab:
    one, place = page
    return next(ability.tab(one, place) for ability in abilities_of(one, place) if ability.name == name)


def ask(tab: Tab, **more: Any) -> Outcome:
    """Ask as the page does at first, for less."""
    usual = {key: getattr(control, "value", None) for key, control in tab.controls.items()}
    return tab.do({**usual, **{key: few for key, few in FEW.items() if key in usual}, **more}, Limits())
