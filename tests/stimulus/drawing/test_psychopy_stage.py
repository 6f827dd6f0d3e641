"""A real PsychoPy window under Xvfb: what is on it, pixel by pixel; and monitors, keys and tones."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image, ImageColor

from rtgod.errors import InputError
from rtgod.pictures.pixels import read_picture
from stimulus.drawing import psychopy_stage, xvfb
from stimulus.paradigm.script import Tone
from stimulus.screens.colours import BACKGROUND, BEST_BAR, BRIGHT, OTHER_BAR, PLAIN, TRACK, faded

pytestmark = pytest.mark.skipif(
    not xvfb.installed() or find_spec("psychopy") is None, reason="Xvfb or PsychoPy is not installed"
)
REPOSITORY = Path(__file__).parents[3]
WIDTH, HEIGHT = 800, 600
GREY = np.array(ImageColor.getrgb(BACKGROUND))


def said_in_a_process(code, *arguments):
    """What a program prints as JSON. PsychoPy keeps a connection to the X server as long as its process lives."""
    environment = {name: value for name, value in os.environ.items() if name != "DISPLAY"}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=environment | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


# ------------------------------------------------------------------------------------------------------- pictures

PAINT = """
import json, sys, time
from dataclasses import replace
from pathlib import Path
from stimulus.drawing import xvfb
from stimulus.screens.feedback import _GRID
from stimulus.drawing.lettering import written
from stimulus.screens.scene import Choice, Picture, Scene, Thermometer
from stimulus.settings import MonitorSettings
from stimulus.drawing.psychopy_stage import PsychopyStage
from stimulus.screens.screen import RankedRow

folder = Path(sys.argv[1])
square, wide = str(folder / "square.png"), str(folder / "wide.png")
rows = tuple(RankedRow(f"category {n}", 1 - n / 12) for n in range(10))
tiles = tuple(Picture(square, 3.0, 4 * x, 4 * y, f"picture {x} {y}", 1.0) for x, y in _GRID)
scenes = {
    "empty": Scene(),
    "square": Scene(pictures=(Picture(square, 12.0),), show_fixation=False),
    "wide": Scene(pictures=(Picture(wide, 12.0),), show_fixation=False),
    "list": Scene(rows, caption="not sure yet"),
    "scores": Scene(rows, bars_are_chances=False),
    "grid": Scene(pictures=tiles, show_fixation=False),
    "thermometer": Scene(thermometer=Thermometer(0.75, "how close"), caption="not sure yet"),
    "question": Scene(title="How vivid was it?", choice=Choice(("not\\nat all", "a little", "very"), 1)),
    "instructions": Scene(lines=("Look at the point in the middle.", "Press the button."), message="waiting"),
    "long": Scene(title="a title that is much too long " * 4, lines=("an instruction that is " * 9,)),
}
for name in ("list", "grid", "thermometer"):
    pictures = tuple(replace(picture, strength=0.45) for picture in scenes[name].pictures)
    scenes[name + "_pale"] = replace(scenes[name], strength=0.45, pictures=pictures)

def painted(name, **monitor):
    monitor = MonitorSettings(**({"width_cm": 32, "distance_cm": 60, "size_px": (800, 600)} | monitor))
    stage = PsychopyStage(monitor, off_screen=True, tones=False)
    stage.load([square, wide], 12.0, [square], ["\\u00e9t\\u00e9"])
    took_ms = {}
    for scene in scenes:
        begun_s = time.perf_counter()
        stage.draw(scenes[scene])
        took_ms[scene] = 1e3 * (time.perf_counter() - begun_s)
    for scene in scenes:
        stage.save_png(folder / f"{name}_{scene}.png", scenes[scene])
    for number in range(300 if name == "plain" else 0):
        stage.draw(Scene(title=f"text {number}"))
    kept = len(stage._canvas._kept)
    warmed = Scene(title="a title that nobody has seen " * 3)
    stage.warm([warmed])
    n_written = written.cache_info().misses
    stage.draw(warmed)
    n_written = written.cache_info().misses - n_written
    stage.save_png(folder / f"{name}_again.png", scenes["list"])
    fit = stage.fit
    stage.close()
    return took_ms, kept, n_written, fit

with xvfb.offscreen(900, 900):
    took_ms, kept, n_written, fit = painted("plain")
    fits = {"plain": fit, "near": painted("near", distance_cm=112)[-1]}
    painted("high", size_px=(600, 800), width_cm=24)
    for mirrored in (False, True):
        for rotated_deg in (0, 90, 180, 270):
            painted(f"{mirrored}_{rotated_deg}", mirrored=mirrored, rotated_deg=rotated_deg)
audio = "psychopy.sound" in sys.modules
print(json.dumps({"took_ms": took_ms, "kept": kept, "n_written": n_written, "fits": fits, "audio": audio}))
"""
SCENES = ("empty", "square", "wide", "list", "grid", "thermometer", "question", "instructions", "long", "list_pale")


@pytest.fixture(scope="module")
def painted(tmp_path_factory):
    """Screens by setup and scene; and what else the program found."""
    folder = tmp_path_factory.mktemp("screens")
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (side_px(), side_px(), 3), np.uint8)
    Image.fromarray(noise).save(folder / "square.png")
    quarters = np.zeros((200, 300, 3), np.uint8)
    quarters[:100, :150], quarters[:100, 150:], quarters[100:, :150] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    Image.fromarray(quarters).save(folder / "wide.png")
    said = said_in_a_process(PAINT, folder)

    def screen(setup, scene):
        return np.asarray(Image.open(folder / f"{setup}_{scene}.png").convert("RGB")).astype(int)

    screen.said, screen.noise = said, noise
    return screen


def side_px():
    """12 degrees at 60 cm on a screen 32 cm wide."""
    return round(2 * 60 * math.tan(math.radians(6)) / 32 * WIDTH)


def box(screen):
    """First and last row and column that are not the background."""
    rows, columns = np.nonzero(np.abs(screen - GREY).max(axis=-1) > 2)
    return rows.min(), rows.max() + 1, columns.min(), columns.max() + 1


def test_an_image_of_12_degrees_is_12_degrees_and_shows_the_files_pixels(painted):
    top, bottom, left, right = box(painted("plain", "square"))
    assert (bottom - top, right - left) == (side_px(), side_px())
    assert (top + bottom) / 2 == pytest.approx(HEIGHT / 2, abs=0.5)
    assert (left + right) / 2 == pytest.approx(WIDTH / 2, abs=0.5)
    np.testing.assert_array_equal(painted("plain", "square")[top:bottom, left:right], painted.noise)


def test_an_image_keeps_its_shape_and_is_upright(painted):
    screen = painted("plain", "wide")
    top, bottom, left, right = box(screen)
    assert right - left == side_px()
    assert bottom - top == pytest.approx(side_px() * 2 / 3, abs=1)
    corners = [screen[y, x].tolist() for y in (top + 9, bottom - 9) for x in (left + 9, right - 9)]
    assert corners == [[255, 0, 0], [0, 255, 0], [0, 0, 255], [0, 0, 0]]


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotated_deg", [0, 90, 180, 270])
def test_a_projection_shows_the_plain_screen_mirrored_and_turned(painted, scene, mirrored, rotated_deg):
    expected = painted("high" if rotated_deg % 180 else "plain", scene)
    if mirrored:
        expected = expected[:, ::-1]
    expected = np.rot90(expected, -rotated_deg // 90)
    # Pictures that are scaled are rounded where they are drawn.
    np.testing.assert_allclose(painted(f"{mirrored}_{rotated_deg}", scene), expected, atol=2 if scene == "grid" else 0)


@pytest.mark.parametrize("setup", ["plain", "high"])
@pytest.mark.parametrize("scene", SCENES[2:])
def test_nothing_is_cut_by_the_edge(painted, setup, scene):
    screen = painted(setup, scene)
    top, bottom, left, right = box(screen)
    assert min(top, left, screen.shape[0] - bottom, screen.shape[1] - right) >= 3


@pytest.mark.parametrize(("scene", "share"), [("list", 0.05), ("thermometer", 0.015), ("grid", 0.1)])
def test_what_is_not_sure_is_paler_and_nothing_else_differs(painted, scene, share):
    clear, pale = painted("plain", scene), painted("plain", scene + "_pale")
    differs = (clear != pale).any(axis=-1)
    fixation = slice(HEIGHT // 2 - 7, HEIGHT // 2 + 7), slice(WIDTH // 2 - 7, WIDTH // 2 + 7)
    if scene == "list":
        assert not differs[fixation].any()
    differs[fixation] &= scene == "grid"  # its edge is smooth, on a bar that is paler
    assert differs.mean() > share
    for colour in {"list": (BEST_BAR, OTHER_BAR, BRIGHT), "thermometer": (BEST_BAR, PLAIN), "grid": (PLAIN,)}[scene]:
        solid = differs & (clear == ImageColor.getrgb(colour)).all(axis=-1)
        assert solid.any()
        assert (pale[solid] == ImageColor.getrgb(faded(colour, 0.45))).all(), "it fades to grey, not to the dark"
    if scene == "grid":
        card = slice(HEIGHT // 2 + 10, HEIGHT // 2 + 30), slice(WIDTH // 2 + 10, WIDTH // 2 + 30)
        track = np.array(ImageColor.getrgb(TRACK))
        np.testing.assert_allclose(pale[card] - track, 0.45 * (clear[card] - track), atol=1.5)
    assert not differs[int(0.93 * HEIGHT) :].any(), "the line that says so"
    if scene == "list":
        assert differs[:, : WIDTH // 2].any(), "names"
        assert differs[:, WIDTH // 2 :].any(), "bars"
    if scene == "thermometer":
        bar = (clear == ImageColor.getrgb(BEST_BAR)).all(axis=-1)
        top, bottom, left, right = box(np.where(bar[..., None], clear, GREY))
        differs[top:bottom, left:right] = False
        assert not differs[:bottom].any(), "marks"
        assert differs[bottom:].any(), "the name"


def test_bars_that_are_no_chances_have_no_track(painted):
    track = ImageColor.getrgb(TRACK)
    assert (painted("plain", "list") == track).all(axis=-1).mean() > 0.02
    assert (painted("plain", "scores") == track).all(axis=-1).mean() < 0.001, "but for edges of letters"


@pytest.mark.parametrize(("setup", "fit"), [("plain", 1.0), ("near", 0.877)])
def test_feedback_is_smaller_where_the_screen_is_too_small_for_it(painted, setup, fit):
    assert painted.said["fits"][setup] == pytest.approx(fit, abs=0.002)
    for scene in ("grid", "thermometer"):
        screen = painted(setup, scene)
        top, bottom, left, right = box(screen)
        assert min(top, left, screen.shape[0] - bottom, screen.shape[1] - right) >= 3


def test_the_thermometer_is_filled_to_its_level(painted):
    screen = painted("plain", "thermometer")
    column = screen[:, WIDTH // 2 - 15]
    filled = (np.abs(column - ImageColor.getrgb(BEST_BAR)).max(axis=-1) <= 1).sum()
    empty = (np.abs(column - ImageColor.getrgb(TRACK)).max(axis=-1) <= 1).sum()
    assert filled / (filled + empty) == pytest.approx(0.75, abs=0.01)
    assert (filled + empty) / side_px() == pytest.approx(11 / 12, abs=0.01)


def test_after_loading_no_first_picture_takes_long(painted):
    assert max(painted.said["took_ms"].values()) < 100


def test_what_was_warmed_is_not_written_again(painted):
    assert painted.said["n_written"] == 0


def test_texts_that_are_long_gone_make_room_and_can_come_back(painted):
    assert painted.said["kept"] <= 256
    np.testing.assert_array_equal(painted("plain", "again"), painted("plain", "list"))


def test_painting_needs_no_sound(painted):
    assert not painted.said["audio"]


# ------------------------------------------------------------------------------------------------ monitors and keys

OPEN = """
import json, sys
from pathlib import Path
from rtgod.errors import InputError
from rtgod.pictures.pixels import read_picture
from stimulus.drawing import xvfb
from stimulus.settings import MonitorSettings
from stimulus.drawing.psychopy_stage import PsychopyStage
from stimulus.drawing.psychopy_window import PsychopyWindow

folder = Path(sys.argv[1])
(folder / "text.png").write_text("not an image")
(folder / "cut.png").write_bytes((folder / "whole.png").read_bytes()[:300])
said = {}

def refusal(name, make):
    try:
        made = make()
        if made is not None:
            made.close()
        said[name] = ""
    except InputError as error:
        said[name] = str(error)

good = {"width_cm": 32, "distance_cm": 60}
with xvfb.offscreen(800, 600):
    refusal("no monitor", lambda: PsychopyStage(MonitorSettings(**good, screen=3), tones=False))
    refusal("no screen", lambda: PsychopyWindow(screen=1))
    refusal("resolution", lambda: PsychopyStage(MonitorSettings(**good, size_px=(1024, 768)), tones=False))
    refusal("width", lambda: PsychopyStage(MonitorSettings(distance_cm=60), tones=False))
    refusal("no vsync", lambda: PsychopyStage(MonitorSettings(**good, frame_hz=5), tones=False))
    refusal("font", lambda: PsychopyStage(MonitorSettings(**good), off_screen=True, font_file=str(folder / "text.png")))
    for measured_hz in (75.0, 59.94):
        PsychopyStage._measured_hz = lambda stage: measured_hz
        refusal(f"{measured_hz} Hz", lambda: PsychopyStage(MonitorSettings(**good), tones=False))

    # A window that does not fill its screen: a degree is as large as on the whole screen.
    stage = PsychopyStage(MonitorSettings(**good, full_screen=False, size_px=(400, 300)), tones=False)
    said["degree"], said["frame_s"] = stage._degree_px, stage.frame_s
    for name in ("missing", "text", "cut", "whole"):
        file = str(folder / f"{name}.png")
        refusal(f"image {name}", lambda: stage.load([file], 5.0))
        refusal(f"picture {name}", lambda: stage.load([], 5.0, [file]))
    refusal("too large", lambda: stage.load([str(folder / "whole.png")], 30.0))

    from pyglet.window import key
    handle = stage._window.winHandle
    stage.keys()
    before_s = stage.now()
    for symbol in (key.T, key._5, key.NUM_1, key.ESCAPE):
        handle.dispatch_event("on_key_press", symbol, 0)
    said["keys"] = [(name, before_s <= at_s <= stage.now()) for name, at_s in stage.keys()]
    said["no more keys"] = stage.keys()
    handle.dispatch_event("on_close")
    said["close"] = [name for name, _ in stage.keys()]
    said["no more close"] = stage.keys()
    stage.close()
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)).save(folder / "whole.png")
    return said_in_a_process(OPEN, folder)


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ("no monitor", ("screen 3 is not connected", "there are 1", "choose another screen")),
        ("no screen", ("screen 1 is not connected",)),
        ("resolution", ("has 800 x 600 pixels", "settings say 1024 x 768")),
        ("width", ("width_cm and distance_cm", "[monitor]")),
        ("no vsync", ("the settings say 5", "frame_hz", "vertical sync")),
        ("75.0 Hz", ("refreshes 75.0 times", "the settings say 60", "frame_hz")),
        ("font", ("font", "text.png", "name a TTF")),
        ("image missing", ("missing.png", "cannot be read")),
        ("image text", ("text.png", "cannot be read")),
        ("image cut", ("cut.png", "cannot be read")),
        ("picture text", ("text.png", "cannot be read")),
        ("picture cut", ("cut.png", "cannot be read")),
        ("too large", ("whole.png", "30 degrees are 804 pixels", "400 x 300", "width_cm and distance_cm")),
    ],
)
def test_what_is_wrong_is_named(said, mistake, words):
    for word in words:
        assert word in said[mistake]


@pytest.mark.parametrize("right", ["59.94 Hz", "image whole", "picture whole"])
def test_what_is_right_is_taken(said, right):
    assert said[right] == ""


def test_a_small_window_has_the_screens_degrees(said):
    assert said["degree"] == pytest.approx(2 * 60 * math.tan(math.radians(0.5)) / 32 * 800)


def test_presses_come_once_with_their_names_and_the_displays_time(said):
    assert said["keys"] == [["t", True], ["5", True], ["num_1", True], ["escape", True]]
    assert said["no more keys"] == []


def test_frames_are_as_long_as_was_measured(said):
    assert said["frame_s"] == pytest.approx(1 / 59.94)


def test_the_close_button_is_the_key_that_stops(said):
    assert said["close"] == ["escape"]
    assert said["no more close"] == []


def test_a_stage_is_opened_as_the_settings_say_and_silent_off_screen():
    code = """
import json, sys
from stimulus.paradigm.script import Tone
from stimulus.runtime.run_setup import opened
from stimulus.settings import DisplaySettings

monitor = {"width_cm": 32, "distance_cm": 60, "size_px": (320, 200), "frame_hz": 120}
settings = DisplaySettings(language="en", monitor=monitor, buttons={"stop": "q"}, tones=True)
with opened(settings, off_screen=True) as stage:
    stage.play(Tone.BEGIN)
    stage._window.winHandle.dispatch_event("on_close")
    keys = [name for name, _ in stage.keys()]
    size = [int(n) for n in stage._window.size]
audio = sorted({"psychopy.sound", "sounddevice", "psychtoolbox.audio"} & set(sys.modules))
print(json.dumps([size, stage.frame_s, keys, audio]))
"""
    assert said_in_a_process(code) == [[320, 200], 1 / 120, ["q"], []]


def test_without_a_display_the_window_says_so():
    code = """
import json
from rtgod.errors import InputError
from rtgod.pictures.pixels import read_picture
from stimulus.settings import MonitorSettings
from stimulus.drawing.psychopy_stage import PsychopyStage
import os
os.environ["DISPLAY"] = ":987"
try:
    PsychopyStage(MonitorSettings(width_cm=32, distance_cm=60))
except InputError as error:
    print(json.dumps(str(error)))
"""
    said = said_in_a_process(code)
    assert "DISPLAY=':987'" in said
    assert "offscreen" in said


# ----------------------------------------------------------------------------------------------------------- tones


@pytest.fixture
def sounds(monkeypatch):
    """A fake `psychopy.sound`, and what was made with it."""
    made = []

    class Sound:
        def __init__(self, wave, sampleRate, stereo):  # PsychoPy's name
            made.append((wave, sampleRate, stereo))
            self.n_played = 0

        def play(self):
            self.n_played += 1

    psychopy, sound = ModuleType("psychopy"), ModuleType("psychopy.sound")
    psychopy.sound, sound.Sound, sound.made = sound, Sound, made
    monkeypatch.setitem(sys.modules, "psychopy", psychopy)
    monkeypatch.setitem(sys.modules, "psychopy.sound", sound)
    return sound


def test_imagery_begins_with_a_higher_tone_than_it_ends_with_and_none_clicks(sounds):
    tones = psychopy_stage._tones()
    assert list(tones) == [Tone.BEGIN, Tone.END]
    pitches = []
    for wave, rate, stereo in sounds.made:
        assert stereo
        assert wave.shape == (0.2 * rate, 2)
        assert (wave[:, 0] == wave[:, 1]).all()
        assert 0.4 < np.abs(wave).max() <= 0.5
        assert np.abs(np.diff(wave[:, 0], prepend=0, append=0)).max() < 0.1, "it begins and ends softly"
        pitches.append(np.abs(np.fft.rfft(wave[:, 0])).argmax() / 0.2)
    assert pitches == pytest.approx([880, 587], abs=5)


def test_a_computer_without_sound_is_named(sounds):
    def fail(*_, **__):
        raise RuntimeError("no output device")

    sounds.Sound = fail
    with pytest.raises(InputError, match=r"no output device.*tones = false"):
        psychopy_stage._tones()


def test_the_participant_sees_the_pixels_that_the_network_does(tmp_path):
    rng = np.random.default_rng(0)
    wide = rng.integers(0, 65536, (40, 40)).astype(np.uint16)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    clear = rng.integers(0, 256, (40, 40, 4)).astype(np.uint8)
    clear[:20, :, 3], clear[20:, :, 3] = 0, 255
    Image.fromarray(clear).save(tmp_path / "clear.png")
    for name in ("wide.png", "clear.png"):
        pixels, changes = psychopy_stage._read_image(str(tmp_path / name), 40)
        seen = read_picture(tmp_path / name)
        np.testing.assert_array_equal(pixels, seen.pixels)
        assert changes == seen.changes
        assert len(changes) == 1
    assert (pixels[:20] == GREY).all()
