"""The protocol of a window that shows rankings."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from stimulus.screens.screen import Screen


class RankingWindow(Protocol):
    """Interface of a window that screens are drawn in."""

    def draw(self, screen: Screen) -> float:
        """Show a screen; return when it was shown, seconds since 1970.

        Parameters
        ----------
        screen : Screen
        """

    def keys_pressed_to_quit(self) -> bool:
        """Whether somebody asked to quit since the last call."""

    def save_png(self, path: Path, screen: Screen) -> None:
        """Write the picture of a screen, without showing it.

        Parameters
        ----------
        path : Path
            PNG file to write.
        screen : Screen
        """

    def close(self) -> None:
        """Close the window, and put back what it changed."""
