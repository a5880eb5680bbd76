"""Command `feller doctor`."""

import sys
from dataclasses import dataclass
from typing import Annotated, Any

from feller.app.commands.flag_types import Choices, DataArgument, OptionalText
from feller.core.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Check the installation, and measure the speed of the hardware; exit with status 1 if feller cannot work.

    With --size, estimate the memory and the time of training a model of this size instead, on DATA or images of a
    --shape.
    """

    data: DataArgument = None
    """Data set of the estimate, as for `feller fit`."""
    size: Annotated[OptionalText, Choices(registries=("feller.models.recipes.recipe:SIZES",))] = None
    """Size of the model whose memory and training time are estimated, from the shapes of its network alone."""
    shape: OptionalText = None
    """Shape of images for the estimate without DATA: channels, height and width (default: 3x64x64)."""
    recipe: Annotated[OptionalText, Choices(registries=("feller.models.recipes.registry:RECIPES",))] = None
    """Recipe of the estimate (default: chosen from the data)."""
    json: bool = False
    """Print one JSON object as the last line of standard output."""

    def run(self, words: list[str]) -> dict[str, Any]:
        output = sys.stderr if self.json else sys.stdout
        if self.size is not None:
            from feller.app.workflows.size_estimate import estimate_lines, estimate_size

            estimate = estimate_size(self.size, self.data, self.shape, self.recipe)
            for line in estimate_lines(estimate):
                print(line, file=output)
            return estimate
        if given := [name for name in ("data", "shape", "recipe") if getattr(self, name) is not None]:
            raise UsageError("--size as well", "none", "Give the size of the model", argument=given[0])
        from feller.app.workflows.doctor import diagnose, lines

        findings = diagnose()
        for line in lines(findings):
            print(line, file=output)
        return findings

    def status(self, findings: dict[str, Any]) -> int:
        return 1 if findings.get("broken") else 0
