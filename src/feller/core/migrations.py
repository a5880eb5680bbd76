"""Formats of run folders: older ones are brought to the present one when they are read, newer ones are refused.

How long formats are read is promised in docs/safety.md.
"""

from collections.abc import Callable
from typing import Any

from feller import __version__
from feller.core.errors import InputError

Record = dict[str, Any]
Change = Callable[[str, Record], Record]
"""(name of a JSON file of a run, what it holds) -> what it would hold in the next format."""

_FAMILIES = {
    "Alike": "EmbeddingModel",
    "AnyOrder": "TableModel",
    "Autoregressive": "AutoregressiveModel",
    "Codes": "AutoencoderModel",
    "Estimates": "RegressionModel",
    "Filled": "ExpectationModel",
    "Graphical": "GraphicalModel",
    "Interleaved": "DocumentModel",
    "Resynthesis": "VocoderModel",
}
"""Families of models by the paths without time that stood for them."""
_FIELDS = {"about": "target", "anyhow": "any_order"}
"""Fields of families by what they were called."""


def with_families(name: str, content: Record) -> Record:
    """Record the family of a model, where a path stood for it, and no such path in objectives."""
    content = {key: _changed(value, _without_families) for key, value in content.items()}
    if name != "model.json" or not isinstance(path := content.get("path"), dict):
        return content
    rest = {key: value for key, value in content.items() if key != "path"}
    if path.get("is") in _FAMILIES:
        fields = {_FIELDS.get(key, key): value for key, value in path.items() if key != "is"}
        return {**rest, "family": {"is": _FAMILIES[path["is"]], **fields}}
    return {**rest, "family": {"is": "BridgeProcess" if path.get("is") == "Brownian" else "PathProcess", "path": path}}


def _changed(value: Any, change: Callable[[Record], Record]) -> Any:
    """Change all records that a value holds, the innermost first."""
    if isinstance(value, list):
        return [_changed(each, change) for each in value]
    if not isinstance(value, dict):
        return value
    return change({key: _changed(each, change) for key, each in value.items()})


def _without_families(value: Record) -> Record:
    """Take a path that stood for a family out of a record with an `is`."""
    path = value.get("path") if "is" in value else None
    if not isinstance(path, dict) or not isinstance(path.get("is"), str) or path["is"] not in _FAMILIES:
        return value
    if path["is"] == "Filled":
        return {**value, "path": None}
    rest = {key: each for key, each in value.items() if key != "path"}
    return {**rest, "target": path.get("about")} if path["is"] == "Estimates" else rest


def name_vector_quantizer(name: str, content: Record) -> Record:
    """Record the codebook of a vector quantizer as `VectorQuantizerEMA`, where it was `EMA`."""

    def renamed(value: Record) -> Record:
        return {**value, "is": "VectorQuantizerEMA"} if value.get("is") == "EMA" else value

    return _changed(content, renamed)


_CLASSES = {"Matching": "FlowMatching", "MinibatchTransport": "MinibatchOT"}
"""Objectives and couplings by what they were called."""


def name_objectives(name: str, content: Record) -> Record:
    """Record objectives, couplings and the dropout of conditions by their names of now, also in words that set it."""

    def renamed(value: Record) -> Record:
        value = {**value, "is": _CLASSES.get(value["is"], value["is"])} if isinstance(value.get("is"), str) else value
        if isinstance(value.get("fields"), list):
            words = ["--objective.cond-dropout" if word == "--objective.drop" else word for word in value["fields"]]
            value = {**value, "fields": words}
        is_chance = isinstance(value.get("drop"), int | float)
        return {"cond_dropout" if is_chance and key == "drop" else key: each for key, each in value.items()}

    return _changed(content, renamed)


def to_format_2(name: str, content: Record) -> Record:
    """Record families of models, and vector quantizers by their name of now."""
    return name_vector_quantizer(name, with_families(name, content))


_OPTIONS = (
    *("data", "recipe", "size", "seed", "longest", "space", "project", "vocabulary", "modality", "tokenizer", "schema"),
    *("target", "start_from"),
)
"""Options of a fit, as `asked` held them beside what was found out."""


def to_format_3(name: str, content: Record) -> Record:
    """Record objectives by their names of now, and the options of a fit apart from what was found out."""
    content = name_objectives(name, content)
    asked = content.get("asked")
    if name != "recipe.json" or not isinstance(asked, dict):
        return content
    config = {key: asked[key] for key in _OPTIONS if asked.get(key)}
    private, watched = asked.get("private"), asked.get("watched")
    if isinstance(private, dict):
        by_noise = {"noise": private.get("sigma"), "stop_at_epsilon": private.get("epsilon")}
        spent = by_noise if private.get("by_noise") else {"epsilon": private.get("epsilon")}
        more = {**spent, "delta": private.get("delta"), "unsafe_seed": private.get("unsafe_seed")}
        config |= {key: value for key, value in more.items() if value is not None}
    config |= {"audit": [f"fisher={watched}"]} if watched else {}
    found = {key: value for key, value in asked.items() if key not in (*_OPTIONS, "watched")}
    found |= {key: asked[key] for key in ("recipe", "size") if key in asked}
    rest = {key: value for key, value in content.items() if key != "asked"}
    return {"config": config, "provenance": found, **rest}


FIRST = 1
"""The oldest format that is read."""
CHANGES: tuple[Change, ...] = (to_format_2, to_format_3)
"""From each format to the next, the oldest first. Who changes what a file holds adds one here, and keeps a run of the
format before in tests/safety/formats."""


def present() -> int:
    """Return the format that is written."""
    return FIRST + len(CHANGES)


def brought_up(name: str, content: Record) -> Record:
    """Return what a file of a run holds, in the present format; its `format` says in which it is.

    Raises:
        InputError: If that is none, or one that is not read.
    """
    written = content.get("format")
    if not isinstance(written, int) or isinstance(written, bool) or written < FIRST:
        raise InputError(f"a file of a run, an object with a number `format` from {FIRST}", repr(written))
    if not isinstance(content.get("version", ""), str):
        raise InputError("a file of a run, with text as its `version`", repr(content["version"]))
    if written > present():
        by = str(content.get("version"))[:20]
        raise InputError(
            f"format {present()} or older, which feller {__version__} reads",
            f"{written}, of feller {by}",
            "Upgrade feller",
        )
    rest = {key: value for key, value in content.items() if key not in ("format", "version")}
    for change in CHANGES[written - FIRST :]:
        rest = change(name, rest)
    return rest
