"""Documents: draw what words say, caption a picture, answer a question about it, or edit it."""

import pathlib
import shutil

from feller.app.reporter import Tell
from feller.app.webui.controls import Choice, Control, Drawing, Number, Picture, Words
from feller.app.webui.loaded_run import Opened
from feller.app.webui.sample_views import as_words, picture
from feller.app.webui.tab import Ability, Answers, Kind, Outcome, Place, Tab
from feller.app.webui.tabs.sample import seeded
from feller.app.workflows.documents.generate_documents import Manner, documents
from feller.core.errors import UsageError
from feller.data.documents.modality import Documents

MOST = 16
CANVAS = 400
"""Pixels of the longer side of what is drawn on, about."""
YES, NO = "yes", "no"
CAPTION, ANSWER, EDIT = "describe it", "answer a question about it", "change it"


def _is(one: Opened, place: Place) -> bool:
    return isinstance(one.modality, Documents)


def plain(text: str) -> str:
    """Return words that name no file: signs in angle brackets are of the command line, where <image:FILE> reads one."""
    return text.replace("<", "\\<")


def _draw(one: Opened, place: Place) -> Tab:
    def does(answers: Answers, tell: Tell) -> Outcome:
        words = answers["words"].strip()
        room = place.scratch.room()
        written, file = documents(
            one.run,
            answers["n"],
            out=str(room / "samples"),
            prompt=plain(words) or None,
            memory=_memory(answers, place) if words else None,
            manner=Manner(guidance=answers["guidance"] if words else 1.0),
            seed=answers["seed"],
            tell=tell,
        )
        return Outcome(pictures=(picture(written.data, room, words or "Documents"),), files=(_packed(file, room),))

    return Tab(
        about="Type words, and their picture is drawn. Without any, whole documents are.",
        controls={
            "words": Words(label="Words", lines=2, flags=("--prompt",)),
            **_looked_up(place),
            "n": Number(label="How many", value=4, least=1, most=MOST),
            "guidance": Number(
                label="Guidance",
                hint="1 is plain, more follows the words more sharply.",
                value=1.0,
                least=0.0,
                most=10.0,
                whole=False,
                flags=("--guidance",),
            ),
            "seed": seeded(),
        },
        does=does,
        shows=(Kind.PICTURES, Kind.FILES),
        button="Draw",
    )


def _ask(one: Opened, place: Place) -> Tab:
    def does(answers: Answers, tell: Tell) -> Outcome:
        if answers["picture"] is None:
            raise UsageError("upload a picture first")
        room = place.scratch.room()
        copy = room / f"picture{answers['picture'].suffix.lower()}"
        shutil.copyfile(answers["picture"], copy)
        task, words = answers["task"], answers["words"]
        written, file = documents(
            one.run,
            answers["n"],
            out=str(room / "samples"),
            prompt=f"<image:{copy}> <infill>" if task == CAPTION else None,
            ask=(str(copy), words) if task == ANSWER else (),
            edit=(str(copy), words) if task == EDIT else (),
            memory=_memory(answers, place),
            seed=answers["seed"],
            tell=tell,
        )
        shown = picture(written.data, room, "Documents")
        return Outcome(
            words=as_words([written.lines(i) for i in range(len(written.said))]) if written.said else "",
            pictures=(shown,),
            files=(_packed(file, room),),
        )

    return Tab(
        about="Upload a picture, and have it described, changed, or a question about it answered.",
        controls={
            "picture": Picture(label="Picture"),
            "task": Choice(label="What to do with it", options=(CAPTION, ANSWER, EDIT), value=CAPTION),
            "words": Words(label="The question, or what is to change", lines=2, flags=("--ask", "--edit")),
            **_looked_up(place),
            "n": Number(label="How many", value=1, least=1, most=MOST),
            "seed": seeded(),
        },
        does=does,
        shows=(Kind.WORDS, Kind.PICTURES, Kind.FILES),
        button="Go",
    )


def _fill(one: Opened, place: Place) -> Tab:
    def does(answers: Answers, tell: Tell) -> Outcome:
        room, drawn = place.scratch.room(), answers["drawing"]
        drawn.picture.convert("RGB").save(room / "picture.png")
        drawn.mask.save(room / "hole.png")
        prompt = f"{plain(answers['words'].strip())} <image:{room / 'picture.png'}>".strip()
        written, file = documents(
            one.run,
            answers["n"],
            out=str(room / "samples"),
            prompt=prompt,
            mask=str(room / "hole.png"),
            memory=_memory(answers, place),
            seed=answers["seed"],
            tell=tell,
        )
        shown = picture(written.data, room, "Filled in")
        return Outcome(pictures=(shown,), files=(_packed(file, room),))

    return Tab(
        about="Draw over the part of a picture that is to be drawn anew, and say what the whole shows.",
        controls={
            "drawing": Drawing(label="Picture", size=(CANVAS, CANVAS), flags=("--mask",)),
            "words": Words(label="What the picture shows", lines=2, flags=("--prompt",)),
            **_looked_up(place),
            "n": Number(label="How many", value=1, least=1, most=MOST),
            "seed": seeded(),
        },
        does=does,
        shows=(Kind.PICTURES, Kind.FILES),
        button="Fill in",
    )


def _looked_up(place: Place) -> dict[str, Control]:
    """Return whether the memory is used, where one was named when the page was started."""
    if place.memory is None:
        return {}
    hint = "Documents most like what is asked stand in front of it."
    label = "Look up in the memory"
    return {"memory": Choice(label=label, hint=hint, options=(NO, YES), value=NO, flags=("--memory",))}


def _memory(answers: Answers, place: Place) -> str | None:
    return place.memory if answers.get("memory") == YES else None


def _packed(folder: pathlib.Path, room: pathlib.Path) -> pathlib.Path:
    """Put a folder into one file to download."""
    return pathlib.Path(shutil.make_archive(str(room / "documents"), "zip", folder))


DRAW = Ability(name="Draw", has=_is, tab=_draw)
ASK = Ability(name="Ask about a picture", has=_is, tab=_ask)
FILL_DOCUMENT = Ability(name="Fill in", has=_is, tab=_fill)
