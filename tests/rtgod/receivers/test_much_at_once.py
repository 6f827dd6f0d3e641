"""Much that appears at once, as when a share is back: taken in order, and not all held in memory."""

import os
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest

from rtgod.messages import Volume
from rtgod.receivers.arrivals import Arrivals
from rtgod.receivers.live_runs import LiveRuns
from rtgod.receivers.run_options import RunOptions
from rtgod.receivers.watcher import Watcher
from tests.rtgod.sources.dicom import test_siemens_mosaic as test_mosaic
from tests.rtgod.sources.dicom.dicoms import save

N_VOLUMES = 100
#: Times by which a mosaic is larger along each side than that of the other tests.
_LARGER = 48


def large(number):
    dataset = test_mosaic.dicom(number, AcquisitionTime=f"{100000 + number // 30 * 100 + number % 30 * 2:06d}")
    small = np.frombuffer(dataset.PixelData, np.int16).reshape(dataset.Rows, dataset.Columns)
    voxels = np.maximum(np.tile(small, (_LARGER, _LARGER)), 1)  # no slice ends blank
    dataset.Rows, dataset.Columns = voxels.shape
    dataset.PixelData = voxels.tobytes()
    return dataset


def test_many_images_that_appear_at_once_are_all_sent_and_not_all_held_in_memory(tmp_path):
    folder, away, taken = tmp_path / "export", tmp_path / "away", []
    folder.mkdir()
    away.mkdir()
    for number in range(1, N_VOLUMES + 1):
        save(large(number), away / f"{number * 31 % 997:03d}.dcm")
    n_bytes = sum(path.stat().st_size for path in away.iterdir())
    server = SimpleNamespace(send=lambda message: taken.append(message.index if isinstance(message, Volume) else None))
    lines, now = [], [0.0]
    arrivals = Arrivals(folder, with_events=False, clock=lambda: now[0])
    runs = LiveRuns(server, RunOptions(), lines.append, clock=lambda: now[0])
    watcher = Watcher(arrivals, runs, lines.append, clock=lambda: now[0])
    away.rename(folder / "back")
    tracemalloc.start()
    watcher.step()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert taken == [None, *range(N_VOLUMES)]
    assert peak < 70e6 < n_bytes


@pytest.mark.parametrize("ending", ["dcm", "nii"])
def test_files_that_appear_at_once_are_in_the_order_of_their_changes_or_of_their_numbers(tmp_path, ending):
    """Without a number, the time counts; with NIfTI files' numbers, it does not."""
    folder, away = tmp_path / "export", tmp_path / "away"
    folder.mkdir()
    away.mkdir()
    for turn, number in enumerate([10, 9, 2, 1, 11]):
        path = away / f"a_{number}.{ending}"
        path.write_bytes(b"")
        os.utime(path, (1e9 + turn, 1e9 + turn))
    arrivals = Arrivals(folder, with_events=False)
    away.rename(folder / "back")
    numbers = [int(path.stem[2:]) for path in arrivals.poll()]
    assert numbers == ([10, 9, 2, 1, 11] if ending == "dcm" else [1, 2, 9, 10, 11])
