"""Names of any script in the figures of reports."""

from __future__ import annotations

import logging

from matplotlib.figure import Figure

from calibration.reports.lettering import lettered


def test_letters_that_no_font_has_are_told_in_a_line_and_not_by_a_warning_for_each(tmp_path, caplog):
    figure = Figure()
    figure.text(0.5, 0.5, "שלום")
    figure.text(0.5, 0.5, "a name\U0010fffd")
    with caplog.at_level(logging.WARNING), lettered(figure):
        figure.savefig(tmp_path / "figure.png")
    (record,) = caplog.records
    assert record.getMessage() == (
        "figures: no font has the letters of a name\U0010fffd (1 texts); boxes stand for them"
    )


def test_english_figures_say_nothing(tmp_path, caplog):
    figure = Figure()
    figure.text(0.5, 0.5, "dog")
    figure.text(0.5, 0.5, "μV – Übergröße")
    with lettered(figure):
        figure.savefig(tmp_path / "figure.png")
    assert not caplog.records
