"""Settings of a lab's display: the monitor, the buttons, the trigger, the language, the protocol."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rtgod.errors import InputError
from rtgod.settings import AtLeastOne, Positive, Settings
from stimulus.paradigm.timing_settings import ProtocolSettings
from stimulus.screens.feedback import FeedbackSettings
from stimulus.timing.triggers import TriggerSettings


class MonitorSettings(Settings):
    """The screen that the participant sees, and its distance from the eye."""

    #: Number of the computer's screen, from 0.
    screen: Annotated[int, Field(ge=0)] = 0
    full_screen: bool = True
    #: Width and height of a window that is not full-screen, pixels; if set, a full screen of another size is refused.
    size_px: tuple[AtLeastOne, AtLeastOne] | None = None
    #: Width of the whole projected screen, before it is turned, and its distance from the eye (by way of the mirror),
    #: centimetres.
    width_cm: Positive | None = None
    distance_cm: Positive | None = None
    #: Changes that a projector or a mirror needs: left and right exchanged, then the picture turned clockwise.
    mirrored: bool = False
    rotated_deg: Literal[0, 90, 180, 270] = 0
    #: Refreshes in a second; a monitor with another rate is refused.
    frame_hz: Positive = 60.0

    def pixels(self, size_deg: float, width_px: int) -> float:
        """Convert a visual angle in the middle of the screen to pixels.

        Parameters
        ----------
        size_deg : float
            The angle in degrees, half of it on each side of the middle.
        width_px : int
            Width of the screen, pixels.

        Raises
        ------
        InputError
            If the screen's width or distance is not known.
        """
        if self.width_cm is None or self.distance_cm is None:
            raise InputError(
                "how large is a degree on this screen? Set width_cm and distance_cm in the settings' table [monitor]"
            )
        return 2 * self.distance_cm * math.tan(math.radians(size_deg / 2)) / self.width_cm * width_px


class ButtonSettings(Settings):
    """Keys that the participant's buttons send."""

    #: Keys that answer the one-back task.
    response: tuple[str, ...] = ("1", "2", "3", "4")
    left: str = "1"
    right: str = "2"
    #: Names of those two for the participant; empty uses the keys' own names.
    left_name: str = ""
    right_name: str = ""
    #: The operator's key that ends the run, with everything saved.
    stop: str = "escape"

    def names(self, button: str) -> tuple[str, str]:
        """Return the names of the buttons for left and right.

        Parameters
        ----------
        button : str
            Template of the name of a button that has none in the settings, with {} for the key.
        """
        return self.left_name or button.format(self.left), self.right_name or button.format(self.right)


class DisplaySettings(Settings):
    """All settings of the display; a table for each part."""

    language: Literal["en", "ja"] = "en"
    #: Font file with the language's letters; if empty, one is looked for.
    font_file: str = ""
    tones: bool = True
    image_deg: Positive = 12.0
    flash_hz: Positive = 2.0
    #: Whether a server whose run lists no blocks is told those of the schedule; its volume 0 must be the display's.
    tell_blocks: bool = False
    monitor: MonitorSettings = MonitorSettings()
    trigger: TriggerSettings = TriggerSettings()
    buttons: ButtonSettings = ButtonSettings()
    feedback: FeedbackSettings = FeedbackSettings()
    protocol: ProtocolSettings = ProtocolSettings()

    @model_validator(mode="after")
    def _keys_mean_one_thing(self) -> Self:
        uses = [("the trigger", key) for key in self.trigger.keys if self.trigger.kind == "keyboard"]
        uses += [(name, getattr(self.buttons, name)) for name in ("stop", "left", "right")]
        uses += [("response", key) for key in self.buttons.response]
        # The buttons that rate may be those that answer the one-back task: no run asks for both at once.
        for (use, key), (other_use, other_key) in combinations(uses, 2):
            if (
                key == other_key
                and use != other_use
                and (use, other_use) not in (("left", "response"), ("right", "response"))
            ):
                raise ValueError(f"key {key!r} is {use} and {other_use}; give one of them another key")
        return self
