"""Pictures of a folder that are all of one size and one mode, so that none decides how others are read."""

import pathlib

from PIL import Image

from feller.core.errors import InputError
from feller.data.files import sample_folder
from feller.data.images.load_images import ENDINGS, FORMATS, look_at


def check_one_kind(folder: pathlib.Path) -> None:
    """Refuse pictures of several sizes, or of which some have colour and some have none; others cannot be read anyway.

    Raises:
        InputError: Then.
    """
    seen: dict[str, pathlib.Path] = {}
    for file in sorted(folder.rglob("*")):
        if file.suffix.lower() in ENDINGS and file.is_file() and not sample_folder.is_ours(file):
            try:
                with Image.open(file, formats=FORMATS) as image:
                    (width, height), mode, colour, _ = look_at(image)
            except Exception:
                continue
            seen.setdefault(f"{width} x {height} {'in colour' if colour else 'gray'} ({mode})", file)
    if len(seen) > 1:
        kinds = ", ".join(f"{kind} ({file.name})" for kind, file in list(seen.items())[:3])
        raise InputError(
            f"{folder}: a private fit takes pictures of one size and mode, since otherwise some decide how others are"
            f" read; there are {kinds}: convert them first"
        )
