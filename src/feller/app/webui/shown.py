"""How outcomes look, in Gradio."""

import html
from typing import Any

from feller.app.webui.outcome import Outcome, Rows
from feller.app.webui.tab import Kind, Tab

NARROW = 3
"""Columns up to which long cells get several lines."""
LINE, LETTER, PADDING, ROOM = 44, 9, 28, 672
"""Letters of such a line; pixels of a letter, around a cell, and of the column in which results stand."""
SEEN = {"interactive": False, "buttons": ["download", "fullscreen"], "min_width": 240, "elem_classes": "shown"}
"""Of a picture that comes out: two stand beside each other, and nothing is shared with others."""


def outputs(gr: Any, kind: Kind, tab: Tab) -> list[Any]:
    """Return what shows a kind of outcome; all is hidden until there is something."""
    if kind is Kind.PICTURES:
        with gr.Row():
            return [gr.Image(visible=False, type="filepath", **SEEN) for _ in range(tab.pictures)]
    if kind is Kind.SOUNDS:
        return [
            gr.Audio(interactive=False, visible=False, type="filepath", buttons=["download"]) for _ in range(tab.sounds)
        ]
    if kind is Kind.SIDES:
        with gr.Row():
            return [gr.Dataframe(interactive=False, visible=False, max_height=480, min_width=280) for _ in range(2)]
    if kind is Kind.TABLE:
        return [gr.Dataframe(interactive=False, visible=False, max_height=480)]
    if kind is Kind.WORDS:
        return [gr.Textbox(label="Text", interactive=False, visible=False, lines=4, max_lines=30, buttons=["copy"])]
    if kind is Kind.FILES:
        return [gr.File(label="To download", visible=False, file_count="multiple", interactive=False)]
    return [gr.HTML("", visible=False)]


def filled(gr: Any, tab: Tab, found: Outcome) -> list[Any]:
    """Return what all outputs show, in their order."""
    return [update for kind in tab.shows for update in _updates(gr, kind, tab, found)]


def _updates(gr: Any, kind: Kind, tab: Tab, found: Outcome) -> list[Any]:
    def shown(value: Any, **more: Any) -> Any:
        return gr.update(value=value or None, visible=bool(value), **more)

    if kind is Kind.PICTURES:
        pairs = [(str(one.path), {"label": one.caption}) for one in found.pictures[: tab.pictures]]
        return [shown(path, **label) for path, label in (*pairs, *[("", {})] * (tab.pictures - len(pairs)))]
    if kind is Kind.SOUNDS:
        paths = [*map(str, found.sounds), *[""] * tab.sounds][: tab.sounds]
        return [shown(path) for path in paths]
    if kind is Kind.SIDES:
        return [_table(gr, rows) for rows in (*found.sides, *[None] * (2 - len(found.sides)))]
    if kind is Kind.TABLE:
        return [_table(gr, found.table)]
    if kind is Kind.WORDS:
        return [gr.update(value=found.words, visible=bool(found.words))]
    if kind is Kind.FILES:
        return [shown([*map(str, found.files)])]
    if kind is Kind.NUMBERS:
        return [gr.update(value=_numbers(found.numbers), visible=found.numbers is not None)]
    if kind is Kind.PAGE:
        return [gr.update(value=_framed(found.page), visible=bool(found.page))]
    return [gr.update(value=found.drawing, visible=bool(found.drawing))]


def _table(gr: Any, rows: Rows | None) -> Any:
    """Show a table, or hide it; few columns get the width that their cells need, and several lines."""
    if rows is None:
        return gr.update(value=None, visible=False)
    narrow = len(rows.columns) <= NARROW
    return gr.update(
        value={"headers": list(rows.columns), "data": [*map(list, rows.cells)]},
        visible=True,
        label=rows.title or None,
        wrap=narrow,
        column_widths=_widths(rows) if narrow else None,
    )


def _widths(table: Rows) -> list[str]:
    """Return widths that cut no word: of the longest cell up to a line; the widest column takes what is left."""
    columns = [*zip(table.columns, *table.cells, strict=True)]
    words = [max(len(word) for cell in column for word in (cell.split() or [""])) for column in columns]
    cells = [min(max(map(len, column)), LINE) for column in columns]
    widths = [max(word, cell) * LETTER + PADDING for word, cell in zip(words, cells, strict=True)]
    widths[widths.index(max(widths))] += max(0, ROOM - sum(widths))
    return [f"{width}px" for width in widths]


def _numbers(rows: Rows | None) -> str:
    """Write a table that is seen as a whole at any width; what has no letters stays in one line."""
    if rows is None:
        return ""
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in rows.columns)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows.cells)
    title = f"<caption>{html.escape(rows.title)}</caption>" if rows.title else ""
    return f'<table class="numbers">{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _cell(text: str) -> str:
    kind = "" if any(map(str.isalpha, text)) else ' class="number"'
    return f"<td{kind}>{html.escape(text)}</td>"


def _framed(page: str) -> str:
    """Put a page into a frame of its own, in which nothing runs; ours may see how high it is."""
    if not page:
        return ""
    inside = html.escape(page, quote=True)
    return f'<iframe class="report" title="Report" sandbox="allow-same-origin" srcdoc="{inside}"></iframe>'
