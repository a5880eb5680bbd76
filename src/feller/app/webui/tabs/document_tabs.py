"""Tabs for document models: text to image, captioning, visual question answering, image editing and inpainting."""

import pathlib
import shutil
from typing import Any

from feller.app.config import SampleConfig
from feller.app.options import config_of
from feller.app.reporter import Reporter
from feller.app.webui.condition_controls import guidance_control, guidance_from
from feller.app.webui.loaded_run import LoadedRun
from feller.app.webui.sample_views import as_words, draw_picture
from feller.app.webui.tab import Answers, OutputKind, PageContext, Tab, TabResult
from feller.app.webui.tabs.inpainting_tabs import CANVAS, read_mask_canvas
from feller.app.webui.widgets import canvas, check_picture, choice, number, seed, text_field
from feller.app.webui.widgets import picture as picture_upload
from feller.app.workflows.documents.generate_documents import sample_documents
from feller.core.errors import UsageError
from feller.data.documents.modality import Documents

MAX_DOCUMENTS = 16
YES, NO = "yes", "no"
CAPTION, ANSWER, EDIT = "caption", "answer a question", "edit"


def escape(words: str) -> str:
    """Escape angle brackets in a visitor's text, because the marker <image:FILE> in a prompt reads a file."""
    return words.replace("<", "\\<")


def _generate(
    run: LoadedRun, page: PageContext, answers: Answers, reporter: Reporter, caption: str = "Documents", **more: Any
) -> TabResult:
    """Generate documents with the given options of `SampleConfig`, and return them with a zip file for download."""
    room = page.new_result_folder()
    memory = page.memory if answers.get("memory") == YES else None
    more = {"memory": memory, "seed": answers["seed"], "n": answers["n"], "out": str(room / "samples"), **more}
    written, folder = sample_documents(run.run, config_of(SampleConfig, **more), reporter=reporter)
    packed = pathlib.Path(shutil.make_archive(str(room / "documents"), "zip", folder))
    words = as_words([written.text_of(i) for i in range(len(written.texts))]) if written.texts else ""
    return TabResult(words=words, pictures=(draw_picture(written.data, room, caption),), files=(packed,))


def _memory_control(page: PageContext) -> dict[str, Any]:
    if page.memory is None:
        return {}
    hint = "Prepends the most similar documents of the datastore to the prompt."
    return {"memory": choice("Retrieval", (NO, YES), hint=hint)}


def draw_tab(run: LoadedRun, page: PageContext) -> Tab | None:
    """Return the tab that generates images from text; None for other models."""
    if run.modality_as(Documents) is None:
        return None

    def draw(answers: Answers, reporter: Reporter) -> TabResult:
        words = answers["prompt"].strip()
        caption = words or "Documents"
        more = {"prompt": escape(words), "guidance": guidance_from(answers)} if words else {"memory": None}
        return _generate(run, page, answers, reporter, caption, **more)

    return Tab(
        name="Draw",
        description="Generate an image from a prompt, or whole documents without a prompt.",
        controls={
            "prompt": text_field("Prompt", lines=2),
            **_memory_control(page),
            "n": number("Number of documents", 4, 1, MAX_DOCUMENTS),
            "guidance": guidance_control(
                "Classifier-free guidance: 1 is off, larger values follow the prompt more closely."
            ),
            "seed": seed(),
        },
        handler=draw,
        outputs=(OutputKind.PICTURES, OutputKind.FILES),
        button="Draw",
    )


def ask_tab(run: LoadedRun, page: PageContext) -> Tab | None:
    """Return the tab that captions an image, answers questions about it, or edits it; None for other models."""
    if run.modality_as(Documents) is None:
        return None

    def ask(answers: Answers, reporter: Reporter) -> TabResult:
        file = check_picture(answers["picture"])
        if file is None:
            raise UsageError("upload an image first")
        copy = page.new_result_folder() / f"picture{file.suffix.lower()}"
        shutil.copyfile(file, copy)
        task, words = answers["task"], (str(copy), answers["ask"])
        more: dict[str, Any] = {"prompt": f"<image:{copy}> <infill>"}
        if task != CAPTION:
            more = {"ask" if task == ANSWER else "edit": words}
        return _generate(run, page, answers, reporter, **more)

    return Tab(
        name="Ask about an image",
        description="Caption or edit an image, or answer a question about it.",
        controls={
            "picture": picture_upload("Image"),
            "task": choice("Task", (CAPTION, ANSWER, EDIT)),
            "ask": text_field("Question or edit instruction", lines=2),
            **_memory_control(page),
            "n": number("Number of samples", 1, 1, MAX_DOCUMENTS),
            "seed": seed(),
        },
        handler=ask,
        outputs=(OutputKind.WORDS, OutputKind.PICTURES, OutputKind.FILES),
        button="Go",
    )


def document_fill_tab(run: LoadedRun, page: PageContext) -> Tab | None:
    """Return the tab that inpaints a part of an image with a document model; None for other models."""
    if run.modality_as(Documents) is None:
        return None

    def fill(answers: Answers, reporter: Reporter) -> TabResult:
        room = page.new_result_folder()
        below, mask = read_mask_canvas(answers["mask"])
        below.convert("RGB").save(room / "picture.png")
        mask.save(room / "hole.png")
        prompt = f"{escape(answers['prompt'].strip())} <image:{room / 'picture.png'}>".strip()
        return _generate(run, page, answers, reporter, "Filled in", prompt=prompt, mask=str(room / "hole.png"))

    return Tab(
        name="Fill in",
        description="Draw over the part of an image to inpaint, and describe the whole image.",
        controls={
            "mask": canvas("Image", (CANVAS, CANVAS), brush=CANVAS // 10),
            "prompt": text_field("Description of the image", lines=2),
            **_memory_control(page),
            "n": number("Number of samples", 1, 1, MAX_DOCUMENTS),
            "seed": seed(),
        },
        handler=fill,
        outputs=(OutputKind.PICTURES, OutputKind.FILES),
        button="Fill in",
    )
