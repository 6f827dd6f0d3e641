"""How long each part of a run takes: the defaults are those of Horikawa & Kamitani (2017), Methods."""

from __future__ import annotations

from rtgod.settings import AtLeastOne, Count, Positive, Settings


class ProtocolSettings(Settings):
    """Durations in seconds, and how many trials a run has."""

    tr_s: Positive = 3.0
    #: Rest before the first trial and after the last.
    rest_s: Positive = 33.0
    end_s: Positive = 6.0
    #: Seeing: each image, and how many of a run are shown twice in a row for the one-back task.
    block_s: Positive = 9.0
    n_images: AtLeastOne = 50
    n_repeats: Count = 5
    #: Imagining: the word, the imagery, the rating, the pause.
    n_trials: AtLeastOne = 25
    cue_s: Positive = 3.0
    imagery_s: Positive = 15.0
    rating_s: Positive = 3.0
    pause_s: Positive = 3.0
    #: With feedback, the pause before it and the feedback after the block. The last ranking of a block needs the volume
    #: that ends a response's delay after it, so the rating and this pause together must last that long.
    feedback_pause_s: Positive = 3.0
    feedback_s: Positive = 6.0
    #: Naming what was imagined, where the participant chose it.
    naming_s: Positive = 9.0
