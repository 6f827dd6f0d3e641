"""What is recognised as no stimulus, what is only asked about, and what is a category."""

import pytest

from rtgod.events.trial_types import doubtful_types, is_no_stimulus, is_rest
from rtgod.events.trials import Trial


@pytest.mark.parametrize(
    "name",
    ["ITI", "iti", "Inter-trial interval", "ISI", "baseline", "Blank", "null", "response", "Button_Press",
     "buttonpress", "key press", "cue", "cue_2", "Cue1", "instruction", "Instructions",
     "fixation cross", "fix", "rest", "feedback"],
)  # fmt: skip
def test_names_of_no_stimuli(name):
    assert is_no_stimulus(name)


@pytest.mark.parametrize(
    "name",
    ["face", "house", "button", "key", "cross", "target", "pause", "crossbow", "restaurant", "n01443537", "2",
     "scramble", "response_left", "cue_house", "face_response", "犬", "blanket", "instrument"],
)  # fmt: skip
def test_names_of_categories(name):
    assert not is_no_stimulus(name)


def test_rest_is_what_bids_calls_so_and_nothing():
    assert all(map(is_rest, ["", "n/a", "Rest", "FIXATION"]))
    assert not any(map(is_rest, ["ITI", "restaurant"]))


def trials(**durations_s):
    return [Trial(9.0 * k, s, "stimulus", name) for name, s in durations_s.items() for k in range(4)]


def test_words_that_may_name_an_object_but_seldom_do_are_asked_about():
    assert doubtful_types(trials(face=9.0, pause=9.0, Catch=9.0, tone_2=9.0)) == {"pause": 4, "Catch": 4, "tone_2": 4}
    assert doubtful_types(trials(face=9.0, tone=9.0), ["tone"]) == doubtful_types(trials(key=9.0, cross=9.0)) == {}


@pytest.mark.parametrize("name", ["Ruhe", "appui bouton", "croix de fixation", "休息", "Tastendruck", "描述 休息"])
def test_words_of_other_languages_are_asked_about(name):
    assert list(doubtful_types([*trials(face=9.0, house=9.0), Trial(2.0, 9.0, "stimulus", name)])) == [name]


def test_what_follows_nearly_all_others_is_asked_about_whatever_it_is_called():
    order = ["face", "house", "tool", "body"] * 3
    in_turn = [
        Trial(20.0 * k + lag_s, 8.0, "stimulus", name)
        for k, category in enumerate(order)
        for lag_s, name in ((0.0, category), (10.0, "xyz"))
    ]
    assert doubtful_types(in_turn) == {"xyz": 12}
    assert doubtful_types(in_turn, ["xyz"]) == {}
    assert doubtful_types([Trial(20.0 * k, 8.0, "stimulus", name) for k, name in enumerate(order)]) == {}


def test_what_sounds_like_none_is_asked_about_and_so_is_what_is_much_briefer():
    asked = doubtful_types(trials(face=9.0, house=9.0, response_left=1.0, KeyPress=1.0, left=0.1))
    assert asked == {"response_left": 4, "KeyPress": 4, "left": 4}
    assert doubtful_types(trials(face=9.0, house=9.0, left=0.1), ["LEFT"]) == {}
    assert doubtful_types(trials(face=0.5, house=0.5)) == {}
    assert doubtful_types(trials(face=0.0)) == {}
    assert doubtful_types([Trial(0, 0.0, "stimulus", "face"), Trial(9, 2.0, "stimulus", "house")]) == {}
