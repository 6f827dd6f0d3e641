import math

import pytest
from typer.testing import CliRunner

from calibration.commands.scan import parse_strength
from rtgod.commands.main import make_app
from rtgod.errors import InputError
from rtgod.sources import open_source

EVENTS = "onset\tduration\tevent_type\tcategory_name\n6\t9\timagery\ts00000055\n24\t9\timagery\ts00000056\n"


def run(*arguments):
    result = CliRunner().invoke(make_app(), ["scan", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_a_schedule_is_scanned_on_the_command_line(subject, tmp_path):
    (tmp_path / "plan.tsv").write_text(EVENTS)
    first, second = (tmp_path / f"sub-01_task-imagery_run-0{k}_bold.nii.gz" for k in (1, 2))
    done = run(subject, tmp_path / "plan.tsv", "--out", first, "--dry-run")
    said = " ".join(done.output.split())
    assert "0 trials seen, 2 imagined" in said
    assert f"would be written to {first}: 11 volumes, TR 3 s" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plan.tsv"]
    done = run(subject, tmp_path / "plan.tsv", "--out", first, "--strength", "0.25:1.5", "--seed", 3)
    assert done.exit_code == 0, done.output
    assert f"{first}: 11 volumes, TR 3 s" in " ".join(done.output.split())
    assert (open_source(first).run.n_volumes, len(open_source(first).run.blocks)) == (11, 2)
    done = run(subject, tmp_path / "plan.tsv", "--out", second, "--n-volumes", 4, "--tr", 2.5)
    assert done.exit_code == 0, done.output
    assert (open_source(second).run.n_volumes, open_source(second).run.tr_s) == (4, 2.5)


@pytest.mark.parametrize(("text", "strengths"), [("1", (1, 1)), ("0.25:1.5", (0.25, 1.5)), ("2:0", (2, 0))])
def test_strength_is_one_number_or_two(text, strengths):
    assert parse_strength(text) == strengths


@pytest.mark.parametrize("text", ["", "vivid", "1:", ":1", "1:2:3", "-1", "0:-1", "nan", "inf", "1:101", "1,5"])
def test_other_strengths_are_refused(text):
    with pytest.raises(InputError, match="FIRST:LAST"):
        parse_strength(text)


@pytest.mark.parametrize("tr", [0, -1, 3000, math.nan])
def test_a_repetition_time_in_another_unit_is_refused(tmp_path, tr):
    with pytest.raises(InputError, match="--tr"):
        run(tmp_path, tmp_path / "plan.tsv", "--out", tmp_path / "run_bold.nii.gz", "--tr", tr)
