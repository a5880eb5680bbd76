"""What must not be loaded, so that the page is there within seconds."""

import pathlib
import subprocess
import sys

import pytest


def loaded_by(script: str) -> set[str]:
    """Return the modules that a new process has loaded at the end of a script."""
    command = [sys.executable, "-c", f"{script}\nimport sys; print(*sys.modules)"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def test_the_address_answers_before_torch_is_loaded() -> None:
    assert not {"torch", "numpy.linalg", "gradio", "feller.data"} & loaded_by("import feller.app.webui.server")


def test_the_page_loads_neither_statistics_nor_plots() -> None:
    script = "import feller.app.webui.widgets as look; look.style()"
    assert not {"scipy.stats", "scipy.optimize", "matplotlib", "sklearn", "feller.evaluation"} & loaded_by(script)


def test_the_page_loads_no_bridges_before_one_is_shown() -> None:
    assert not {"scipy.ndimage", "feller.control.bridges.problem"} & loaded_by("import feller.app.webui.page")


def test_gradio_writes_nothing_into_its_own_folder() -> None:
    """Each of its components renders its stub on import, else: a second of processor, and a folder that changes."""
    gradio = pytest.importorskip("gradio")
    folder = pathlib.Path(gradio.__file__).parent
    stub = folder / "components" / "button.pyi"
    before = stub.stat().st_mtime_ns if stub.is_file() else 0
    script = (
        "from feller.app.webui.asgi import write_no_stubs; write_no_stubs(); write_no_stubs(); import sys;"
        " assert sum('webui.asgi' in str(type(one)) for one in sys.meta_path) == 1;"
        " import gradio.component_meta as meta;"
        " assert 'webui.asgi' in meta.create_or_modify_pyi.__module__; import gradio; gradio.Button('x')"
    )
    loaded_by(script)
    assert (stub.stat().st_mtime_ns if stub.is_file() else 0) == before
