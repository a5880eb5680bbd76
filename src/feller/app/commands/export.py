"""feller export."""

import pathlib
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from feller.app.commands.flag_types import CodeText, Offers, RunPlace, Text
from feller.core.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write the network of RUN, the newest by default, for other programs; or the whole model as a folder."""

    deep: ClassVar[str] = ""

    folder: RunPlace = None
    """The run folder."""
    to: Annotated[Text, Offers(tables=("feller.app.workflows.export:FORMS",))] = None
    """torch-export (a .pt2 file), onnx, each with a .json of its name beside it (export.onnx.json) that says what goes
    in, what comes out and how to sample; or huggingface, a folder that `feller sample` opens again."""
    out: Text = None
    """The file or folder; by default export.pt2, export.onnx or huggingface in the run."""
    overwrite: bool = False
    """Replace the file of --out, and the .json beside it."""
    guidance: Annotated[str, Offers(("input",))] = "1"
    """A number that is built in; 1 is the plain conditional. Or input: whoever calls the network chooses."""
    code: CodeText = None
    """File of your own that defines what the run's model is made of."""
    json: bool = False
    """Print one JSON object, last on standard output."""

    def run(self, words: list[str]) -> dict[str, Any]:
        """Do it."""
        if self.to is None:
            raise UsageError("expected --to torch-export, onnx or huggingface")
        from feller.app.commands.resolve_run import find
        from feller.app.terminal import speaker
        from feller.app.workflows.export import HUGGING_FACE, export, said_of
        from feller.data.path_checks import check_free

        check_free(self.out, overwrite=self.overwrite)
        if self.out is not None and self.to != HUGGING_FACE:
            check_free(str(said_of(pathlib.Path(self.out))), overwrite=self.overwrite)
        tell = speaker()
        run = find(self.folder, self.code, tell)
        place, record = export(run, self.to, out=self.out, guidance=self.guidance, tell=tell)
        tell.say(f"{self.to}: {place}")
        if place.suffix:
            tell.say(f"what goes in, what comes out, how to sample: {said_of(place)}")
        else:
            tell.say(f"draw samples with: feller sample {place}")
        return {
            "run": str(run.path),
            "file": str(place),
            **{k: record[k] for k in ("inputs", "outputs") if k in record},
        }
