"""Stage of a paradigm: a PsychoPy window on the monitor of the settings, for a `Scene`, with keys and tones."""

from __future__ import annotations

import math
import string
import time
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np

from rtgod.errors import InputError
from rtgod.messages import Array
from rtgod.pictures.fonts import is_side_by_side
from rtgod.pictures.pixels import Change, read_picture, told
from rtgod.text import composed
from stimulus.drawing.canvas import Texture
from stimulus.drawing.lettering import Drawing
from stimulus.drawing.painting import ScenePainting
from stimulus.drawing.picture_drawings import PictureDrawings
from stimulus.drawing.psychopy_window import DEFAULT_SIZE_PX, PsychopyWindow
from stimulus.paradigm.script import Tone
from stimulus.screens.scene import Choice, Picture, Scene, Thermometer
from stimulus.screens.screen import N_ROWS, RankedRow, Screen
from stimulus.settings import MonitorSettings
from stimulus.timing.triggers import KeyPress

_TONES_HZ = {Tone.BEGIN: 880.0, Tone.END: 587.0}
_TONE_S = 0.2
#: Longest time that a flip takes if it waits for no refresh, seconds.
_LONGEST_FLIP_S = 0.003
#: Largest relative difference between the measured refresh rate and that of the settings.
_MOST_OFF = 0.03
#: An interval that differs from the median one by more than this share is not one refresh, and is left out.
_ONE_REFRESH = 0.3
#: Number of refreshes that are timed, and number of refreshes before those, while the window settles.
_N_TIMED, _N_SETTLING = 60, 20


class PsychopyStage(ScenePainting, PsychopyWindow):
    """A window for paradigms; slow preparations are done before the first trigger.

    Parameters
    ----------
    monitor : MonitorSettings
    off_screen : bool
        Whether the window has no monitor, so that no refresh is waited for.
    font_file : str
        A font that has the texts' letters; empty takes PsychoPy's own.
    tones : bool
        Whether tones are played.
    close_key : str
        Name of the key that the window's close button counts as.

    Attributes
    ----------
    frame_s : float
        Time from one refresh to the next, seconds.
    drawing_s : float
        Time that the last screen took to draw, without the wait for a refresh, seconds.
    notes : tuple of str
        How the loaded images' pixels were converted, for the operator.

    Raises
    ------
    InputError
        If the screen is not connected, or differs from the settings; if its width or distance is not known; or if
        tones are wanted and none can be played.
    """

    def __init__(
        self,
        monitor: MonitorSettings,
        *,
        off_screen: bool = False,
        font_file: str = "",
        tones: bool = True,
        close_key: str = "escape",
    ) -> None:
        full_screen = monitor.full_screen and not off_screen
        super().__init__(
            monitor.size_px or DEFAULT_SIZE_PX,
            full_screen=full_screen,
            screen=0 if off_screen else monitor.screen,
            wait_blanking=not off_screen,
            framed=False,
            mirrored=monitor.mirrored,
            rotated_deg=monitor.rotated_deg,
            font_file=font_file,
        )
        self.frame_s = 1 / monitor.frame_hz
        # The pixels of a window that does not fill its screen are as large as the screen's.
        self._width_px = int(self._window.size[0]) if off_screen else self.screen_size_px[0]
        self._monitor, self._close_key = monitor, close_key
        self.drawing_s = self._flipping_s = 0.0
        self.notes: tuple[str, ...] = ()
        self._images: dict[tuple[str, float], Texture] = {}
        self._pictures = PictureDrawings()
        try:
            self._degree_px = self._pixels(1.0)
            if full_screen:
                self._check_resolution()
            if not off_screen:
                self._check_refresh()
            self._tones = _tones() if tones else {}
        except InputError:
            self.close()
            raise

    def now(self) -> float:
        """Return the time by PsychoPy's clock, seconds."""
        return float(self._clock.getTime())

    def prepare(self, screen: Screen) -> None:
        """Draw a screen; the next flip shows it.

        Parameters
        ----------
        screen : Screen
        """
        self._paint(screen)
        self._canvas.finish()

    def draw(self, screen: Screen, due_s: float = -math.inf) -> float:
        """Show a screen, and return when, by PsychoPy's clock, seconds.

        Parameters
        ----------
        screen : Screen
        due_s : float, optional
            Time by PsychoPy's clock at which to show it if no refresh is waited for, seconds; by default at once.
        """
        begun_s = self.now()
        self.prepare(screen)
        ready_s = self.now()
        self.drawing_s = ready_s - begun_s
        if not self._window.waitBlanking and due_s - self._flipping_s > ready_s:
            time.sleep(due_s - self._flipping_s - ready_s)
        begun_s = self.now()
        self._window.flip()
        flip_s = self.now()
        self._flipping_s += 0.1 * (min(flip_s - begun_s, _LONGEST_FLIP_S) - self._flipping_s)
        return flip_s

    def keys(self) -> list[KeyPress]:
        """Return the keys pressed since the last call."""
        pressed = [KeyPress(name, at_s) for name, at_s in self._event.getKeys(timeStamped=self._clock)]
        if self._closed_by_user:
            self._closed_by_user = False
            pressed.append(KeyPress(self._close_key, self.now()))
        return pressed

    def play(self, tone: Tone) -> None:
        """Begin a tone, if tones are played at all.

        Parameters
        ----------
        tone : Tone
        """
        if tone in self._tones:
            self._tones[tone].play()

    def load(
        self, images: Iterable[str], size_deg: float, pictures: Iterable[str] = (), names: Iterable[str] = ()
    ) -> None:
        """Load images and pictures, and write letters and names beforehand.

        Parameters
        ----------
        images : iterable of str
            Files that are shown by themselves, in their own shape.
        size_deg : float
            Length of the images' longer sides, degrees of visual angle.
        pictures : iterable of str
            Files that stand for categories, shown as squares with words beneath.
        names : iterable of str
            Texts of which only the run decides which are shown; English letters are prepared in any case.

        Raises
        ------
        InputError
            If a file cannot be read, or an image is larger than the screen.
        """
        side_px, room = round(self._pixels(size_deg)), (self._canvas.width, self._canvas.height)
        changes: dict[str, tuple[Change, ...]] = {}
        for file in images:
            pixels, changes[file] = _read_image(file, side_px)
            if pixels.shape[1] > room[0] or pixels.shape[0] > room[1]:
                raise InputError(
                    f"image {file}: {size_deg:g} degrees are {side_px} pixels, more than the screen's {room[0]} x "
                    f"{room[1]}; are width_cm and distance_cm in the settings' table [monitor] right?"
                )
            self._images[file, size_deg] = self._canvas.texture(Drawing.centred(pixels))
        self._pictures = PictureDrawings(list(pictures))
        changes |= self._pictures.changes
        self.notes = tuple(told(((Path(file).name, kinds) for file, kinds in changes.items()), len(changes)))
        names = list(names)
        letters = {*string.printable.strip()}.union(*map(composed, names))
        self._warm_all("".join(sorted(filter(is_side_by_side, letters))))
        self.write_beforehand(names)

    def warm(self, scenes: Iterable[Scene]) -> None:
        """Draw scenes once, unseen, as the first drawing of a scene takes longer.

        Parameters
        ----------
        scenes : iterable of Scene
        """
        for scene in scenes:
            self._paint(scene)
        self._window.clearBuffer()

    def _warm_all(self, letters: str) -> None:
        """Draw letters, and scenes with every kind of element, once before the run."""
        for bold, sizes in ((True, self._sizes(0)), (False, (*self._sizes(1), self._label_px))):
            for size in sizes:
                self._canvas.length_px(letters, size, bold=bold)
        rows = tuple(RankedRow(f"row {rank}", 0.5) for rank in range(N_ROWS))
        cards = tuple(Picture(file, 1.0, label="label") for file in ("", *list(self._pictures)[:1]))
        everything = Scene(
            rows, "caption", "message", strength=0.5, title="title", lines=("line",), pictures=cards,
            thermometer=Thermometer(0.5, "level", ("a", "b", "c")), choice=Choice(("one", "other"), 0, "help"),
        )  # fmt: skip
        self.warm([everything, *(Scene(pictures=(Picture(*image),)) for image in self._images)])

    def _pixels(self, size_deg: float) -> float:
        return self._monitor.pixels(size_deg, self._width_px)

    def _check_resolution(self) -> None:
        actual_px, set_px = self.screen_size_px, self._monitor.size_px
        if set_px is not None and actual_px != set_px:
            raise InputError(
                f"screen {self._monitor.screen} has {actual_px[0]} x {actual_px[1]} pixels, the settings say "
                f"{set_px[0]} x {set_px[1]}: is it the right one, at the right resolution?"
            )

    def _check_refresh(self) -> None:
        measured_hz, set_hz = self._measured_hz(), self._monitor.frame_hz
        if abs(measured_hz / set_hz - 1) > _MOST_OFF:
            raise InputError(
                f"the monitor refreshes {measured_hz:.1f} times in a second, the settings say {set_hz:g}: set the "
                "graphics card, or frame_hz in the table [monitor]; where it is far more, switch vertical sync on"
            )
        self.frame_s = 1 / measured_hz

    def _measured_hz(self) -> float:
        shown_s = []
        for _ in range(_N_SETTLING + _N_TIMED):
            self._window.flip()
            shown_s.append(self.now())
        intervals_s = [after - before for before, after in pairwise(shown_s[_N_SETTLING:])]
        usual_s = median(intervals_s)
        # The mean is more exact than the median, once the intervals with a missed refresh are left out.
        return 1 / mean(interval_s for interval_s in intervals_s if abs(interval_s / usual_s - 1) < _ONE_REFRESH)


def _read_image(file: str, side_px: int) -> tuple[Array, tuple[Change, ...]]:
    """Read an image as uint8, shape (height, width, 3), scaled to a longer side of `side_px`."""
    from PIL import Image

    decoded = read_picture(file)
    picture = Image.fromarray(decoded.pixels)
    scale = side_px / max(picture.size)
    size = max(round(scale * picture.width), 1), max(round(scale * picture.height), 1)
    return np.asarray(picture.resize(size, Image.Resampling.LANCZOS)), decoded.changes


def _tones() -> dict[Tone, Any]:
    """Make the tones, with a soft beginning and end; raise InputError if no tone can be played."""
    try:
        from psychopy import sound

        rate = 44100
        time_s = np.arange(int(_TONE_S * rate)) / rate
        edge = np.minimum(1, np.minimum(time_s, _TONE_S - time_s) / 0.01)
        waves = {tone: 0.5 * edge * np.sin(2 * math.pi * hz * time_s) for tone, hz in _TONES_HZ.items()}
        return {
            tone: sound.Sound(np.stack([wave, wave], 1), sampleRate=rate, stereo=True) for tone, wave in waves.items()
        }
    except Exception as error:  # PsychoPy's sound backends raise errors of any class
        raise InputError(
            f"no tone can be played ({error}): connect a sound device, or set tones = false in the settings"
        ) from error
