"""Settings of the durations in a run: the defaults are those of Horikawa & Kamitani (2017), Methods."""

from __future__ import annotations

from rtgod.settings import AtLeastOne, Count, Positive, Settings


class ProtocolSettings(Settings):
    """Durations in seconds, and numbers of trials in a run."""

    tr_s: Positive = 3.0
    #: Rest before the first trial and after the last.
    rest_s: Positive = 33.0
    end_s: Positive = 6.0
    #: Seeing: duration of an image, images in a run, and number of them shown twice in a row for the one-back task.
    block_s: Positive = 9.0
    n_images: AtLeastOne = 50
    n_repeats: Count = 5
    #: Imagining: trials in a run; durations of the cue, the imagery, the rating, the pause.
    n_trials: AtLeastOne = 25
    cue_s: Positive = 3.0
    imagery_s: Positive = 15.0
    rating_s: Positive = 3.0
    pause_s: Positive = 3.0
    #: With feedback: durations of the pause before it, and of the feedback after the block. The last ranking of a block
    #: needs the volumes of the response's delay after the block, so rating and pause must together last that long.
    feedback_pause_s: Positive = 3.0
    feedback_s: Positive = 6.0
    #: Duration of the question what was imagined, in trials in which the participant chose it.
    naming_s: Positive = 9.0
