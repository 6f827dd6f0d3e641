"""Recognition of trial types that are not stimuli, by their names: BIDS has no field that tells them apart.

Rows of recognised types are left out, counted and reported. A name that only resembles one of these counts as a
category, and the user is told that it may not be one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
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
#: Words of other languages for the time between trials, for presses and for cues: doubtful, as some name objects, too.
_ELSEWHERE = frozenset(
    {
        "ruhe", "pause", "pausen", "ruhephase", "fixierung", "fixationskreuz", "fixkreuz", "tastendruck",
        "taste", "antwort", "hinweis", "hinweisreiz", "anweisung", "repos", "croix", "bouton", "appui",
        "réponse", "consigne", "attente", "descanso", "reposo", "fijación", "fijacion", "cruz", "botón",
        "boton", "respuesta", "espera", "instrucción", "riposo", "fissazione", "pausa", "risposta", "pulsante",
        "rust", "fixatie", "knop", "antwoord", "vila", "svar", "knapp", "spoczynek", "przerwa", "odpoczynek",
        "отдых", "покой", "фиксация", "кнопка", "ответ", "休息", "静息", "注视", "注视点", "注視点", "安静",
        "按键", "ボタン", "休憩", "固視点", "レスト", "휴식", "고정점", "버튼", "반응",
    }
)  # fmt: skip
#: Words that make a longer name doubtful.
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
#: A type that follows at least this share of all other trials, of so many categories or more, may be the rest between.
_BETWEEN, _FEWEST_BETWEEN = 0.8, 3


def is_rest(name: str) -> bool:
    """Return whether a trial type is BIDS's word for an empty cell, or a word for the time between trials.

    Parameters
    ----------
    name : str
        Cell of the column `trial_type`; may be empty.
    """
    return name in NOTHING or name.casefold() in _REST


def is_no_stimulus(name: str) -> bool:
    """Return whether a trial type's name is that of something other than a stimulus: "ITI", "button press", "cue_2".

    Parameters
    ----------
    name : str
        Capitals, blanks, punctuation and a number at the end make no difference.
    """
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
    kept_names = {name.casefold() for name in kept}
    return {
        name: len(values_s)
        for name, values_s in durations_s.items()
        if name.casefold() not in kept_names
        and (_sounds_like_none(name) or _is_brief(name, durations_s) or _is_between(name, trials))
    }


def _is_between(name: str, trials: Sequence[Trial]) -> bool:
    """Whether trials of a name come after nearly every other trial, of several categories, as rest does."""
    in_order = [trial.category for trial in sorted(trials, key=lambda trial: trial.onset_s)]
    others = [category for category in in_order if category != name]
    followed = [before for before, after in pairwise(in_order) if before != name and after == name]
    n_own = len(in_order) - len(others)
    return (
        len(set(others)) >= _FEWEST_BETWEEN
        and set(followed) == set(others)
        and len(followed) >= _BETWEEN * len(others)
        and n_own <= len(others) + 1
    )


def _bare(name: str) -> str:
    return re.sub(r"[\W_]+|\d+$", "", name.casefold())


def _sounds_like_none(name: str) -> bool:
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)
    if "".join(words).casefold() in _DOUBTFUL_ALONE:
        return True
    if not _ELSEWHERE.isdisjoint([_bare(name), *re.split(r"[\W\d_]+", name.casefold())]):
        return True
    return len(words) > 1 and any(word.casefold() in _SOUND_LIKE_NONE for word in words)


def _is_brief(name: str, durations_s: Mapping[str, Sequence[float]]) -> bool:
    others_s = [value for other, values in durations_s.items() if other != name for value in values]
    own_s = median(durations_s[name])
    n_enough = len(durations_s[name]) >= _FEWEST_BRIEF
    return n_enough and bool(others_s) and own_s < _BRIEF_S and own_s < _BRIEF_SHARE * median(others_s)
