"""Draws a `Scene` in a PsychoPy window: what the ranked list's window does not draw already, and keys and tones."""

from __future__ import annotations

import math
import shutil
import subprocess
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from rtgod.errors import InputError
from rtgod.messages import Array
from stimulus.paradigm import Tone
from stimulus.scene import Choice, Picture, Scene, Thermometer
from stimulus.settings import MonitorSettings
from stimulus.triggers import KeyPress
from stimulus.view import N_ROWS, Row, Screen
from stimulus.window import BEST_BAR, BRIGHT, DEFAULT_SIZE_PX, PLAIN, QUIET, TRACK, PsychopyWindow, text

#: Pictures of candidates are kept this small: hundreds of them are in memory, and nine are shown at once.
_SMALL_PX = 128
_N_PICTURES, _N_LABELS, _N_LINES = 9, 12, 4
_THERMOMETER_DEG = (1.5, 11.0)
_TONES_HZ = {Tone.BEGIN: 880.0, Tone.END: 587.0}
_TONE_S = 0.2
#: A refresh rate that differs by more is another one than was said.
_MOST_OFF = 0.03


class PsychopyStage(PsychopyWindow):
    """A window for paradigms; everything is made and loaded before the first trigger.

    Parameters
    ----------
    monitor : MonitorSettings
    off_screen : bool
        Without a monitor, whose refreshes would be waited for.
    font_file : str
        A font that has the texts' letters; empty takes PsychoPy's own.
    tones : bool
        Whether there is sound.

    Raises
    ------
    InputError
        If the screen is not there, or is not as it was said; its width or distance is not known; there is no sound.
    """

    def __init__(
        self, monitor: MonitorSettings, *, off_screen: bool = False, font_file: str = "", tones: bool = True
    ) -> None:
        if not off_screen:
            _check_screen(monitor)
        super().__init__(
            monitor.size_px or DEFAULT_SIZE_PX,
            full_screen=monitor.full_screen and not off_screen,
            screen=0 if off_screen else monitor.screen,
            wait_blanking=not off_screen,
            framed=False,
            mirrored=monitor.mirrored,
            rotated_deg=monitor.rotated_deg,
            font_file=font_file,
        )
        try:
            self._degree_px = monitor.pixels_per_degree(int(self._window.size[0]))
            self.frame_s = 1 / monitor.frame_hz
            if not off_screen:
                self._check_refresh(monitor)
            self._tones = _tones() if tones else {}
        except InputError:
            self.close()
            raise
        visual, window, height = self._visual, self._window, self._height
        self._title = text(visual, window, 0.075 * height, BRIGHT, font_file=font_file, pos=(0, 0.13 * height))
        self._lines = [text(visual, window, 0.042 * height, PLAIN, font_file=font_file) for _ in range(_N_LINES)]
        for place, line in enumerate(self._lines):
            line.pos = (0, (0.33 - 0.068 * place) * height)
        self._pictures = [
            _LabelledPicture(visual, window, self._degree_px, height, font_file) for _ in range(_N_PICTURES)
        ]
        self._thermometer = _Gauge(visual, window, self._degree_px, height, font_file)
        self._choice = _Choices(visual, window, self._width, height, font_file)
        self._large: dict[str, Any] = {}

    def now(self) -> float:
        """Seconds of PsychoPy's clock."""
        return float(self._clock.getTime())

    def draw(self, screen: Screen, due_s: float = -math.inf) -> float:
        """Show a screen; returns when, by PsychoPy's clock. Without a monitor's refreshes it is shown at `due_s`."""
        self._draw_to_back_buffer(screen)
        if not self._window.waitBlanking and (left_s := due_s - self.now()) > 0:
            time.sleep(left_s)
        self._window.flip()
        return self.now()

    def keys(self) -> list[KeyPress]:
        """What was pressed since the last call."""
        pressed = [KeyPress(name, at_s) for name, at_s in self._event.getKeys(timeStamped=self._clock)]
        return [*pressed, KeyPress("escape", self.now())] if self._closed_by_user else pressed

    def play(self, tone: Tone) -> None:
        """Begin a tone, where there is sound."""
        if tone in self._tones:
            self._tones[tone].play()

    def load(self, images: Sequence[str], size_deg: float, small: Sequence[str] = ()) -> None:
        """Have images ready: those that are shown large by themselves, and pictures that stand for categories.

        Raises
        ------
        InputError
            If one of them cannot be read.
        """
        for file in images:
            picture = _read_image(file, None)
            scale = size_deg * self._degree_px / max(picture.shape[:2])
            size = (picture.shape[1] * scale, picture.shape[0] * scale)
            self._large[file] = self._visual.ImageStim(self._window, picture, units="pix", size=size)
        for file in small:
            _read_image(file, _SMALL_PX)
        self._warm()

    def _warm(self) -> None:
        """Draw everything once, unseen: what is drawn for the first time takes up to half a second."""
        for image in self._large.values():
            image.draw()
        rows = tuple(Row(f"row {rank}", 0.5) for rank in range(N_ROWS))
        words = tuple(f"word {place}" for place in range(_N_LABELS))
        pictures = tuple(Picture("", 1.0, label=word) for word in words[:_N_PICTURES])
        for strength in (0.5, 1.0):
            self._draw_to_back_buffer(
                Scene(
                    rows, "caption", "message", strength=strength, title="title", lines=words[:_N_LINES],
                    pictures=pictures, thermometer=Thermometer(0.5, "level"), choice=Choice(words, 0),
                )
            )  # fmt: skip
        self._draw_to_back_buffer(Scene())
        self._window.clearBuffer()

    def _draw_to_back_buffer(self, screen: Screen) -> None:
        if isinstance(screen, Scene):
            self._draw_scene(screen)
        super()._draw_to_back_buffer(screen)

    def _draw_scene(self, scene: Scene) -> None:
        if len(scene.pictures) == 1 and scene.pictures[0].file in self._large:
            self._large[scene.pictures[0].file].draw()
        else:
            for drawn, picture in zip(self._pictures, scene.pictures, strict=False):
                drawn.draw(picture)
        if scene.thermometer is not None:
            self._thermometer.draw(scene.thermometer, scene.strength)
        if scene.choice is not None:
            self._choice.draw(scene.choice)
        for stimulus, words in ((self._title, scene.title), *zip(self._lines, scene.lines, strict=False)):
            if words:
                if stimulus.text != words:
                    stimulus.text = words
                stimulus.draw()

    def _check_refresh(self, monitor: MonitorSettings) -> None:
        measured = self._window.getActualFrameRate(nIdentical=20, nMaxFrames=240, nWarmUpFrames=10, threshold=1)
        if measured is not None and abs(measured / monitor.frame_hz - 1) > _MOST_OFF:
            raise InputError(
                f"the monitor refreshes {measured:.1f} times in a second, the settings say {monitor.frame_hz:g}: set "
                "the graphics card, or frame_hz in the table [monitor]"
            )


class _LabelledPicture:
    """A small picture on a card, with a word beneath it."""

    def __init__(self, visual: ModuleType, window: Any, degree_px: float, height: int, font_file: str) -> None:
        self._degree_px = degree_px
        self._card = visual.Rect(window, units="pix", width=1, height=1, fillColor=TRACK, lineWidth=0)
        blank = np.zeros((_SMALL_PX, _SMALL_PX, 3), np.float32)
        self._image = visual.ImageStim(window, blank, units="pix", size=(1, 1))
        self._label = text(visual, window, 0.026 * height, PLAIN, font_file=font_file)
        self._gap_px = 0.024 * height
        self._drawn = Picture("", 0.0)

    def draw(self, picture: Picture) -> None:
        if picture != self._drawn:
            self._set(picture)
        self._card.draw()
        if picture.file:
            self._image.draw()
        if picture.label:
            self._label.draw()

    def _set(self, picture: Picture) -> None:
        before, self._drawn = self._drawn, picture
        x, y = picture.x_deg * self._degree_px, picture.y_deg * self._degree_px
        side = picture.size_deg * self._degree_px
        if picture.file and picture.file != before.file:
            self._image.image = _read_image(picture.file, _SMALL_PX)
        self._card.size = self._image.size = (side, side)
        self._card.pos = self._image.pos = (x, y)
        self._label.pos = (x, y - side / 2 - self._gap_px)
        if picture.label != before.label:
            self._label.text = picture.label
        if picture.strength != before.strength:
            self._image.opacity = self._label.opacity = picture.strength


class _Gauge:
    """A column that fills from below; chance, the middle, is where the fixation is."""

    def __init__(self, visual: ModuleType, window: Any, degree_px: float, height: int, font_file: str) -> None:
        width, self._length = (degree_px * size for size in _THERMOMETER_DEG)
        bar: dict[str, Any] = {"win": window, "units": "pix", "lineWidth": 0, "width": width}
        self._bottom = -self._length / 2
        self._track = visual.Rect(height=self._length, fillColor=TRACK, **bar)
        self._level = visual.Rect(height=1, anchor="bottom", pos=(0, self._bottom), fillColor=BEST_BAR, **bar)
        mark: dict[str, Any] = {"win": window, "units": "pix", "lineWidth": 0, "height": 2, "width": 0.5 * width}
        self._marks = [
            visual.Rect(pos=(side * 0.85 * width, (share - 0.5) * self._length), fillColor=QUIET, **mark)
            for share in (0.0, 0.5, 1.0)
            for side in (-1, 1)
        ]
        self._label = text(visual, window, 0.036 * height, PLAIN, font_file=font_file)
        self._label.pos = (0, self._bottom - 0.05 * height)
        self._strength = 1.0

    def draw(self, thermometer: Thermometer, strength: float) -> None:
        if strength != self._strength:
            self._strength = self._level.opacity = strength
        if thermometer.label != self._label.text:
            self._label.text = thermometer.label
        self._level.height = max(thermometer.level * self._length, 1.0)
        for stimulus in (self._track, self._level, *self._marks, self._label):
            stimulus.draw()


class _Choices:
    """Answers in a row, each beneath its dot; the chosen one is bright and orange."""

    def __init__(self, visual: ModuleType, window: Any, width: int, height: int, font_file: str) -> None:
        self._width, self._height = 0.8 * width, height
        self._labels = [text(visual, window, 0.034 * height, PLAIN, font_file=font_file) for _ in range(_N_LABELS)]
        dot: dict[str, Any] = {"win": window, "units": "pix", "lineWidth": 0, "edges": 48}
        self._dot = visual.Circle(radius=0.012 * height, fillColor=TRACK, **dot)
        self._chosen = visual.Circle(radius=0.022 * height, fillColor=BEST_BAR, **dot)
        self._drawn = Choice(())

    def draw(self, choice: Choice) -> None:
        n = min(len(choice.labels), _N_LABELS)
        pitch = self._width / n
        for place in range(n):
            x = (place - (n - 1) / 2) * pitch
            label, is_chosen = self._labels[place], place == choice.chosen
            if choice.labels != self._drawn.labels:
                label.text, label.pos = choice.labels[place], (x, -0.1 * self._height)
            if choice != self._drawn:
                label.color = BRIGHT if is_chosen else PLAIN
            dot = self._chosen if is_chosen else self._dot
            dot.pos = (x, 0)
            dot.draw()
            label.draw()
        self._drawn = choice


def find_font(language: str) -> str:
    """A font file with a language's letters; empty where PsychoPy's own font has them.

    Raises
    ------
    InputError
        If there is none on this machine.
    """
    if language == "en":
        return ""
    matcher = shutil.which("fc-list")
    if matcher is not None:
        command = [matcher, f":lang={language}", "--format=%{file}\n"]
        found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split("\n")  # noqa: S603 # a fixed program
        # One that holds a single font: pyglet reads no collections.
        if files := sorted(file for file in found if Path(file).suffix.lower() in (".ttf", ".otf")):
            return files[0]
    raise InputError(
        f"no font with the letters of language {language!r} was found: install one (Debian: fonts-ipafont-gothic), or "
        "name a TTF file as font_file in the settings"
    )


@cache
def _read_image(file: str, side_px: int | None) -> Array:
    """An image as PsychoPy takes arrays: from -1 to 1, the first row at the bottom; a square if a side is given."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(file) as image:
            picture = image.convert("RGB")
    except (OSError, UnidentifiedImageError) as error:
        raise InputError(f"image {file}: cannot be read ({error})") from error
    if side_px is not None:
        picture = ImageOps.fit(picture, (side_px, side_px))
    return np.ascontiguousarray(np.asarray(picture, np.float32)[::-1] / 127.5 - 1)


def _check_screen(monitor: MonitorSettings) -> None:
    import pyglet

    screens = pyglet.display.get_display().get_screens()
    if monitor.screen >= len(screens):
        raise InputError(
            f"screen {monitor.screen} is not connected: there are {len(screens)}, counted from 0; set screen in the "
            "settings' table [monitor]"
        )
    size = screens[monitor.screen].width, screens[monitor.screen].height
    if monitor.full_screen and monitor.size_px and size != monitor.size_px:
        raise InputError(
            f"screen {monitor.screen} has {size[0]} x {size[1]} pixels, the settings say {monitor.size_px[0]} x "
            f"{monitor.size_px[1]}: is it the right one, at the right resolution?"
        )


def _tones() -> dict[Tone, Any]:
    """Tones with a soft beginning and end; InputError where nothing can sound."""
    try:
        from psychopy import sound

        rate = 44100
        time_s = np.arange(int(_TONE_S * rate)) / rate
        edge = np.minimum(1, np.minimum(time_s, _TONE_S - time_s) / 0.01)
        waves = {tone: 0.5 * edge * np.sin(2 * math.pi * hz * time_s) for tone, hz in _TONES_HZ.items()}
        return {
            tone: sound.Sound(np.stack([wave, wave], 1), sampleRate=rate, stereo=True) for tone, wave in waves.items()
        }
    except Exception as error:  # PsychoPy's backends raise what they like
        raise InputError(
            f"no tone can be played ({error}): connect a sound device, or set tones = false in the settings"
        ) from error
