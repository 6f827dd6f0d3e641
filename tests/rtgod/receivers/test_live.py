"""A real series, written file by file by another process while it is watched: decoded live as when it is replayed."""

import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest

from rtgod.events.table import events_table, read_events
from rtgod.messages import Ranking, Run, RunEnd, Volume
from rtgod.preprocessing.alignment import Reference
from rtgod.protocol.clients import Sender
from rtgod.receivers.arrivals import Arrivals
from rtgod.receivers.live_runs import LiveRuns
from rtgod.receivers.run_options import RunOptions
from rtgod.receivers.watcher import Watcher
from rtgod.server.session import Session
from rtgod.settings import EventsSettings
from rtgod.sources import open_source
from tests import small
from tests.serving import PATIENCE_S, running

N_VOLUMES, TR_S = 24, 1.97
#: Writes the files of a folder into another one, in an order that is off by a few, each in pieces.
SCANNER = """
import pathlib, random, sys, threading
source, target = map(pathlib.Path, sys.argv[1:3])
drawn = random.Random(3)
places = {path: place + drawn.uniform(0, 3) for place, path in enumerate(sorted(source.iterdir()))}
for path in sorted(places, key=places.get):
    content = path.read_bytes()
    cuts = sorted(drawn.sample(range(1, len(content)), 3))
    with (target / f"{drawn.random()}.dcm").open("wb") as file:
        for start, stop in zip([0, *cuts], [*cuts, len(content)]):
            file.write(content[start:stop])
            file.flush()
            threading.Event().wait(0.004)
"""


@pytest.fixture
def series(shared_data, tmp_path):
    """The first volumes of a real run."""
    folder = tmp_path / "series"
    folder.mkdir()
    for path in sorted((shared_data / "siemens-run" / "dicom").iterdir())[:N_VOLUMES]:
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def bundle_for(source):
    """A decoder with random weights for the run's head: its rankings mean nothing, but any voxel moves them."""
    template = next(iter(source)).data.astype(np.float32)
    bright = np.argwhere(template > np.percentile(template, 90)).astype(np.int32)
    voxels = bright[np.linspace(0, len(bright) - 1, small.N_VOXELS).astype(int)]
    return replace(small.bundle(), reference=Reference(template, source.run.affine, voxels))


def rankings_of(messages):
    return [
        (message.index, message.order.tobytes(), message.scores.tobytes())
        for message in messages
        if isinstance(message, Ranking)
    ]


@pytest.mark.parametrize("with_events", [True, False], ids=["events", "looking"])
def test_a_real_series_is_decoded_live_as_when_it_is_replayed(series, tmp_path, with_events):
    check_live_as_replayed(series, tmp_path, RunOptions(n_volumes=N_VOLUMES), open_source(series), with_events)


@pytest.mark.parametrize(("n_discarded", "count_from"), [(5, 6), (3, 6), (0, 6)])
def test_a_real_protocol_that_counts_from_volume_6_is_decoded_live_as_when_it_is_replayed(
    series, shared_data, tmp_path, n_discarded, count_from
):
    rules = EventsSettings(discard_volumes=n_discarded, count_from=count_from)
    protocol = tmp_path / "protocol.tsv"  # ten volumes of rest, after five dummies, and the first block in part
    protocol.write_text(f"onset\tduration\ttrial_type\n{10 * TR_S}\t10\tregulation\n")
    source = open_source(series, events=protocol, reading=rules)
    # The published table has the same onsets, counted from the first volume that was delivered.
    from_first = read_events(shared_data / "siemens-run" / "events.tsv").trials[0].onset_s
    assert source.run.blocks[0].onset_s == pytest.approx(from_first - n_discarded * TR_S)
    options = RunOptions(n_volumes=N_VOLUMES, events=events_table(protocol), rules=rules)
    lines = check_live_as_replayed(series, tmp_path, options, source)
    assert any(
        "onset 0 is the start of volume 6; the first trial, at 19.7 s, begins in volume 16" in line for line in lines
    )
    assert sum(line.endswith(f": {n_discarded} volumes are discarded") for line in lines) == bool(n_discarded)
    elsewhere = open_source(series, events=protocol, reading=EventsSettings(discard_volumes=n_discarded))
    assert elsewhere.run.blocks != source.run.blocks


def check_live_as_replayed(series, tmp_path, options, source, with_events=True):
    bundle = bundle_for(source)
    export, lines, done = tmp_path / "export", [], threading.Event()
    export.mkdir()
    with (
        running(tmp_path, bundle) as server,
        Arrivals(export, with_events=with_events) as arrivals,
        Sender(server.ingest) as sender,
    ):
        runs, n_used = LiveRuns(sender, options, lines.append), N_VOLUMES - options.rules.discard_volumes
        watcher = Watcher(arrivals, runs, lines.append)
        thread = threading.Thread(target=watcher.run, args=(done.is_set,))
        thread.start()
        try:
            subprocess.run([sys.executable, "-c", SCANNER, series, export], check=True, timeout=PATIENCE_S)
            for _ in range(int(100 * PATIENCE_S)):
                if runs.n_sent == n_used:
                    break
                threading.Event().wait(0.01)
        finally:
            done.set()
            thread.join(PATIENCE_S)
        live = server.recorded(Volume, RunEnd, Ranking)
        (run,) = server.recorded(Run)
    assert not [line for line in lines if "lost" in line]
    replayed = list(source)
    volumes = [message for message in live if isinstance(message, Volume)]
    assert [volume.index for volume in volumes] == list(range(n_used))
    assert [volume.acquired_s for volume in volumes] == [volume.acquired_s for volume in replayed]
    assert (run.n_volumes, run.blocks) == (source.run.n_volumes, source.run.blocks)
    assert [volume.data.tobytes() for volume in volumes] == [volume.data.tobytes() for volume in replayed]
    assert live[-1] == RunEnd(source.run.run_id, n_used)
    session = Session(bundle, small.AT_ONCE)
    answers = [answer for message in (source.run, *replayed) for answer, _ in session.handle(message)]
    assert rankings_of(live) == rankings_of(answers)
    assert rankings_of(live)
    return lines
