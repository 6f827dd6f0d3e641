"""Time from a scanner's complete file to a volume on the wire, in `rtgod watch`.

A process writes mosaics of 64 × 64 × 50 voxels into a folder, one every 0.1 s, and notes when the last byte was there;
`rtgod watch` runs in another process, and this one takes the volumes as a server does, noting when they came. Also:
mosaics of 110 × 110 × 72 voxels, a folder without events of the system, as on a network share, reading and decoding a
file against pydicom alone, taking images as a DICOM node against a node of pynetdicom that only answers, and the start
beside 100,000 old files.

    python -m benchmarks.ingest [--n VOLUMES] [--json PATH]
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
import pydicom
import zmq
from pynetdicom import AE, evt
from pynetdicom.sop_class import MRImageStorage

from benchmarks.figures import write_json
from rtgod.messages import Acknowledged, Ping, Pong, Run, RunEnd, Volume
from rtgod.protocol.frames import from_frames, to_frames
from rtgod.receivers.arrivals import Arrivals
from rtgod.receivers.dicom_net import DicomNode, NodeOptions
from rtgod.receivers.live_runs import LiveRuns
from rtgod.receivers.run_options import RunOptions
from rtgod.sources.dicom.file import read_growing, read_pixels
from rtgod.sources.dicom.series import format_of, tags_read
from tests.rtgod.sources.dicom.test_siemens_mosaic import csa_header

log = logging.getLogger(__name__)

SHAPE, LARGE_SHAPE = (64, 64, 50), (110, 110, 72)
EVERY_S = 0.1
N_OLD = 100_000
_WAIT_S = 30.0
_WRITER = """
import pathlib, sys, time
source, target, every_s = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), float(sys.argv[3])
for number, path in enumerate(sorted(source.iterdir()), 1):
    content = path.read_bytes()
    started_s = time.monotonic()
    with open(target / f"{number}.dcm", "wb", buffering=0) as file:
        half = len(content) // 2
        file.write(content[:half])
        file.write(content[half:])
        complete_s = time.time()
    print(number, f"{complete_s:.6f}", flush=True)
    time.sleep(max(every_s - (time.monotonic() - started_s), 0))
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures, and write them as JSON if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest", description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=200, help="volumes; default %(default)s")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        figures = measured(Path(folder), options.n)
    for name, value in figures.items():
        print(f"{name:<28} {value:.4g}")
    if options.json:
        write_json(options.json, figures)
    return 0


def measured(folder: Path, n_volumes: int) -> dict[str, float]:
    """Measure everything, with files in a folder."""
    series = folder / "series"
    write_series(series, n_volumes, SHAPE)
    write_series(folder / "large", n_volumes, LARGE_SHAPE)
    large_ms, _ = watched_ms(folder / "large_events", folder / "large", n_volumes)
    with_events_ms, rss_mb = watched_ms(folder / "events", series, n_volumes)
    looking_ms, _ = watched_ms(folder / "looking", series, n_volumes, "--poll")
    return {
        "complete_to_wire_ms_p50": float(np.percentile(with_events_ms, 50)),
        "complete_to_wire_ms_p99": float(np.percentile(with_events_ms, 99)),
        "large_complete_to_wire_ms_p99": float(np.percentile(large_ms, 99)),
        "share_ms_p99": float(np.percentile(looking_ms, 99)),
        "over_pydicom_ratio": over_pydicom(series),
        "cstore_over_pynetdicom_ratio": cstore_over_pynetdicom(series),
        "old_files_start_s": start_s(folder / "old"),
        "rss_mb": rss_mb,
    }


def write_series(folder: Path, n_volumes: int, shape: tuple[int, int, int]) -> None:
    """Write mosaics as a Siemens scanner exports them."""
    folder.mkdir()
    n_tiles = math.ceil(math.sqrt(shape[2]))
    rng = np.random.default_rng(0)
    for number in range(1, n_volumes + 1):
        dataset = pydicom.Dataset()
        elements = {
            "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4",
            "SOPInstanceUID": f"1.2.3.{number}",
            "SeriesInstanceUID": "1.2.3",
            "Manufacturer": "SIEMENS",
            "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"],
            "SeriesNumber": 7,
            "InstanceNumber": number,
            "AcquisitionNumber": number,
            "RepetitionTime": 1000 * EVERY_S,
            "EchoTime": 30,
            "Rows": n_tiles * shape[1],
            "Columns": n_tiles * shape[0],
            "BitsAllocated": 16,
            "BitsStored": 16,
            "HighBit": 15,
            "PixelRepresentation": 0,
            "SamplesPerPixel": 1,
            "PhotometricInterpretation": "MONOCHROME2",
            "PixelSpacing": [3, 3],
            "SliceThickness": 3,
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            "ImagePositionPatient": [-96, -96, -75],
        }
        for keyword, value in elements.items():
            setattr(dataset, keyword, value)
        private = dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
        private.add_new(0x10, "OB", csa_header(shape[2], (0.0, 0.0, 1.0)))
        pixels = rng.integers(0, 1000, (n_tiles * shape[1], n_tiles * shape[0]), np.uint16)
        dataset.add_new(0x7FE00010, "OW", pixels.tobytes())
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        pydicom.dcmwrite(folder / f"{number:05d}.dcm", dataset, enforce_file_format=True)


def watched_ms(folder: Path, series: Path, n_volumes: int, *options: str) -> tuple[list[float], float]:
    """Return the milliseconds from each complete file to its arrival at a server, and the watcher's memory in MiB."""
    folder.mkdir()
    with zmq.Context() as context, context.socket(zmq.ROUTER) as server:
        server.linger = 0
        port = server.bind_to_random_port("tcp://127.0.0.1")
        command = [sys.executable, "-c", "from rtgod.commands.main import main; main()", "watch", str(folder)]
        watcher = subprocess.Popen([*command, "--to", f"tcp://127.0.0.1:{port}", *options], stderr=subprocess.PIPE)
        try:
            watcher.stderr.readline()  # it says that it watches
            writer = subprocess.Popen(
                [sys.executable, "-c", _WRITER, series, folder, str(EVERY_S)], stdout=subprocess.PIPE, text=True
            )
            arrived_s = _taken(server, n_volumes)
            memory = psutil.Process(watcher.pid).memory_info().rss / 2**20
            lines = [line.split() for line in writer.communicate(timeout=_WAIT_S)[0].splitlines()]
        finally:
            watcher.kill()
            watcher.communicate()
    complete_s = {int(number) - 1: float(time_s) for number, time_s in lines}
    return [1e3 * (arrived_s[index] - complete_s[index]) for index in sorted(arrived_s)], memory


def _taken(server: zmq.Socket[bytes], n_volumes: int) -> dict[int, float]:
    """Take the volumes of a run as a server does; return when each arrived."""
    arrived_s: dict[int, float] = {}
    while len(arrived_s) < n_volumes:
        if not server.poll(1000 * _WAIT_S):
            raise TimeoutError(f"{len(arrived_s)} of {n_volumes} volumes came")
        identity, *frames = server.recv_multipart()
        now_s = time.time()
        message = from_frames(frames)
        if isinstance(message, Ping):
            server.send_multipart([identity, *to_frames(Pong(message.client, message.sent_s, now_s))])
        if isinstance(message, Volume):
            arrived_s.setdefault(message.index, now_s)
        if isinstance(message, Run | Volume):
            index = message.index if isinstance(message, Volume) else None
            server.send_multipart([identity, *to_frames(Acknowledged(message.run_id, index))])
    return arrived_s


def over_pydicom(series: Path, n_turns: int = 7) -> float:
    """Return the time to read and decode files, relative to pydicom's own: the median over turns in turn."""
    paths = sorted(series.iterdir())[:50]
    ratios = []
    for _ in range(n_turns):
        began_s = time.perf_counter()
        for path in paths:
            pydicom.dcmread(path).pixel_array  # noqa: B018 # decoding is what takes time
        theirs_s = time.perf_counter() - began_s
        began_s = time.perf_counter()
        for path in paths:
            header, start, _ = read_growing(path, tags_read())
            fitting = format_of(header)
            (piece,) = fitting.pieces(path, header)
            fitting.slices(read_pixels(path, header, start), piece)
        ratios.append((time.perf_counter() - began_s) / theirs_s)
    return float(np.median(ratios))


def cstore_over_pynetdicom(series: Path, n_turns: int = 5) -> float:
    """Return the time in which `rtgod receive` takes images, relative to a node that only answers: the median."""
    images = [pydicom.dcmread(path) for path in sorted(series.iterdir())[:50]]
    bare = AE()
    bare.maximum_pdu_size = 0
    bare.add_supported_context(MRImageStorage)
    server = bare.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, lambda _: 0)])
    done = threading.Event()
    runs = LiveRuns(_Taker(), RunOptions(), log.info)
    ratios = []
    with DicomNode(NodeOptions(port=0), runs, log.info) as node:
        decoding = threading.Thread(target=node.run, args=(done.is_set,))
        decoding.start()
        for _ in range(n_turns):
            theirs_s = _sent_s(images, server.server_address[1])
            ratios.append(_sent_s(images, node.port) / theirs_s)
        done.set()
        decoding.join()
    bare.shutdown()
    return float(np.median(ratios))


class _Taker:
    """Takes what is sent, as a server that is never late."""

    def send(self, message: Run | Volume | RunEnd) -> None:
        """Take a message."""


def _sent_s(images: Sequence[pydicom.Dataset], port: int) -> float:
    """Return the seconds in which images are sent to a node and answered."""
    scanner = AE()
    scanner.add_requested_context(MRImageStorage)
    association = scanner.associate("127.0.0.1", port)
    began_s = time.perf_counter()
    for image in images:
        if association.send_c_store(image).Status:
            raise RuntimeError("an image was refused")
    took_s = time.perf_counter() - began_s
    association.release()
    return took_s


def start_s(folder: Path) -> float:
    """Return the seconds that a watch takes to start beside old files."""
    folder.mkdir()
    for number in range(N_OLD):
        os.close(os.open(folder / f"{number}.dcm", os.O_CREAT))
    began_s = time.perf_counter()
    with Arrivals(folder):
        return time.perf_counter() - began_s


if __name__ == "__main__":
    sys.exit(main())
