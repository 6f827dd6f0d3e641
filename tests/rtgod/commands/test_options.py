"""Options that commands share: where they are, and what they refuse."""

import json
from pathlib import Path

import click
import pytest
import typer
from typer.testing import CliRunner

from rtgod.commands.main import make_app
from rtgod.commands.options import check_new, needed_out, say_output
from rtgod.console import PlainConsole
from rtgod.errors import InputError
from tests import small

#: Commands that write what they name with --out, and have no dry run: they play or rehearse, draw by lot, or are a look
#: beforehand themselves.
WITHOUT_DRY_RUN = {
    *(f"stimulus {name}" for name in ("training", "test", "imagery", "feedback", "preview", "seal")),
    *("demo", "journal shift-dates", "rehearse"),
}


def commands(command=None, name=""):
    """Every command by its name, with its options."""
    command = command or typer.main.get_command(make_app())
    if isinstance(command, click.Group) or hasattr(command, "commands"):
        for inner, found in command.commands.items():
            yield from commands(found, f"{name} {inner}".strip())
    else:
        yield name, {option for parameter in command.params for option in parameter.opts}


def test_commands_that_read_settings_show_them():
    readers = {
        name for name, options in commands() if options & {"--settings", "--decoder-settings", "--preprocessing"}
    }
    assert {"serve", "replay", "calibrate", "features", "stimulus preview"} <= readers
    shown = {name for name, options in commands() if "--show-settings" in options}
    assert shown == {*readers, "report"}  # whose settings are its bundle's


def test_commands_that_make_something_say_beforehand_what():
    makers = {name for name, options in commands() if "--out" in options} | {"simulate"}
    dry = {name for name, options in commands() if "--dry-run" in options}
    assert makers - dry == WITHOUT_DRY_RUN
    assert dry - makers == {"replay"}


@pytest.mark.parametrize("names", [("a.tsv",), ("a.tsv", "b.png")])
def test_what_is_there_is_not_replaced_unasked(tmp_path, names):
    check_new(tmp_path / "new", names, overwrite=False)
    (tmp_path / "thesis.txt").touch()
    check_new(tmp_path, names, overwrite=False)
    (tmp_path / names[-1]).touch()
    with pytest.raises(InputError, match=f"{names[-1]} is already there; choose another --out, or replace it with"):
        check_new(tmp_path, names, overwrite=False)
    check_new(tmp_path, names, overwrite=True)


def test_of_many_files_some_are_named(tmp_path):
    names = [f"{letter}.tsv" for letter in "abcde"]
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"a\.tsv, b\.tsv, c\.tsv and 2 more are already there"):
        check_new(tmp_path, names, overwrite=False)


@pytest.mark.parametrize(
    ("overwrite", "said"),
    [
        (True, "is there, and would be replaced"),
        (False, "is already there, and --overwrite not given: it would be refused"),
        (None, "is already there: it would be refused"),
    ],
)
def test_a_dry_run_says_what_is_in_the_way(tmp_path, capsys, overwrite, said):
    say_output(tmp_path / "new", "a folder", (), overwrite=overwrite, console=PlainConsole())
    assert "in its place" not in capsys.readouterr().out
    say_output(tmp_path, "a folder", (), overwrite=overwrite, console=PlainConsole())
    assert said in capsys.readouterr().out
    say_output(None, "a folder", (), overwrite=overwrite, console=PlainConsole())
    assert "--out, which is not given: a folder" in capsys.readouterr().out


def test_somewhere_to_write_to_is_needed(tmp_path):
    assert needed_out(tmp_path) == tmp_path
    with pytest.raises(InputError, match="give one with --out"):
        needed_out(None)


def shown(*arguments):
    result = CliRunner().invoke(make_app(), [*map(str, arguments), "--show-settings"], catch_exceptions=False)
    assert result.exit_code == 0
    return json.loads(result.stdout)


def test_settings_in_force_are_shown_and_nothing_else_is_done(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.toml").write_text("[window]\nhrf_shift_s = 4.5\n[events]\nignore = ['tone']\n")
    (tmp_path / "display.toml").write_text("[protocol]\nn_trials = 7\n")
    small.bundle().save(tmp_path / "bundle")
    ours = small.SETTINGS.model_dump(mode="json")
    assert shown("serve")["window"]["hrf_shift_s"] == 3.0
    assert shown("serve", "--supervise", "--settings", "own.toml")["window"]["hrf_shift_s"] == 4.5
    assert shown("serve", "bundle") == shown("report", "none.rtgod", "--bundle", "bundle") == ours
    assert shown("replay", "none.nii", "--settings", "own.toml", "--merge-gap", 2, "--discard", 3)["events"] == {
        "merge_gap_s": 2.0, "ignore": ["tone"], "keep": [], "one_back": None, "discard_volumes": 3, "count_from": 1,
    }  # fmt: skip
    for name in ("training", "test", "imagery", "feedback"):
        assert shown("stimulus", name, "none.tsv", "--settings", "display.toml")["protocol"]["n_trials"] == 7
    assert shown("stimulus", "plan", "imagery", "--settings", "display.toml")["protocol"]["n_trials"] == 7
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "display.toml", "own.toml"]


def test_a_report_without_a_bundle_has_no_settings():
    with pytest.raises(InputError, match="give it with --bundle"):
        CliRunner().invoke(make_app(), ["report", "none.rtgod", "--show-settings"], catch_exceptions=False)


def test_a_folder_that_cannot_be_made_is_refused_before_anything_is_computed(tmp_path):
    (tmp_path / "file").touch()
    assert needed_out(tmp_path / "new" / "folder") == tmp_path / "new" / "folder"
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match="a file, and no folder; choose another --out"):
            needed_out(out)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a folder that nobody can write to")
def test_a_folder_that_cannot_be_written_to_is_refused():
    with pytest.raises(InputError, match="/proc cannot be written to"):
        needed_out(Path("/proc/new"))


def test_nothing_is_written_into_a_bundle(tmp_path):
    (tmp_path / "bundle.json").touch()
    with pytest.raises(InputError, match="holds a decoder bundle"):
        check_new(tmp_path, ["report.html"], overwrite=True)
