"""Speech on the command line: all tasks, and what is refused."""

import csv
import json
import pathlib
import shlex
import shutil

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from feller.core.errors import InputError, UsageError
from feller.core.safetensors_io import save_tensors
from feller.data.speech.mel import MelConfig
from feller.networks.audio.hifigan import HiFiGAN, HiFiGANNetwork
from tests.app.asked import refuse, run
from tests.app.workflows.speech.test_vocoders_named import CONFIG
from tests.data.speech.clip import CLIPS, clip

RATE, HOP = 16_000, 160
NEVER, PRIDE = "LJ001-0008.flac", "sense-0880.flac"
NEVER_SAYS, PRIDE_SAYS = "has never been surpassed", "He was not an ill-disposed young man."
QUICK = ("--nfe", "2", "--vocoder", "griffin-lim:1")
HELLO = [("SIL", 5), ("HH_B", 6), ("AH_I", 7), ("L_I", 8), ("OW_E", 9), ("SIL", 10)]


def write(path, samples, rate=RATE):
    soundfile.write(path, samples, rate)


def table(name, rows):
    lines = ("phone,frames", *(f"{phone},{frames}" for phone, frames in rows), "")
    pathlib.Path(name).write_text("\n".join(lines))
    return name


@pytest.fixture(scope="module")
def place(speaking, tmp_path_factory):
    """Return a folder with a run, recordings and files that cannot be used."""
    folder = tmp_path_factory.mktemp("place")
    shutil.copytree(speaking, folder / "run")
    for name in (NEVER, PRIDE):
        shutil.copy(CLIPS / name, folder / name)
    never = clip(NEVER).samples
    write(folder / "stereo.wav", np.stack([never, 0.5 * never], 1))
    write(folder / "high.wav", clip(NEVER, 44_100).samples, 44_100)
    write(folder / "loud.wav", np.clip(20 * never, -1, 1))
    write(folder / "silent.wav", np.zeros(RATE))
    write(folder / "short.wav", never[:400])
    write(folder / "brief.wav", never[8000:9000])
    write(folder / "bare.wav", never)
    write(folder / "long.wav", np.concatenate([never] * 2))
    write(folder / "noise.wav", 0.1 * np.random.default_rng(0).standard_normal(RATE))
    (folder / "broken.wav").write_text("no sound")
    (folder / "folder.wav").mkdir()
    (folder / "many").mkdir()
    (folder / "many" / "notes.md").write_text("mine")
    return folder


@pytest.fixture(autouse=True)
def elsewhere(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setattr("feller.app.workflows.fit.evaluate", lambda run, **others: {})


@pytest.fixture
def sample(capsys):
    """Return a function that samples and returns the JSON output and the lines of notes."""

    def sampled(*words, run_folder="run"):
        capsys.readouterr()
        found = run("sample", run_folder, *words, *QUICK, "--overwrite")
        return found, capsys.readouterr().err.splitlines()

    return sampled


def samples(path):
    found, rate = soundfile.read(path, dtype="float32")
    assert rate == RATE
    return found


EDIT = ("--edit", NEVER, NEVER_SAYS)
TASKS = {
    "text": ("--text", "Hello world"),
    "voice": ("--text", "Hello world", "--voice", PRIDE, PRIDE_SAYS),
    "edit": ("--text", "has always been surpassed", *EDIT),
    "denoise": ("--denoise", NEVER, NEVER_SAYS, "--span", "0.5:0.9"),
    "content": ("--content", NEVER, NEVER_SAYS),
    "style": ("--content", NEVER, NEVER_SAYS, "--style", PRIDE, PRIDE_SAYS),
}


@pytest.mark.parametrize("task", TASKS)
def test_task_writes_a_recording_and_a_figure(sample, task):
    found, _ = sample(*TASKS[task], "--out", f"{task}.wav")
    heard = samples(f"{task}.wav")
    assert (found["samples"], found["n"]) == (f"{task}.wav", 1)
    assert found["seconds"] == pytest.approx(len(heard) / RATE, abs=1e-3)
    assert found["network_seconds"] >= 0
    assert Image.open(f"{task}.png").width > 100
    if task in ("content", "style"):
        assert len(heard) == len(clip(NEVER).samples) // HOP * HOP


@pytest.mark.slow
def test_kept_parts_of_a_recording(sample):
    """To the last sample, which lies behind the last whole frame."""
    real = clip(NEVER).samples
    assert len(real) % HOP
    for words, changes in ((TASKS["denoise"], True), (TASKS["edit"], True), (("--text", NEVER_SAYS, *EDIT), False)):
        _, lines = sample(*words, "--out", "whole.wav")
        heard = samples("whole.wav")
        assert np.abs(heard[-1000:] - real[-1000:]).max() < 2 / 32_767
        assert any("already has this text" in line for line in lines) is not changes
    assert np.abs(heard - real).max() < 2 / 32_767


def test_denoising_keeps_the_rest(sample):
    sample(*TASKS["denoise"], "--out", "kept.wav")
    heard, real = samples("kept.wav"), clip(NEVER).samples
    for piece in (slice(0, 6000), slice(16000, 28000)):
        assert np.abs(heard[piece] - real[piece]).max() < 2 / 32_767
    assert np.abs(heard[8000:14000] - real[8000:14000]).max() > 0.01


@pytest.mark.parametrize("task", ["text", "voice", "edit"])
def test_folder_of_several_recordings_with_durations(sample, task):
    found, _ = sample(*TASKS[task], "-n", 3, "--out", f"{task}-3")
    folder = pathlib.Path(f"{task}-3")
    names = [f"0000{i}{ending}" for i in range(3) for ending in (".csv", ".wav")]
    assert sorted(path.name for path in folder.iterdir()) == [*names, "grid.png"]
    tail = len(clip(NEVER).samples) % HOP if task == "edit" else 0  # behind the last whole frame
    heard = [samples(folder / f"0000{i}.wav") for i in range(3)]
    for i, sound in enumerate(heard):
        head, *rows = csv.reader((folder / f"0000{i}.csv").read_text().splitlines())
        assert head == ["phone", "frames"]
        assert len(sound) == HOP * sum(int(row[1]) for row in rows) + tail
    assert (found["n"], found["seconds"]) == (3, pytest.approx(sum(map(len, heard)) / RATE, abs=1e-3))
    assert len(heard[0]) != len(heard[1]) or not np.array_equal(heard[0], heard[1])


def test_arrays_of_log_mels_and_phones(sample):
    sample("--text", "Hello world", "-n", 2, "--out", "a.npz")
    arrays = np.load("a.npz")
    names = arrays["phones"][arrays["phone"][0]].tolist()
    assert names == ["SIL", "HH_B", "AH_I", "L_I", "OW_E", "SIL", "W_B", "ER_I", "L_I", "D_E", "SIL"]
    assert arrays["mel"].shape == (2, arrays["duration"].sum(1).max(), 80)
    assert arrays["valid"].sum(1).tolist() == arrays["duration"].sum(1).tolist()


def test_samples_depend_on_the_seed(sample):
    for name, seed in (("s1", 1), ("s2", 1), ("s3", 2)):
        sample("--text", "Hello", "--seed", seed, "--out", f"{name}.npz", "--durations", table("hello.csv", HELLO))
    first, again, other = (np.load(f"s{i}.npz")["mel"] for i in (1, 2, 3))
    assert np.array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


def test_given_durations(sample):
    found, _ = sample("--text", "Hello", "--durations", table("hello.csv", HELLO), "--out", "around")
    assert found["seconds"] == 0.45
    assert pathlib.Path("around/00000.csv").read_text() == pathlib.Path("hello.csv").read_text()
    slower = [(phone, 2 * frames) for phone, frames in HELLO]
    found, _ = sample("--text", "Hello", "--durations", table("slower.csv", slower), "--out", "around.wav", "-n", 1)
    assert found["seconds"] == 0.9


def test_given_durations_of_an_edit(sample):
    sample(*TASKS["edit"], "--out", "edited")
    rows = [tuple(line.split(",")) for line in pathlib.Path("edited/00000.csv").read_text().splitlines()[1:]]
    new = next(i for i, row in enumerate(rows) if row[0].startswith("AO"))
    longer = [(phone, 30 if i == new else frames) for i, (phone, frames) in enumerate(rows)]
    before = sum(int(frames) for _, frames in rows)
    found, _ = sample(*TASKS["edit"], "--durations", table("longer.csv", longer), "--out", "edited.wav")
    tail = len(clip(NEVER).samples) % HOP / RATE  # behind the last whole frame
    assert found["seconds"] == pytest.approx((before + 30 - int(rows[new][1])) / 100 + tail, abs=1e-3)
    file = table("changed.csv", [(phone, 30 if phone == "HH_B" else frames) for phone, frames in rows])
    refuse("sample", "run", *TASKS["edit"], "--durations", file, kind=InputError, file=file, found="30 frames")


def test_notes_on_recordings(sample):
    for name, words, note in (
        ("high.wav", NEVER_SAYS, "44,100 Hz"),
        ("stereo.wav", NEVER_SAYS, "stereo"),
        ("loud.wav", NEVER_SAYS, "clips"),
        ("bare.wav", "has", "low alignment score"),
        ("bare.wav", NEVER_SAYS, "using the first 0."),
    ):
        _, lines = sample("--text", "Hello", "--voice", name, words, "--out", "v.wav")
        assert any(note in line for line in lines), note
    assert any("0.41 to 0.95 s" in line for line in sample(*TASKS["denoise"], "--out", "d.wav")[1])


def test_spans_at_the_end_and_shorter_than_a_frame(sample):
    whole = len(clip(NEVER).samples) / RATE
    for span in (f"1.5:{whole:.4f}", "0:0.004", "0.5:0.501"):
        sample("--denoise", NEVER, NEVER_SAYS, "--span", span, "--out", "d.wav")


def test_unknown_words_are_spelled_on_request(sample):
    def unknown(found, *words, is_spellable=True, **fields):
        error = refuse("sample", "run", *words, kind=InputError, found=found, **fields)
        assert ("--spell" in error.remedy) == is_spellable

    unknown("2 unknown words: zyqqxv, wuggle", "--text", "Hello zyqqxv wuggle")
    sample("--text", "Hello zyqqxv wuggle", "--spell", "--out", "s.wav")
    unknown("zyqqxv", "--text", "Hi", "--voice", "bare.wav", "has zyqqxv been", file="bare.wav")
    unknown("1 unknown word: 你好", "--text", "你好", "--spell", is_spellable=False)
    unknown(f"1 unknown word: {40 * 'x'}", "--text", 500 * "x")


def test_transcripts_of_files_and_of_speech_recognition(sample, monkeypatch):
    heard = "feller.app.workflows.speech.sample_speech._transcribe"
    monkeypatch.setattr(heard, lambda path: NEVER_SAYS)
    _, lines = sample("--text", "Hello", "--voice", "bare.wav", "--out", "v.wav")
    assert f"transcript of bare.wav: {NEVER_SAYS}" in lines
    monkeypatch.setattr(heard, lambda path: "")
    refuse("sample", "run", "--text", "Hello", "--voice", "bare.wav", kind=InputError, expected="speech in bare.wav")

    def absent(path):
        raise UsageError("hearing words needs faster_whisper")

    monkeypatch.setattr(heard, absent)
    content = ("sample", "run", "--content", "bare.wav")
    assert "faster_whisper" in refuse(*content, expected="the text of bare.wav").found
    beside = pathlib.Path("bare.txt")
    try:
        beside.write_text(NEVER_SAYS)
        sample("--content", "bare.wav", "--out", "c.wav")
        beside.write_text(" \n")
        refuse(*content, kind=InputError, file="bare.txt")
        beside.write_bytes(b"\xff\x81")
        refuse(*content, kind=InputError, file="bare.txt", found="byte 0xff at position 0")
    finally:
        beside.unlink()


VOICE = "--text Hello --voice"
SPAN = f"--denoise {NEVER} '{NEVER_SAYS}' --span"
OTHERS = "--temperature 2,--top-k 3,--top-p 0.5,--given a=b,--template x,--superpose jump=1,--complete x.csv,--prompt x"
OTHERS += ",--mask x,--ask a b,--memory x,--documents 3,--order entropy,--backward,--best-of 3,--min-p 0.5,--contrast 3"
ONLY_SPEECH = f"--text a,--voice {NEVER},--denoise {NEVER},--span 0:1,--style {NEVER},--content {NEVER},--speed 2"
ONLY_SPEECH += ",--durations a.csv,--spell,--language de,--vocoder griffin-lim"


def of_files(*rows):
    return [(words, {"kind": InputError, "file": file, **more}) for words, file, more in rows]


def of_arguments(*rows):
    return [(words, {"argument": argument, **({"found": found} if found else {})}) for words, argument, found in rows]


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        *of_files(
            (f"{VOICE} silent.wav a", "silent.wav", {}),
            (f"{VOICE} short.wav a", "short.wav", {}),
            (f"{VOICE} brief.wav '{NEVER_SAYS}'", "brief.wav", {}),
            (f"{VOICE} noise.wav '{NEVER_SAYS}'", "noise.wav", {}),
            (f"{VOICE} bare.wav 'the price of oranges rose a lot'", "bare.wav", {}),
            (f"{VOICE} folder.wav a", "folder.wav", {"found": "a folder"}),
            (f"{VOICE} none.wav a", "none.wav", {"found": "none"}),
            (f"{VOICE} bare.wav ''", "bare.wav", {}),
            ("--text a --out many", "many", {"remedy": "Choose a new folder"}),
            ("--text a --out folder.wav", "folder.wav", {"remedy": "Move the folder"}),
            ("--text a --vocoder many", "many", {"found": "neither"}),
            ("--text a --vocoder bare.wav", "bare.wav", {"found": "the suffix '.wav'"}),
            ("--text a --durations nowhere.csv", "nowhere.csv", {"found": "none"}),
            ("--text a --durations many", "many", {"found": "a folder"}),
        ),
        (f"{VOICE} broken.wav a", {"kind": InputError}),
        (f"--content long.wav '{NEVER_SAYS} {NEVER_SAYS}'", {"kind": InputError, "found": "3.56 s"}),
        ("--text '... !'", {"kind": InputError, "found": "'... !'"}),
        ("--text 'hello 😀'", {"kind": InputError, "found": "'😀'"}),
        ("--text a --out broken.wav/a.wav", {"kind": InputError}),
        *of_arguments(
            (f"{VOICE} bare.wav a b", "voice", "bare.wav a b"),
            ("--text ' \n '", "text", "an empty text"),
            ("--text hello --language de", "language", None),
            *(
                (f"{SPAN} {span}", "span", repr(span))
                for span in ("0.5", ":", "a:b", "-1:0.5", "0.1:0.2:0.3", "nan:inf")
            ),
            (f"{SPAN} 0.5:0.5", "span", "'0.5:0.5'"),
            (f"--denoise {NEVER}", "denoise", None),
            ("--span 0.1:0.2 --text a", "span", None),
            (f"--style {NEVER} --text a", "style", None),
            (f"--voice {NEVER}", "voice", None),
            (f"--edit {NEVER}", "edit", None),
            ("--durations a.csv", "durations", None),
            (f"--content {NEVER} --text a", "content", None),
            (f"--voice {NEVER} --edit {NEVER} --text a", "edit", "both"),
            (f"--denoise {NEVER} --span 0:1 --content {NEVER}", "denoise", "both"),
            (f"--content {NEVER} --speed 2", "speed", None),
            ("--text a --durations a.csv --speed 2", "speed", None),
            *((f"--text a --speed {speed}", "speed", speed) for speed in ("0", "nan", "9")),
            ("--text a --out a.wav -n 2", "n", "2"),
        ),
        ("", {"found": "none of these"}),
        (f"{SPAN} 0.5:99", {"found": "0.50:99.00 s"}),
        *((f"--text a --guidance {scale}", {"found": found}) for scale, found in (("1e9", "1e+09"), ("nan", "nan"))),
        ("--text a --out a.csv", {"remedy": "Use .npz, .wav, or a folder (no suffix)"}),
        ("--text a --vocoder magic", {"found": "magic, which does not exist"}),
        ("--text a --vocoder griffin-lim:x", {"found": "griffin-lim:x"}),
        ("--text a --vocoder run", {"file": "run"}),
        *((f"--text a {words}", {"remedy": "Leave it out", "file": None}) for words in OTHERS.split(",")),
    ],
)
def test_refused_samples(words, fields):
    refuse("sample", "run", *shlex.split(words), **fields)


@pytest.mark.parametrize(
    ("rows", "fields"),
    [
        ([*HELLO, ("SIL", 1)], {"file": "wrong.csv", "found": "7"}),
        ([("SIL", 5), ("Y_B", 6), *HELLO[2:]], {"file": "wrong.csv", "found": "Y_B"}),
        ([("SIL", 5), ("HH_B", 0), *HELLO[2:]], {"place": "wrong.csv: line 3", "found": "'0'"}),
        ([("SIL", 5), ("HH_B", 1.5), *HELLO[2:]], {"place": "wrong.csv: line 3", "found": "'1.5'"}),
        ([("SIL", 5), ("HH_B", 900), *HELLO[2:]], {"argument": "durations", "found": "9.4 s"}),
    ],
)
def test_refused_durations(rows, fields):
    durations = table("wrong.csv", rows)
    refuse("sample", "run", "--text", "hello", "--durations", durations, kind=InputError, **fields)


def test_vocoders(sample):
    pathlib.Path("gan").mkdir()
    config = {**CONFIG, "upsample_rates": [5, 8, 4], "upsample_kernel_sizes": [11, 16, 8]}
    pathlib.Path("gan/config.json").write_text(json.dumps(config))
    network = HiFiGANNetwork(HiFiGAN((5, 8, 4), (11, 16, 8), 8, (3,), ((1, 3),)), 80)
    for i, weight in enumerate(network.parameters()):
        weight.data = 0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(i))
    save_tensors(pathlib.Path("gan/generator.safetensors"), network.state_dict())
    words = ("sample", "run", "--text", "Hello", "--durations", table("hello.csv", HELLO), "--vocoder")
    for vocoder, name in (("griffin-lim:3", "g"), ("gan", "h"), ("gan/generator.safetensors", "f")):
        run(*words, vocoder, "--out", f"{name}.wav")
    assert len(samples("g.wav")) == len(samples("h.wav")) == 45 * HOP
    assert np.array_equal(samples("h.wav"), samples("f.wav"))
    assert not np.array_equal(samples("h.wav"), samples("g.wav"))
    pathlib.Path("pickled").mkdir()
    shutil.copy("gan/config.json", "pickled/config.json")
    pathlib.Path("pickled/generator.pt").write_bytes(b"\x80")
    refuse(*words, "pickled", kind=InputError, file="pickled/generator.pt")
    changed = {**config, "sampling_rate": MelConfig.default_for(8_000).sample_rate}
    pathlib.Path("gan/config.json").write_text(json.dumps(changed))
    refuse(*words, "gan", kind=InputError, file="gan/config.json")


def test_options_of_speech_apply_to_speech_only():
    run("fit", "example:moons", "--size", "tiny", "--steps", 2, "--out", "moons")
    for words in ONLY_SPEECH.split(","):
        refuse("sample", "moons", *words.split(), argument=words.split()[0][2:], remedy="Leave it out")


def test_moved_and_incomplete_runs(sample):
    shutil.copytree("run", "moved/deep/run")
    sample("--text", "Hello", "--out", "m.wav", run_folder="moved/deep/run")
    lost = pathlib.Path("moved/deep/run/durations.safetensors")
    whole = lost.read_bytes()
    words, fields = ("sample", "moved/deep/run", "--text", "a"), {"kind": InputError, "file": str(lost)}
    for content in (whole[:-100], whole[:-1] + bytes([whole[-1] ^ 1])):
        lost.write_bytes(content)
        refuse(*words, **fields)
    lost.unlink()
    refuse(*words, **fields, found="no such file")


def test_resumed_fit_keeps_its_duration_models(speaking, sample):
    shutil.copytree(speaking, "resumed")
    files = [pathlib.Path(f"resumed/{name}.safetensors") for name in ("durations", "rhythm")]
    before = [file.read_bytes() for file in files]
    run("fit", "--resume", "--out", "resumed", "--steps", 4)
    assert json.loads(pathlib.Path("resumed/state.json").read_text())["step"] == 4
    assert [file.read_bytes() for file in files] == before
    sample("--text", "Hello", "--out", "r.wav", run_folder="resumed")
    files[1].unlink()
    assert str(files[1]) in str(refuse("fit", "--resume", "--out", "resumed", "--steps", 5, kind=InputError))


def test_other_commands_refuse_speech(speaking):
    pathlib.Path("reward.py").write_text("def loud(values):\n    return values['mel'].mean((1, 2))\n")
    sample, reward, data = (
        'Use: feller sample RUN --text "..."',
        ("--reward", "reward.py:loud"),
        speaking.parent / "clips",
    )
    refuse("steer", "run", *reward, "-n", 1, remedy=sample)
    for method in ((), ("--method", "policy-gradient")):
        refuse("tune", "run", *reward, "--steps", 1, *method, "--out", "tuned", remedy=sample)
    assert not pathlib.Path("tuned").exists()
    refuse("audit", "run", remedy=sample)
    refuse("steer", "run", "--observe", NEVER, "--operator", "mask")
    refuse("bridge", data, data)
    for recipe in ("distil", "reflow"):
        assert recipe in str(refuse("fit", data, "--recipe", recipe, "--start-from", "run", "--steps", 1, "--out", "s"))
