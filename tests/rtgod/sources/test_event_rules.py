"""A replay reads its events by the rules of the server's decoder, or says that it does not."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from rtgod.commands.main import make_app
from rtgod.errors import InputError
from rtgod.messages import Run
from rtgod.protocol.clients import Sender
from rtgod.settings import EventsSettings
from rtgod.sources.event_rules import in_words, live_rules
from tests import small
from tests.serving import running

IGNORING = replace(
    small.bundle(), settings=small.SETTINGS.model_copy(update={"events": EventsSettings(ignore=("extra",))})
)


@pytest.fixture
def run_file(tmp_path):
    """The run of `small`, with a table in which a row is a trial as usual, and none by the rules of `IGNORING`."""
    path = tmp_path / "sub-small_task-x_run-1_bold.nii.gz"
    volumes = np.stack([small.volume(index).data for index in range(12)], axis=-1)
    image = nib.Nifti1Image(volumes, small.AFFINE)
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_zooms((4, 4, 4, small.TR_S))
    nib.save(image, path)
    rows = "6\t4\tn00000001\n12\t2\textra\n16\t4\tn00000002\n"
    (tmp_path / "sub-small_task-x_run-1_events.tsv").write_text(f"onset\tduration\ttrial_type\n{rows}")
    return path


@pytest.fixture
def replayed(run_file, tmp_path):
    """Replays to a server with a bundle; gives the onsets of the blocks that it took, and what was said."""

    def replay(bundle, *options):
        folder = tmp_path / f"server-{len(list(tmp_path.glob('server-*')))}"
        folder.mkdir()
        with running(folder, bundle) as server:
            call = ("replay", run_file, "--to", server.ingest, "--full-speed", "--patience", 20, *options)
            result = CliRunner().invoke(make_app("replay"), [*map(str, call)], catch_exceptions=False)
            assert server.errors == []
        (run,) = server.recorded(Run)
        return [block.onset_s for block in run.blocks], " ".join(result.output.split())

    return replay


def test_the_rules_of_the_server_s_bundle_are_followed_and_told(replayed):
    onsets_s, said = replayed(IGNORING)
    assert onsets_s == [6, 16]
    assert 'read by the rules of the server\'s bundle (events.ignore = ["extra"]): 2 trials; as usual' in said
    assert "rows that events.ignore leaves out: 1 extra" in said


@pytest.mark.parametrize("bundle", [None, small.bundle()])
def test_without_other_rules_nothing_is_told(replayed, bundle):
    onsets_s, said = replayed(bundle)
    assert onsets_s == [6, 12, 16]
    assert "bundle" not in said


def test_rules_that_were_chosen_are_followed_and_that_they_are_others_is_told(replayed, tmp_path):
    (tmp_path / "own.toml").write_text("[events]\nkeep = ['extra']\n")
    onsets_s, said = replayed(IGNORING, "--settings", tmp_path / "own.toml")
    assert onsets_s == [6, 12, 16]
    assert '3 trials by the rules that were given (events.keep = ["extra"]), and 2 trials by those of' in said


def test_chosen_rules_that_give_the_same_trials_need_no_word(replayed, tmp_path):
    (tmp_path / "own.toml").write_text("[events]\nignore = ['EXTRA']\nmerge_gap_s = 0\n")
    onsets_s, said = replayed(IGNORING, "--settings", tmp_path / "own.toml")
    assert onsets_s == [6, 16]
    assert "bundle" not in said


def test_a_table_without_a_trial_by_the_bundle_s_rules_is_refused_unless_others_were_chosen(replayed):
    events = EventsSettings(ignore=("extra", "n00000001", "n00000002"))
    strict = replace(IGNORING, settings=small.SETTINGS.model_copy(update={"events": events}))
    onsets_s, said = replayed(strict, "--merge-gap", 0)
    assert onsets_s == [6, 12, 16]
    assert "it could not be used" in said
    assert "yours are followed" in said
    with pytest.raises(InputError, match="no trial in it"):
        replayed(strict)


def test_a_server_says_its_rules_and_one_without_a_decoder_none(tmp_path):
    for name, bundle in (("a", IGNORING), ("b", None)):
        (tmp_path / name).mkdir()
        with running(tmp_path / name, bundle) as server, Sender(server.ingest) as sender:
            rules = sender.ask_rules()
            assert rules == ({"ignore": ["extra"]} if bundle else None)
            sender.send(small.run())  # the reply to the ping is not taken for another's


def test_rules_are_written_as_in_a_file_of_settings():
    assert in_words(EventsSettings()) == "the usual"
    assert in_words(EventsSettings(keep=("cue",), merge_gap_s=0)) == 'events.merge_gap_s = 0.0, events.keep = ["cue"]'


def counting(**counts):
    return replace(small.bundle(), settings=small.SETTINGS.model_copy(update={"events": EventsSettings(**counts)}))


def test_volumes_are_counted_as_for_the_bundle_s_runs_and_it_is_told(replayed):
    onsets_s, said = replayed(counting(discard_volumes=2, count_from=3))
    assert onsets_s == [6, 12, 16]  # of the volumes that are used
    assert (
        "2 volumes are discarded; onset 0 is the start of volume 3; the first trial, at 6 s, begins in volume 6" in said
    )


def test_counts_that_are_given_hold_and_that_the_bundle_s_are_others_is_told(replayed):
    onsets_s, said = replayed(counting(discard_volumes=2, ignore=("extra",)), "--discard", 0, "--count-from", 2)
    assert onsets_s == [8, 18]  # and rows are trials by the bundle's rules
    assert "counted otherwise here (events.discard_volumes = 0, events.count_from = 2)" in said
    assert "trained on (events.discard_volumes = 2, events.count_from = 1)" in said


EXPECTED = 'events.discard_volumes = 5, events.ignore = ["extra"]'


def test_a_running_scan_follows_the_bundle_s_rules_but_for_counts_that_are_given():
    theirs = {"ignore": ["extra"], "discard_volumes": 5}
    assert live_rules(theirs, {}) == (
        EventsSettings(ignore=("extra",), discard_volumes=5),
        [f"events are read by the rules of the server's bundle ({EXPECTED})"],
    )
    rules, remarks = live_rules(theirs, {"discard_volumes": 0})
    assert rules == EventsSettings(ignore=("extra",))
    assert "counted otherwise here (events.discard_volumes = 0)" in remarks[-1]
    assert live_rules(None, {"count_from": 6}) == (EventsSettings(count_from=6), [])
    assert live_rules({}, {}) == (EventsSettings(), [])
    rules, (remark,) = live_rules({"of the future": 1}, {"count_from": 6})
    assert rules == EventsSettings(count_from=6)
    assert "another version" in remark
