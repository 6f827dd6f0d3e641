"""Recognition of trial types that are not stimuli, by their names: BIDS has no field that tells them apart.

Rows of recognised types are left out, counted and reported. A name that only resembles one of these counts as a
category, and the user is told that it may not be one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from rtgod.events.trials import Trial
from rtgod.tsv import NOTHING

#: Names in plain BIDS files for the time between trials.
_REST = frozenset({"rest", "fixation"})
#: Names that no image category has, without blanks, hyphens, underscores and the number at the end. Words that may name
#: an object, such as button, key, cross, target or pause, are not among them.
_NO_STIMULI = frozenset(
    {
        "fix", "fixcross", "fixationcross", "fixationpoint", "fixationdot", "fixationperiod", "fixationblock",
        "crosshair", "crosshairs", "restblock", "resting", "restingstate", "restperiod", "interrest", "baseline",
        "baselineblock", "null", "nullevent", "nulltrial", "blank", "blankscreen", "blanktrial", "empty", "none",
        "iti", "isi", "interval", "intertrial", "intertrialinterval", "intertrialrest", "interstimulusinterval",
        "interstimulus", "interblock", "interblockinterval", "ibi", "jitter", "delay", "response", "responses",
        "resp", "buttonpress", "buttonpresses", "buttonpressed", "buttonresponse", "keypress", "keypresses",
        "keypressed", "keyresponse", "keydown", "keyup", "behavioralresponse", "behaviouralresponse",
        "reactiontime", "cue", "cues", "cueperiod", "instruction", "instructions", "instr", "instruct",
        "instructionscreen", "feedback", "rating", "ratings", "vividnessrating", "evaluation", "naming", "trigger",
        "triggers", "scannertrigger", "ttl", "pulse", "scannerpulse", "scanstart", "scanend", "scanonset",
        "runstart", "runend", "startrun", "endrun", "experimentstart", "experimentend", "dummy", "dummyscan",
        "dummyscans", "countdown", "getready", "waiting", "boundary", "badsegment",
    }
)  # fmt: skip
#: Words that make a name of several words doubtful.
_SOUND_LIKE_NONE = frozenset(
    {
        "rest", "fixation", "fix", "iti", "isi", "baseline", "blank", "null", "response", "resp", "press",
        "pressed", "button", "keypress", "cue", "instruction", "instructions", "instr", "feedback", "rating",
        "trigger", "pulse", "ttl", "dummy", "catch", "pause", "break", "trial", "onset", "offset",
    }
)  # fmt: skip
#: Names that are doubtful as they are: they may name an object, but seldom do.
_DOUBTFUL_ALONE = frozenset(
    {
        "pause", "break", "catch", "catches", "question", "probe", "tone", "beep", "press", "pressed",
        "trial", "onset", "offset", "start", "end", "stop", "begin", "wait", "missed", "error", "correct", "incorrect",
    }
)  # fmt: skip
#: Limits below which trials of a type may be button presses: the median duration as a share of that of other types,
#: and in seconds; and the least number of trials of such a type.
_BRIEF_SHARE, _BRIEF_S, _FEWEST_BRIEF = 0.2, 0.6, 3


def is_rest(name: str) -> bool:
    """Return whether a trial type is BIDS's word for an empty cell, or a word for the time between trials."""
    return name in NOTHING or name.casefold() in _REST


def is_no_stimulus(name: str) -> bool:
    """Return whether a trial type's name is that of something other than a stimulus: "ITI", "button press", "cue_2"."""
    return _bare(name) in _NO_STIMULI or _bare(name) in _REST


def doubtful_types(trials: Sequence[Trial], kept: Iterable[str] = ()) -> dict[str, int]:
    """Find categories that may not be stimuli, by a word in their name or because their trials are much briefer.

    Parameters
    ----------
    trials : sequence of Trial
    kept : iterable of str
        Names that the settings keep as categories, in upper or lower case.

    Returns
    -------
    dict of str to int
        Number of trials of each such category.
    """
    durations_s: dict[str, list[float]] = {}
    for trial in trials:
        durations_s.setdefault(trial.category, []).append(trial.duration_s)
    known = {name.casefold() for name in kept}
    return {
        name: len(own_s)
        for name, own_s in durations_s.items()
        if name.casefold() not in known and (_sounds_like_none(name) or _is_brief(name, durations_s))
    }


def _bare(name: str) -> str:
    return re.sub(r"[\W_]+|\d+$", "", name.casefold())


def _sounds_like_none(name: str) -> bool:
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)
    if "".join(words).casefold() in _DOUBTFUL_ALONE:
        return True
    return len(words) > 1 and any(word.casefold() in _SOUND_LIKE_NONE for word in words)


def _is_brief(name: str, durations_s: Mapping[str, Sequence[float]]) -> bool:
    others_s = [value for other, values in durations_s.items() if other != name for value in values]
    own_s = median(durations_s[name])
    n_enough = len(durations_s[name]) >= _FEWEST_BRIEF
    return n_enough and bool(others_s) and own_s < _BRIEF_S and own_s < _BRIEF_SHARE * median(others_s)
