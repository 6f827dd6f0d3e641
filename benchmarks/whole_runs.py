"""Whole real runs, live against replayed: every volume decoded, none lost, rankings equal to the byte.

Another process writes the DICOM files of a run into a folder at the scanner's pace: under random names, out of order by
up to a TR and a half, each in random pieces. `rtgod watch` follows the folder, a server decodes. Then `rtgod replay`
sends the finished folder to another server. The decoder has random weights: its rankings mean nothing, but any voxel
moves them.

    python -m benchmarks.whole_runs [--data PATH] [--speed FACTOR] [--volumes N] [--json PATH]
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom

from benchmarks.figures import print_all, shared_data, write_json
from rtgod.bundle import DecoderBundle
from rtgod.messages import Ranking, RunEnd, Volume
from rtgod.preprocessing.alignment import Reference
from rtgod.sources import Source, open_source
from tests import small
from tests.archives import unpacked
from tests.serving import Running, running

#: Files and events of each run, in the folder of the data.
RUNS = {
    "siemens_run": ("siemens-run/dicom", "siemens-run/events.tsv"),
    "studyforrest_localizer": ("studyforrest-localizer/dicoms.tar.xz", "studyforrest-localizer/events.tsv"),
}
#: A file comes up to this time after its volume was acquired, in TR.
_LATEST_TR = 1.5
#: Longest wait for the last volumes, seconds.
_PATIENCE_S = 120.0
_RTGOD = [sys.executable, "-c", "from rtgod.commands.main import main; main()"]
#: Writes files at their times, each in pieces.
_SCANNER = """
import json, pathlib, random, sys, time
drawn, target = random.Random(5), pathlib.Path(sys.argv[1])
began_s = time.monotonic()
for due_s, path in json.load(sys.stdin):
    time.sleep(max(began_s + due_s - time.monotonic(), 0))
    content = pathlib.Path(path).read_bytes()
    cuts = sorted(drawn.sample(range(1, len(content)), 3))
    with (target / f"{drawn.random()}.dcm").open("wb", buffering=0) as file:
        for start, stop in zip([0, *cuts], [*cuts, len(content)]):
            file.write(content[start:stop])
            time.sleep(0.001)
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures, and write them as JSON if asked to; return 1 if any run differs from its replay."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.whole_runs", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=shared_data())
    parser.add_argument("--speed", type=float, default=1.0, help="pace, times the scanner's; default %(default)s")
    parser.add_argument("--volumes", type=int, help="of each run the first; default all")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(arguments)
    figures: dict[str, float] = {}
    for name, (files, events) in RUNS.items():
        with tempfile.TemporaryDirectory() as folder:
            series = series_in(options.data / files, Path(folder), options.volumes)
            measured = live_against_replay(series, options.data / events, Path(folder), options.speed)
        figures |= {f"{name}_{figure}": value for figure, value in measured.items()}
    print_all(figures)
    if options.json:
        write_json(options.json, figures)
    return int(any(value != 1 for name, value in figures.items() if name.endswith("_equal")))


def series_in(files: Path, folder: Path, n_volumes: int | None) -> Path:
    """Make a folder of the files of a run's first volumes."""
    origin, series = files, folder / "series"
    if files.is_file():
        origin = unpacked(files, folder / "archive")
    series.mkdir()
    paths = sorted(path for path in origin.rglob("*") if path.is_file())
    numbers = {path: _volume_of(path) for path in paths}
    first = min(numbers.values())
    for number, path in enumerate(paths):
        if n_volumes is None or numbers[path] - first < n_volumes:
            (series / f"{number}.dcm").symlink_to(path.resolve())
    return series


def _volume_of(path: Path) -> int:
    header = pydicom.dcmread(path, stop_before_pixels=True)
    return int(header.get("TemporalPositionIdentifier") or header.InstanceNumber)


def live_against_replay(series: Path, events: Path, folder: Path, speed: float) -> dict[str, float]:
    """Watch a run, replay it, and compare."""
    source = open_source(series, events=events)
    bundle, n_volumes = bundle_for(source), source.run.n_volumes or 0
    told, took_s = [], 0.0
    for kind in ("live", "replayed"):
        (folder / kind).mkdir()
    with running(folder / "live", bundle) as server:
        export = folder / "export"
        export.mkdir()
        began_s = time.monotonic()
        told = _watched(series, export, events, server, source, speed)
        took_s = time.monotonic() - began_s
        live = server.recorded(Volume, RunEnd, Ranking)
    with running(folder / "replayed", bundle) as server:
        command = [*_RTGOD, "replay", str(export), "--events", str(events), "--full-speed", "--to", server.ingest]
        subprocess.run(command, check=True, capture_output=True, timeout=20 * _PATIENCE_S)
        replayed = server.recorded(Volume, RunEnd, Ranking)
    return {
        "volumes": n_volumes,
        "volumes_live": sum(isinstance(message, Volume) for message in live),
        "lost_lines": sum("lost" in line for line in told),
        "rankings": len(_rankings(live)),
        "voxels_equal": float(_voxels(live) == _voxels(replayed)),
        "rankings_equal": float(_rankings(live) == _rankings(replayed) and len(_rankings(live)) > 0),
        "acquired_s": n_volumes * source.run.tr_s,
        "took_s": took_s,
    }


def _watched(series: Path, export: Path, events: Path, server: Running, source: Source, speed: float) -> list[str]:
    """Write a series while `rtgod watch` follows the folder; return what the watcher told."""
    n_volumes = source.run.n_volumes or 0
    options = ["--events", str(events), "--volumes", str(n_volumes), "--to", server.ingest]
    watcher = subprocess.Popen([*_RTGOD, "watch", str(export), *options], stderr=subprocess.PIPE, text=True)
    try:
        told = [watcher.stderr.readline()]
        while "watching" not in told[-1]:
            told.append(watcher.stderr.readline())
        reader = threading.Thread(target=lambda: told.extend(watcher.stderr))
        reader.start()
        plan = json.dumps(planned(series, source.run.tr_s / speed))
        subprocess.run([sys.executable, "-c", _SCANNER, export], input=plan, text=True, check=True)
        until_s = time.monotonic() + _PATIENCE_S
        while not server.recorded(RunEnd) and time.monotonic() < until_s:
            time.sleep(0.2)
    finally:
        watcher.terminate()
        watcher.wait(_PATIENCE_S)
        reader.join(_PATIENCE_S)
        watcher.stderr.close()
    return told


def planned(series: Path, tr_s: float) -> list[tuple[float, str]]:
    """Draw when each file comes, in order."""
    drawn = random.Random(4)  # noqa: S311 # no secret
    numbers = {path: _volume_of(path) for path in sorted(series.iterdir())}
    first = min(numbers.values())
    due = [((number - first + 1 + drawn.uniform(0, _LATEST_TR)) * tr_s, str(path)) for path, number in numbers.items()]
    return sorted(due)


def bundle_for(source: Source) -> DecoderBundle:
    """Make a decoder with random weights for the run's head."""
    template = next(iter(source)).data.astype(np.float32)
    bright = np.argwhere(template > np.percentile(template, 90)).astype(np.int32)
    voxels = bright[np.linspace(0, len(bright) - 1, small.N_VOXELS).astype(int)]
    return replace(small.bundle(), reference=Reference(template, source.run.affine, voxels))


def _rankings(messages: Sequence[object]) -> list[tuple[int, bytes, bytes]]:
    rankings = [message for message in messages if isinstance(message, Ranking)]
    return [(ranking.index, ranking.order.tobytes(), ranking.scores.tobytes()) for ranking in rankings]


def _voxels(messages: Sequence[object]) -> list[tuple[int, bytes]]:
    return [(message.index, message.data.tobytes()) for message in messages if isinstance(message, Volume)]


if __name__ == "__main__":
    sys.exit(main())
