import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text
from rich.cells import cell_len

from rtgod.text import encodable, figure_text, file_stem, plain, plain_lines

#: Text as it may come from a file name, a header or a message: any code point, halves of surrogate pairs too.
any_text = st.text(st.characters(), max_size=60)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("sub-01[rest]", "sub-01[rest]"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x7f\x9b1m", "\\x7f\\x9b1m"),
        ("gnp.\u202eexe", "gnp.\\u202eexe"),
        ("\u2066isolated\u2069 \u2028", "\\u2066isolated\\u2069 \\u2028"),
        ("half \udc80", "half \\udc80"),
        ("画像\u3000ｔｅｓｔ Ænéïd ½ 🧠", "画像\u3000ｔｅｓｔ Ænéïd ½ 🧠"),
        ("C:\\new", "C:\\new"),
        (7, "7"),
        ("", ""),
    ],
)
def test_controls_are_written_out_and_everything_else_stands(text, shown):
    assert plain(text) == shown


@given(any_text)
def test_nothing_is_left_that_a_terminal_obeys_and_nothing_printable_is_changed(text):
    shown = plain(text)
    assert not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in shown)
    assert not any(
        unicodedata.bidirectional(c) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI") for c in shown
    )
    shown.encode("utf-8")
    if not text.isascii() and not cell_len(text) and text.isprintable():
        assert shown == text.encode("ascii", "backslashreplace").decode(), "marks alone have no width"
        return
    if text.isprintable():
        assert shown == text
    kept = iter(shown)
    assert all(c in kept for c in text if c.isprintable()), "in their order"


@given(any_text, st.integers(0, 70))
def test_what_is_left_out_is_counted(text, at_most):
    shown = plain(text, at_most)
    n_left_out = len(text) - at_most
    assert shown == (plain(text) if n_left_out <= 0 else f"{plain(text[:at_most])}… ({n_left_out} more)")


@given(st.lists(any_text.map(lambda text: text.replace("\n", ""))))
def test_lines_are_kept_where_they_are_ours(lines):
    assert plain_lines("\n".join(lines)) == "\n".join(map(plain, lines))


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("sub-01_task-perception_run-01", "sub-01_task-perception_run-01"),
        ("装置 01~2", "装置 01~2"),
        ("-rf", "rf"),
        ("--", "run"),
        ("..", "run"),
        ("", "run"),
        (" . ", "run"),
        (".hidden", "hidden"),
        ("-.-x", "x"),
        ("a/../b", "a-..-b"),
        ("/etc/passwd", "etc-passwd"),
        ("CON", "run-CON"),
        ("nul.txt", "run-nul.txt"),
        ("com1", "run-com1"),
        ("console", "console"),
        ("trailing. .", "trailing"),
        ("C:x", "C-x"),
        ("\x1b[31mred\n", "[31mred-"),
        ("a\udc80b", "a-b"),
    ],
)
def test_a_file_is_called_as_its_run_where_that_is_safe(name, stem):
    assert file_stem(name) == stem


@given(any_text)
def test_no_file_is_taken_for_an_option_a_hidden_one_or_one_elsewhere(text):
    stem = file_stem(text)
    assert stem
    assert stem[0] not in "-. "
    assert stem[-1] not in ". "
    assert not set(stem) & set('/\\:*?"<>|\0\n\x1b')
    assert file_stem(stem) == stem, "a name that is safe is left as it is"


@given(any_text)
def test_what_is_encodable_stays_and_the_rest_is_written_out(text):
    written = encodable(text)
    written.encode()
    assert written == text or "\\ud" in written


@given(any_text | st.text("$\\\\x_{}^", max_size=12))
def test_a_figure_shows_dollars_and_braces_as_they_are(text):
    """By matplotlib's own reading of it, which its drawing begins with."""
    assert Text()._preprocess_math(figure_text(text)) == (plain_lines(text), False)
