"""Write the stubs in which type checkers and editors find all options of configs by their names.

`python scripts/write_stubs.py` writes them; with `--check` it exits with 1 where one is not what it would be.
"""

import ast
import pathlib
import subprocess
import sys

from feller.app import config
from feller.app.options import python_options

APP = pathlib.Path(__file__).parent.parent / "src" / "feller" / "app"
MODULES = ("api", "results")
"""Modules whose functions take the options of a config."""
CONFIGS = ("config", "option_groups")
"""Modules of configs and of their groups of options."""
HEADER = "# Written by scripts/write_stubs.py of the functions here, config.py and option_groups.py; do not edit.\n"
RUFF = (sys.executable, "-m", "ruff")


def configs() -> dict[str, dict[str, tuple[str, str]]]:
    """Return type and default of each field of each config and group of options, as they stand there."""
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for kind in [one for module in CONFIGS for one in ast.parse((APP / f"{module}.py").read_text()).body]:
        if isinstance(kind, ast.ClassDef):
            fields = [one for one in kind.body if isinstance(one, ast.AnnAssign) and one.value is not None]
            found[kind.name] = {ast.unparse(one.target): (_type(one.annotation), _usual(one.value)) for one in fields}
    return found


def _type(annotation: ast.expr) -> str:
    """Return a type without what is said of it beside."""
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Annotated":
        assert isinstance(annotation.slice, ast.Tuple)
        return ast.unparse(annotation.slice.elts[0])
    return ast.unparse(annotation)


def _usual(value: ast.expr | None) -> str:
    return ast.unparse(value) if isinstance(value, ast.Constant | ast.Tuple) else "..."


def nested_fields(kind: str, known: dict[str, dict[str, tuple[str, str]]]) -> dict[str, tuple[str, str]]:
    """Return type and default of each field of a config and of its groups, at any depth."""
    found = dict(known[kind])
    for called, _ in known[kind].values():
        found |= nested_fields(called, known) if called in known else {}
    return found


def options(kind: str) -> dict[str, tuple[str, str]]:
    """Return what a function takes by name: the options of a config, and behind them their groups."""
    known = configs()
    texts = nested_fields(kind, known)
    groups = {name: (f"{called} | None", "None") for name, (called, _) in texts.items() if called in known}
    return {name: groups.get(name, texts[name]) for name in python_options(getattr(config, kind))}


def signature(function: ast.FunctionDef) -> str:
    """Return a function without its body, and with the options of its config."""
    arguments = function.args
    named = (one.func for one in function.decorator_list if isinstance(one, ast.Call))
    if "accepts_options" in map(ast.unparse, named):
        (call,) = (one for one in function.decorator_list if isinstance(one, ast.Call))
        kind, own = ast.unparse(call.args[0]), {one.arg for one in (*arguments.posonlyargs, *arguments.args)}
        more = {name: one for name, one in options(kind).items() if name not in own}
        text = [f"{name}: {called} = {usual}" for name, (called, usual) in more.items()]
        rest = ", ".join([*text, f"config: {kind} | None = None"])
        shown = ast.parse(f"def f(*, {rest}): ...").body[0]
        assert isinstance(shown, ast.FunctionDef)
        arguments.kwonlyargs = [*arguments.kwonlyargs[:-1], *shown.args.kwonlyargs]  # the last is the config
        arguments.kw_defaults = [*arguments.kw_defaults[:-1], *shown.args.kw_defaults]
        function.decorator_list.remove(call)
    function.body = [ast.Expr(ast.Constant(...))]
    return ast.unparse(function)


def members(kind: ast.ClassDef) -> str:
    """Return a class without the bodies of its methods, and without what is private."""
    kept: list[ast.stmt] = []
    for one in kind.body:
        if isinstance(one, ast.AnnAssign):
            kept.append(one)
        elif isinstance(one, ast.FunctionDef) and (one.name.startswith("__") or not one.name.startswith("_")):
            kept.extend(ast.parse(signature(one)).body)
    kind.body = kept
    return ast.unparse(kind)


def stub(module: str) -> str:
    """Return the stub of a module."""
    parts: list[str] = []
    imports: list[str] = []
    for one in ast.parse((APP / f"{module}.py").read_text()).body:
        if isinstance(one, ast.Import | ast.ImportFrom):
            imports.append(ast.unparse(one))
        elif isinstance(one, ast.FunctionDef) and not one.name.startswith("_"):
            parts.append(signature(one))
        elif isinstance(one, ast.ClassDef) and not one.name.startswith("_"):
            parts.append(members(one))
        elif isinstance(one, ast.Assign) and not ast.unparse(one.targets[0]).isupper():
            parts.append(ast.unparse(one))
    for source in CONFIGS:
        file = ast.parse((APP / f"{source}.py").read_text()).body
        own = [one.name for one in file if isinstance(one, ast.ClassDef)]
        imports += [ast.unparse(one) for one in file if isinstance(one, ast.ImportFrom)]
        imports.append(f"from feller.app.{source} import {', '.join(own)}")
    return tidy("\n".join([HEADER, *dict.fromkeys(imports), *parts]), module)


def tidy(text: str, module: str) -> str:
    """Return a stub without imports that nothing needs, in the form of all files."""
    file = ("--stdin-filename", str(APP / f"{module}.pyi"))
    for command in (("check", "--select", "F401,F811,I", "--fix", "--quiet"), ("format", "--quiet")):
        done = subprocess.run([*RUFF, *command, *file, "-"], input=text, capture_output=True, text=True, check=False)
        if not done.stdout:
            raise SystemExit(done.stderr)
        text = done.stdout
    return text


def main(words: list[str]) -> int:
    """Write the stubs, or compare them."""
    stale = []
    for module in MODULES:
        file, text = APP / f"{module}.pyi", stub(module)
        if "--check" not in words:
            file.write_text(text)
        elif not file.is_file() or file.read_text() != text:
            stale.append(str(file))
    print(*stale, sep="\n", end="\n" if stale else "")
    return bool(stale)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
