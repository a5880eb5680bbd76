"""Tabs of a page, asked as a client asks them."""

from collections.abc import Callable

from feller.app.reporter import SILENT
from feller.app.webui.loaded_run import LoadedRun
from feller.app.webui.page import tabs_of
from feller.app.webui.run_request import check_answers
from feller.app.webui.tab import PageContext

OnPage = Callable[..., tuple[LoadedRun, PageContext]]
FEW = {"n": 3, "nfe": 4, "steps": 1}


def tab_of(page, name):
    return next(tab for tab in tabs_of(*page) if tab.name == name)


def options(tab, name):
    """Return what a choice offers."""
    return tuple(value for _, value in tab.controls[name].choices)


def usual(tab):
    """Return what the page sends at first."""
    values = {name: control.value for name, control in tab.controls.items()}
    return {name: value["data"] if isinstance(value, dict) else value for name, value in values.items()}


def ask(tab, tell=SILENT, **more):
    """Ask as the page does at first, for less; Gradio checks numbers and choices."""
    sent = {**usual(tab), **{key: few for key, few in FEW.items() if key in tab.controls}, **more}
    checked = ("minimum", "choices")
    for name, value in sent.items():
        if any(hasattr(tab.controls[name], one) for one in checked):
            sent[name] = tab.controls[name].preprocess(value)
    check_answers(tab, sent)
    return tab.handler(sent, tell)
