"""The loop, with a clock that only the test moves and a window that only remembers."""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from rtgod.errors import InputError
from rtgod.messages import NearPicture, Reason, RunEnd, Status
from stimulus.runtime.display import (
    FRAME_S,
    LINGER_S,
    REDRAW_S,
    Display,
    Outputs,
    ShownLog,
    replacing,
    stopping_on_signals,
)
from stimulus.screens.certainty import UNKNOWN, ClaritySettings
from stimulus.screens.scene import Scene
from stimulus.screens.screen import EASE_S, SERVER_LOST_S, WAITING, Screen
from stimulus.screens.translation import JAPANESE

UTC_S = 1_000_000.0


@dataclass
class Clock:
    """Time passes only while the loop sleeps."""

    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def utc(self) -> float:
        return UTC_S + self.now_s


@dataclass
class FakeSubscriber:
    """Messages, each from a given second on."""

    clock: Clock
    due: list = field(default_factory=list)

    def poll(self):
        if self.due and self.due[0][0] <= self.clock.now_s:
            return self.due.pop(0)[1]
        return None


@dataclass
class FakeWindow:
    clock: Clock
    drawn: list[Screen] = field(default_factory=list)
    saved: list[Screen] = field(default_factory=list)
    quit_at_s: float = float("inf")

    def draw(self, screen):
        self.drawn.append(screen)
        return self.clock.utc()

    def keys_pressed_to_quit(self):
        return self.clock.now_s >= self.quit_at_s

    def save_png(self, path, screen):
        self.saved.append(screen)
        path.write_text(screen.caption)

    def close(self):
        pass


@dataclass
class FakeReporter:
    reports: list = field(default_factory=list)
    n_polls: int = 0

    def report(self, kind, at_s, run_id="", value=""):
        self.reports.append((kind, at_s, run_id, value))

    def poll(self):
        self.n_polls += 1


class Session:
    """A display at second 0, fed with messages at given seconds."""

    def __init__(self, *due, quit_at_s=float("inf"), **options):
        self.clock = Clock()
        self.window = FakeWindow(self.clock, quit_at_s=quit_at_s)
        subscriber = FakeSubscriber(self.clock, list(due))
        clocks = {"clock": self.clock, "utc": self.clock.utc, "sleep": self.clock.sleep}
        self.display = Display(subscriber, self.window, **options, **clocks)

    def run(self, limit_s=60.0):
        with self.display:
            self.display.run(lambda: self.clock.now_s > limit_s)
        assert self.clock.now_s <= limit_s, "it did not stop by itself"
        return self


def test_keys_stop_it_at_once():
    session = Session(quit_at_s=1.0).run()
    assert session.clock.now_s == pytest.approx(1.0, abs=2 * FRAME_S)


def test_a_signal_stops_it():
    with stopping_on_signals() as stopped:
        assert not stopped()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopped()
        session = Session()
        with session.display:
            session.display.run(stopped)
    assert session.window.drawn == []
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_picture_that_does_not_change_is_hardly_ever_drawn(hello):
    heartbeats = [(second, hello) for second in range(10)]
    session = Session(*heartbeats, quit_at_s=10.0).run()
    assert set(session.window.drawn) == {Screen(message=WAITING)}
    assert len(session.window.drawn) <= 10.0 / REDRAW_S + 1


def test_bars_reach_the_new_ranking(hello, run, ranking):
    session = Session((0, hello), (0, run), (1.0, ranking()), quit_at_s=2.0).run()
    moving = [screen for screen in session.window.drawn if screen.rows]
    lengths = [screen.rows[0].fraction for screen in moving]
    assert lengths[0] == 0
    assert lengths == sorted(lengths)
    assert lengths[-1] == 1
    assert EASE_S / FRAME_S <= len(moving) <= EASE_S / FRAME_S + 1 / REDRAW_S + 3


def test_the_nearest_pictures_are_shown_in_place_of_the_list(hello, run, ranking):
    """Their confidence is theirs: where it is unknown, the operator is told, and they are not pale."""
    files = {f"my_cat_{i}.png": f"/pictures/my_cat_{i}.png" for i in range(50)}
    near = tuple(NearPicture(name, 0.3) for name in list(files)[:4])
    told = []
    session = Session(
        (0, hello), (0, run), (1.0, replace(ranking(), pictures=near)), (1.5, ranking(13)),
        pictures=files, tell=told.append, quit_at_s=2.0,
    ).run()  # fmt: skip
    scenes = [screen for screen in session.window.drawn if isinstance(screen, Scene)]
    assert [picture.label for picture in scenes[0].pictures] == [f"my cat {i}" for i in range(4)]
    assert scenes[0].strength == 1.0
    assert scenes[0].caption.startswith("block 1")
    assert [line for line in told if UNKNOWN in line]
    assert session.window.drawn[-1].rows  # a ranking without pictures is listed


def test_it_stops_after_the_asked_number_of_runs_and_lingers(hello, run, ranking):
    ends = [(5.0, RunEnd("run-1", 30)), (5.5, RunEnd("run-1", 30)), (9.0, RunEnd("run-2", 30))]
    session = Session((0, hello), (0, run), (4.0, ranking()), *ends, stop_after_runs=2).run()
    assert session.clock.now_s == pytest.approx(9.0 + LINGER_S, abs=2 * FRAME_S)


def test_silence_is_shown_and_heartbeats_end_it(hello, run, ranking):
    back_at_s = 20.0
    session = Session((0, hello), (0, run), (1.0, ranking()), (back_at_s, hello), quit_at_s=back_at_s + 1)
    seen = {}
    with session.display:
        while session.display.frame():
            seen[round(session.clock.now_s, 1)] = session.window.drawn[-1]
    assert seen[2.0].rows
    assert seen[1.0 + SERVER_LOST_S + 0.5] == Screen(message=WAITING)
    assert seen[20.5].rows


def test_a_server_that_is_not_there_is_named_on_the_screen_and_to_the_operator(hello, caplog):
    notice = "run run-1: none of the first 3 volumes could be aligned to the bundle's head"
    status = Status(0.0, 0.0, "a.rtgod", 10**9, notice=notice)
    due = [(8.0, hello), (9.0, status), (16.0, hello)]
    session = Session(*due, quit_at_s=17.0, server="tcp://127.0.0.1:5556").run()
    assert session.window.drawn[0].message == "waiting for the server at tcp://127.0.0.1:5556"
    assert session.window.drawn[-1] == Screen(message=WAITING)
    assert [line.split(";")[0] for line in caplog.messages] == [
        "nothing is heard from the server at tcp://127.0.0.1:5556",
        "the server at tcp://127.0.0.1:5556 is heard",
        f"the server says: {notice}",
        "the server at tcp://127.0.0.1:5556 was not heard for 5 s",
        "the server at tcp://127.0.0.1:5556 is heard",
    ]


class TestScreenshot:
    def picture(self, tmp_path: Path, *due, quit_at_s=10.0):
        path = tmp_path / "made" / "shown.png"
        session = Session(*due, quit_at_s=quit_at_s, outputs=Outputs(screenshot=path)).run()
        assert [file.name for file in path.parent.glob("*")] in ([], ["shown.png"])
        return session.window.saved, path

    def test_holds_the_last_final_ranking(self, tmp_path, run, ranking, not_ready):
        final = ranking(index=13, final=True)
        later = (not_ready(Reason.BETWEEN_TRIALS, 14), ranking(index=15, block=1))
        due = [(second, message) for second, message in enumerate((run, ranking(), final, *later))]
        saved, path = self.picture(tmp_path, *due)
        assert "volume 14" in path.read_text()
        assert "final" in path.read_text()
        assert saved[-1].rows[0].fraction == 1
        assert len(saved) == 2  # the refining one, and the final one that took its place

    def test_holds_the_last_ranking_while_none_is_final(self, tmp_path, run, ranking):
        _, path = self.picture(tmp_path, (0, run), (1, ranking(5)), (2, ranking(6)))
        assert "volume 7" in path.read_text()

    def test_holds_a_final_ranking_that_had_no_time_to_settle(self, tmp_path, run, ranking, not_ready):
        due = [(0, run), (1.0, ranking(13, final=True)), (1.0 + EASE_S / 3, not_ready(Reason.BETWEEN_TRIALS))]
        saved, path = self.picture(tmp_path, *due)
        assert "final" in path.read_text()
        assert saved[-1].rows[0].fraction == 1

    def test_of_nothing_is_not_written(self, tmp_path, run):
        _, path = self.picture(tmp_path, (0, run))
        assert not path.exists()


class TestLog:
    def rows(self, path):
        header, *lines = path.read_text().splitlines()
        assert tuple(header.split("\t")) == ShownLog.COLUMNS
        return [dict(zip(ShownLog.COLUMNS, line.split("\t"), strict=True)) for line in lines]

    def test_tells_when_each_answer_came_and_when_it_was_seen(self, tmp_path, hello, run, ranking, not_ready):
        path = tmp_path / "shown.tsv"
        due = [
            (0, hello),
            (0, run),
            (1.0, not_ready()),
            (1.5, run),
            (2.0, ranking()),
            (2.5, ranking()),
            (3.0, RunEnd("run-1", 30)),
        ]
        Session(*due, quit_at_s=4.0, outputs=Outputs(log=path)).run()
        rows = self.rows(path)
        assert [row["kind"] for row in rows] == ["Run", "NotReady", "Ranking", "RunEnd"]
        assert [row["index"] for row in rows] == ["n/a", "0", "12", "n/a"]
        assert [row["top1"] for row in rows] == ["n/a", "n/a", "goldfish", "n/a"]
        for row, due_s in zip(rows, (0, 1, 2, 3), strict=True):
            assert float(row["flip_utc_s"]) >= float(row["received_utc_s"])
            assert float(row["flip_utc_s"]) == pytest.approx(UTC_S + due_s, abs=2 * FRAME_S)

    def test_an_answer_that_was_replaced_before_a_picture_was_never_seen(self, tmp_path, ranking):
        path = tmp_path / "shown.tsv"
        Session((0.5, ranking(5)), (0.5, ranking(6)), quit_at_s=1.0, outputs=Outputs(log=path)).run()
        first, second = self.rows(path)
        assert first["flip_utc_s"] == "n/a"
        assert second["flip_utc_s"] != "n/a"

    def test_a_restart_adds_to_it(self, tmp_path, ranking):
        path = tmp_path / "shown.tsv"
        for index in (5, 6):
            Session((0, ranking(index, top=("tab\there",))), quit_at_s=0.5, outputs=Outputs(log=path)).run()
        assert [(row["index"], row["top1"]) for row in self.rows(path)] == [("5", "tab here"), ("6", "tab here")]

    def test_that_cannot_be_written_is_said_in_one_line(self, tmp_path):
        with pytest.raises(InputError, match="cannot be written"):
            ShownLog(tmp_path)


class TestDisksThatAreGone:
    def test_the_display_goes_on_and_its_log_is_whole_when_its_folder_is_back(self, tmp_path, hello, ranking):
        out, told = tmp_path / "out", []
        session = Session(
            (0, hello), *((1.0 + n, ranking(n)) for n in range(8)), quit_at_s=9.0, tell=told.append,
            outputs=Outputs(log=out / "log.tsv", screenshot=out / "shown.png"),
        )  # fmt: skip
        with session.display:
            while session.display.frame():
                if 3.0 < session.clock.now_s < 3.5 and out.is_dir():
                    shutil.rmtree(out)
                    out.write_text("a file in its place")
                if session.clock.now_s > 6.2 and out.is_file():
                    out.unlink()
        assert [row["index"] for row in TestLog().rows(out / "log.tsv")] == [str(n) for n in range(8)]
        assert [("log.tsv" in line, "cannot be written" in line) for line in told] == [
            (True, True), (False, True), (True, False),
        ]  # fmt: skip
        assert "volume 8" in (out / "shown.png").read_text()

    def test_a_ready_file_that_cannot_be_written_is_told_once_and_written_later(self, tmp_path, hello):
        told = []
        (tmp_path / "out").write_text("a file in its place")
        path = tmp_path / "out" / "ready"
        session = Session((0, hello), quit_at_s=6.0, outputs=Outputs(ready_file=path), tell=told.append)
        with session.display:
            while session.display.frame():
                if session.clock.now_s > 3.0 and (tmp_path / "out").is_file():
                    (tmp_path / "out").unlink()
        assert [str(path) in line for line in told] == [True]
        assert path.read_text() == f"{os.getpid()}\n"


def test_ready_means_drawn_and_heard(tmp_path, hello):
    path = tmp_path / "ready"
    session = Session((1.0, hello), outputs=Outputs(ready_file=path))
    with session.display:
        while session.clock.now_s < 0.9:
            session.display.frame()
        assert session.window.drawn
        assert not path.exists()
        while session.clock.now_s < 1.0 + REDRAW_S + 0.1:
            session.display.frame()
    assert path.read_text() == f"{os.getpid()}\n"


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "shown.png"
    path.write_text("old")
    with pytest.raises(TypeError), replacing(path) as beside:
        beside.write_bytes("half of a picture")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_server_is_told_once_when_each_answer_was_shown(hello, run, ranking, not_ready):
    reporter = FakeReporter()
    due = [
        (0.0, hello),
        (0.5, run),
        (1.0, not_ready()),
        (2.0, ranking(12)),
        (2.5, ranking(12)),
        (3.0, RunEnd("run-1", 30)),
    ]
    session = Session(*due, quit_at_s=4.0, reporter=reporter).run()
    assert [(kind, run_id, value) for kind, _, run_id, value in reporter.reports] == [
        ("shown", "run-1", "0"),
        ("shown", "run-1", "12"),
    ]
    assert [at_s - UTC_S for _, at_s, _, _ in reporter.reports] == pytest.approx([1.0, 2.0], abs=2 * FRAME_S)
    assert reporter.n_polls >= session.clock.now_s / FRAME_S - 2


class TestLetters:
    """Fonts are looked for before names are shown, once for each letter, and the operator is told."""

    @pytest.fixture
    def asked(self):
        return []

    @pytest.fixture
    def session(self, asked):
        def with_messages(*messages):
            told = []

            def find(texts):
                asked.append(list(texts))
                return ["no font"]

            due = [(0.1 * place, message) for place, message in enumerate(messages)]
            Session(*due, quit_at_s=3.0, find_letters=find, tell=told.append).run()
            return told

        return with_messages

    def test_of_those_that_the_server_names(self, session, asked, hello):
        newer = replace(hello, letters="ガム")
        assert session(newer, newer, replace(hello, letters="ガムé")) == ["no font", "no font"]
        assert asked == [["ガ", "ム"], ["é"]]

    def test_of_an_older_servers_names_when_they_are_ranked(self, session, asked, hello, run, ranking):
        names = ("dog", "강아지_(개)", "cat")
        assert session(hello, run, ranking(top=names), ranking(index=13, top=names)) == ["no font"]
        assert asked == [["강아지 (개)"]]

    def test_english_names_need_none(self, session, asked, hello, run, ranking):
        assert session(hello, run, ranking()) == []
        assert asked == []


def test_the_participant_reads_the_language_that_is_asked_for(hello, run, ranking):
    session = Session((0, hello), (1, run), (2, ranking(final=True)), quit_at_s=3.0, words=JAPANESE).run()
    words = [screen.message or screen.caption for screen in session.window.drawn]
    assert list(dict.fromkeys(words)) == [
        "スキャンの開始を待っています",
        "準備しています…",
        "ブロック 1/5  ·  ボリューム 13/30  ·  確定（2 ボリューム）",
    ]


@pytest.mark.parametrize(("pale_below", "drawn"), [(0.2, 0.7), (0.45, 0.45)])
def test_from_when_on_a_ranking_is_pale_is_what_the_display_is_given(run, ranking, pale_below, drawn):
    answer = replace(ranking(top=("a", "b"), scores=(0.2, 0.1)), probability=(0.7, 1.0, 1.0))
    session = Session((0.0, run), (0.0, answer), quit_at_s=1.0, clarity=ClaritySettings(pale_below=pale_below)).run()
    assert session.window.drawn[-1].strength == drawn
