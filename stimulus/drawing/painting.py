"""Layout of screens and scenes on a canvas: place, size and colour of each element.

It knows no window: the same code draws on the participant's screen and in a preview's files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache, partial

from stimulus.drawing.canvas import Canvas, Texture
from stimulus.drawing.lettering import Align
from stimulus.drawing.picture_drawings import PictureDrawings
from stimulus.screens.colours import BACKGROUND, BEST_BAR, BRIGHT, OTHER_BAR, PLAIN, QUIET, TRACK, faded
from stimulus.screens.scene import Choice, Picture, Scene, Thermometer
from stimulus.screens.screen import N_ROWS, Screen
from stimulus.screens.typesetting import in_lines, typeset

#: Width and height that feedback's pictures and thermometer need, degrees; on a smaller screen they are drawn smaller.
FEEDBACK_DEG = (17.0, 14.0)
#: Letter size and room for the words beneath feedback's pictures, degrees; and the number of lines that fit there.
_LABEL_DEG, _LABEL_ROOM_DEG, _LABEL_LINES = 0.46, 4.9, 2
#: Distance from one line to the next, in shares of the letters' size.
_LEADING = 1.36
_THERMOMETER_DEG = (1.5, 11.0)
#: Letter sizes that answers may have, in shares of the canvas's unit (one size for a question), and their most lines.
_ANSWERS, _ANSWER_LINES = (0.034, 0.031, 0.028), 3
#: More answers than this stand in two rows.
_ANSWERS_IN_A_ROW = 6


class ScreenPainting:
    """Painter of a `Screen`: names end left of the centre and bars begin right of it.

    So the fixation stays at the centre of the screen, between names and bars, in every state.
    """

    _canvas: Canvas
    _names: tuple[str, ...] = ()
    _typeset_names: Sequence[tuple[int, tuple[str, ...]]] = ()

    def _paint(self, screen: Screen) -> None:
        """Draw a screen on the canvas."""
        canvas, unit = self._canvas, self._canvas.unit
        canvas.begin()
        self._paint_beneath(screen)
        self._paint_rows(screen)
        if screen.caption:
            canvas.text(screen.caption, 0, self._caption_y, 0.034 * unit, QUIET)
        if screen.message:
            canvas.text(screen.message, 0, -0.085 * unit, 0.048 * unit, PLAIN)
        if screen.show_fixation:
            self._paint_fixation()

    @property
    def _caption_y(self) -> float:
        return -0.46 * self._canvas.unit

    def _paint_beneath(self, screen: Screen) -> None:
        """Draw the elements beneath all others; a `Screen` has none."""

    def _paint_fixation(self) -> None:
        """Draw a bull's eye with a cross hair: the target that keeps the eye stillest (Thaler et al. 2013)."""
        canvas, radius = self._canvas, 0.011 * self._canvas.unit
        thick = max(2.0, 0.36 * radius)
        canvas.disc(0, 0, radius, BRIGHT)
        canvas.rectangle(0, 0, 2 * radius, thick, BACKGROUND)
        canvas.rectangle(0, 0, thick, 2 * radius, BACKGROUND)
        canvas.disc(0, 0, 0.6 * thick, BRIGHT)

    def _paint_rows(self, screen: Screen) -> None:
        """Draw the categories' names and bars; the first name is larger and bold, the first bar thicker and orange.

        Bars that are chances lie on tracks with labelled ends: a track's length is 100 %.
        """
        rows = screen.rows[:N_ROWS]
        if not rows:
            return
        canvas, unit = self._canvas, self._canvas.unit
        gutter, full = 0.03 * canvas.width, 0.42 * canvas.width
        names = tuple(row.name for row in rows)
        if names != self._names:
            self._names, self._typeset_names = names, self._typeset(names)
        # The list lies a little above the centre, as the caption is beneath it.
        heights = [(0.055 + 0.08 * ((len(rows) - 1) / 2 - rank)) * unit for rank in range(len(rows))]
        for rank, (row, y) in enumerate(zip(rows, heights, strict=True)):
            thick, colour = (0.034 * unit, BEST_BAR) if rank == 0 else (0.026 * unit, OTHER_BAR)
            end = gutter + row.fraction * full
            canvas.rectangle(gutter, y, end - gutter, thick, faded(colour, screen.strength), align="left")
            if screen.bars_are_chances:
                canvas.rectangle(end, y, gutter + full - end, thick, TRACK, align="left")
        if screen.bars_are_chances:
            scale: tuple[tuple[float, str, Align], ...] = ((0, "0", "left"), (full, "100 %", "right"))
            for x, words, align in scale:
                canvas.text(words, gutter + x, heights[-1] - 0.045 * unit, 0.027 * unit, QUIET, align=align)
        for rank, ((size, lines), y) in enumerate(zip(self._typeset_names, heights, strict=True)):
            colour = faded(BRIGHT if rank == 0 else PLAIN, screen.strength)
            for place, line in enumerate(lines):
                # Lowercase letters without tails fill only the middle of a line: raised a little, they are level with
                # the bar.
                raised = (0.12 + 0.6 * (len(lines) - 1 - 2 * place)) * size
                canvas.text(line, -gutter, y + raised, size, colour, bold=rank == 0, align="right")

    def _typeset(self, names: Sequence[str]) -> list[tuple[int, tuple[str, ...]]]:
        """Choose size and lines of each name: one step of size for all, as larger names would look more important."""
        width = 0.45 * self._canvas.width
        sizes = [self._sizes(rank) for rank in range(len(names))]
        lengths = [partial(self._canvas.length_px, bold=rank == 0) for rank in range(len(names))]
        rows = list(zip(names, sizes, lengths, strict=True))
        step = max(
            (row_sizes.index(typeset(name, width, row_sizes, length_px)[0]) for name, row_sizes, length_px in rows),
            default=0,
        )
        return [typeset(name, width, row_sizes[step:], length_px) for name, row_sizes, length_px in rows]

    def _sizes(self, rank: int) -> tuple[int, ...]:
        """Return the letter sizes in which the name at a rank may be set, pixels, largest first."""
        shares = (0.052, 0.0416, 0.032) if rank == 0 else (0.043, 0.0344, 0.029)
        return tuple(int(share * self._canvas.unit) for share in shares)


class ScenePainting(ScreenPainting):
    """Painter of a `Scene` as well as of a `Screen`."""

    #: Number of pixels in a degree of visual angle.
    _degree_px: float
    _images: dict[tuple[str, float], Texture]
    _pictures: PictureDrawings

    @cached_property
    def fit(self) -> float:
        """The scale of feedback's pictures and thermometer: 1, or less if the screen is too small for them."""
        room_px = (self._canvas.width, self._canvas.height)
        return min(1.0, *(px / self._degree_px / deg for px, deg in zip(room_px, FEEDBACK_DEG, strict=True)))

    @property
    def _caption_y(self) -> float:
        """Height of the caption: beneath the pictures, which may reach lower than the list."""
        depth = max(-super()._caption_y, 0.54 * FEEDBACK_DEG[1] * self.fit * self._degree_px)
        return -min(depth, 0.47 * self._canvas.height)

    def _paint_beneath(self, screen: Screen) -> None:
        if not isinstance(screen, Scene):
            return
        unit, text = self._canvas.unit, self._canvas.text
        for picture in screen.pictures:
            image = self._images.get((picture.file, picture.size_deg))
            if image is not None:
                self._canvas.picture(image, picture.x_deg * self._degree_px, picture.y_deg * self._degree_px)
            else:
                self._paint_card(picture)
        if screen.thermometer is not None:
            self._paint_thermometer(screen.thermometer, screen.strength)
        if screen.choice is not None:
            self._paint_choice(screen.choice)
        if screen.title:
            text(screen.title, 0, (0.13 if screen.choice is None else 0.2) * unit, 0.075 * unit, BRIGHT)
        for place, line in enumerate(screen.lines):
            text(line, 0, (0.33 - 0.068 * place) * unit, 0.042 * unit, PLAIN)

    def _paint_card(self, picture: Picture) -> None:
        """Draw a picture with a word beneath it, or without a file, a frame with the word in it."""
        canvas, deg = self._canvas, self.fit * self._degree_px
        x, y, side = picture.x_deg * deg, picture.y_deg * deg, 2 * round(picture.size_deg * deg / 2)
        size = self._label_px
        if not picture.file or picture.strength < 1:
            canvas.rectangle(round(x), round(y), side, side, TRACK)
        if picture.file:
            texture = canvas.kept(picture.file, lambda: self._pictures[picture.file])
            canvas.picture(texture, x, y, side, opacity=picture.strength)
        else:
            self._paint_frame(round(x), round(y), side, side, faded(QUIET, picture.strength))
        if picture.file or x == y == 0:  # no words at the screen's centre, on the fixation
            lines = self._in_lines(picture.label, max(_LABEL_ROOM_DEG * deg, side), _LABEL_LINES)
            middle = y - side / 2 - (0.2 + _LEADING * len(lines) / 2) * size
        else:
            lines, middle = self._in_lines(picture.label, 0.92 * side, max(int(side / (_LEADING * size)), 1)), y
        if picture.label:
            canvas.text("\n".join(lines), x, middle, size, faded(PLAIN, picture.strength))

    def _paint_frame(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        """Draw a frame around a rectangle."""
        thick = max(2, round(0.0028 * self._canvas.unit))
        for side in (-1, 1):
            self._canvas.rectangle(x, y + side * (height + thick) / 2, width + 2 * thick, thick, colour)
            self._canvas.rectangle(x + side * (width + thick) / 2, y, thick, height + 2 * thick, colour)

    def _paint_thermometer(self, thermometer: Thermometer, strength: float) -> None:
        """Draw a column that fills from below; its middle, chance level, is at the fixation."""
        canvas, unit = self._canvas, self._canvas.unit
        width, length = (2 * round(size * self.fit * self._degree_px / 2) for size in _THERMOMETER_DEG)
        level = (thermometer.level - 0.5) * length
        canvas.rectangle(0, (level - length / 2) / 2, width, level + length / 2, faded(BEST_BAR, strength))
        canvas.rectangle(0, (level + length / 2) / 2, width, length / 2 - level, TRACK)
        self._paint_frame(0, 0, width, length, QUIET)
        for share, words in zip((-0.5, 0.0, 0.5), thermometer.marks, strict=True):
            for side in (-1, 1):
                canvas.rectangle(side * 0.85 * width, share * length, 0.5 * width, 2, QUIET)
            if words:
                canvas.text(words, 1.25 * width, share * length, 0.031 * unit, QUIET, align="left")
        if thermometer.label:
            y, colour = -length / 2 - 0.05 * unit, faded(PLAIN, strength)
            canvas.text(thermometer.label, 0, y, 0.036 * unit, colour)

    def _paint_choice(self, choice: Choice) -> None:
        """Draw answers in one or two rows, each beneath its dot; the chosen one is bright, its dot large and orange."""
        canvas, unit = self._canvas, self._canvas.unit
        n_across = len(choice.labels) if len(choice.labels) <= _ANSWERS_IN_A_ROW else -(-len(choice.labels) // 2)
        pitch = 0.9 * canvas.width / max(n_across, 3)
        size, answers = self._answer_lines(choice.labels, 0.92 * pitch)
        # The lower row's dots stay clear of the longest answer above them.
        top_y = (0.04 if len(answers) <= n_across else 0.09) * unit
        row_pitch = 0.082 * unit + _LEADING * max(map(len, answers[:n_across])) * size
        for place, lines in enumerate(answers):
            row, column = divmod(place, n_across)
            x, y = (column - (n_across - 1) / 2) * pitch, top_y - row * row_pitch
            radius, dot, colour = (0.022, BEST_BAR, BRIGHT) if place == choice.chosen else (0.012, QUIET, PLAIN)
            canvas.disc(x, y, radius * unit, dot)
            middle = y - 0.038 * unit - _LEADING * len(lines) / 2 * size
            canvas.text("\n".join(lines), x, middle, size, colour)
        if choice.help:
            canvas.text(choice.help, 0, -0.36 * unit, 0.034 * unit, QUIET)

    def _typeset_answers(self, labels: Sequence[str], room_px: float) -> tuple[int, list[tuple[str, ...]]]:
        """Return the largest size in which no answer is shortened, or else the smallest, with each answer's lines."""
        size = 0
        for share in _ANSWERS:
            size = int(share * self._canvas.unit)
            answers = [self._broken(label, room_px, _ANSWER_LINES, size) for label in labels]
            if "".join("".join("".join(lines).split()) for lines in answers) == "".join("".join(labels).split()):
                break
        return size, answers

    @property
    def _label_px(self) -> int:
        return int(max(_LABEL_DEG * self.fit * self._degree_px, 0.024 * self._canvas.unit))

    @cached_property
    def _in_lines(self) -> Callable[[str, float, int], tuple[str, ...]]:
        """Function that breaks a picture's word into lines; it keeps them, as they are drawn in each frame."""
        return lru_cache(maxsize=4096)(partial(self._broken, size=self._label_px))

    @cached_property
    def _answer_lines(self) -> Callable[[tuple[str, ...], float], tuple[int, list[tuple[str, ...]]]]:
        return lru_cache(maxsize=16)(self._typeset_answers)

    def _broken(self, label: str, room_px: float, n_lines: int, size: int) -> tuple[str, ...]:
        return in_lines(label, n_lines, lambda text: self._canvas.length_px(text, size, bold=False) <= room_px)
