"""Nothing that names a person leaves the bridge: a whole session with planted strings is searched, byte for byte."""

import base64
import dataclasses
import gzip
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import zipfile
import zlib
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID

from rtgod.journal.journal import MAGIC, SUFFIX, read_journal
from rtgod.messages import Run, RunEnd, Volume
from rtgod.receivers.live_runs import LiveRuns
from rtgod.receivers.run_options import RunOptions
from rtgod.sources.dicom.series import DicomSeries
from rtgod.sources.sent_fields import OWN_FIELDS, SENT_FIELDS
from tests.rtgod.receivers.test_watcher import Bridge
from tests.rtgod.sources.dicom.dicoms import PLANTED, save
from tests.serving import PATIENCE_S

#: Planted in every element of text, in private ones, in the CSA headers, in names of files and folders.
TEXT, DATE, NUMBER = "Jane^Mustnotleak", "19340506", "4711081500"
IN_NAMES = "DOE_JANE_MUSTNOTLEAK"
SECRETS = (*PLANTED, "Must^Not", "Mustnotleak", DATE, NUMBER, IN_NAMES)
#: Elements whose values decide which files are taken, or how they are read, and cannot be anything.
KEPT = {
    "SpecificCharacterSet", "ImageType", "SOPClassUID", "Modality", "ScanningSequence", "Manufacturer",
    "PhotometricInterpretation", "AcquisitionTime", "SeriesDescription", "ContentQualification",
}  # fmt: skip
_TEXTS = {"AE", "LO", "SH", "ST", "LT", "UT", "UC", "PN", "UN"}


def planted(path):
    """A file of `siemens-mosaic` with planted strings wherever there is text."""
    dataset = pydicom.dcmread(path)
    sent = {keyword for one in SENT_FIELDS for keyword in one.elements}

    def plant(_, element):
        if element.keyword in KEPT | sent or element.tag.is_private_creator:
            return
        if element.VR in _TEXTS:
            element.value = TEXT
        elif element.VR == "DA":
            element.value = DATE
        elif element.VR == "UI":
            element.value = UID(f"1.2.{NUMBER}.{element.tag:d}.{dataset.InstanceNumber}")

    dataset.walk(plant)
    # These are the same in all files of a run, and of the digest alone does anything leave.
    dataset.SeriesInstanceUID = UID(f"1.2.{NUMBER}.1")
    dataset.FrameOfReferenceUID = UID(f"1.2.{NUMBER}.2")
    for element in (0x10, 0x20):
        header = dataset[0x0029, 0x1000 + element]
        header.value = header.value + f"{TEXT}\0{DATE}\0".encode()
    dataset.PatientName, dataset.PatientComments, dataset.OtherPatientIDs = TEXT, f"{TEXT} {DATE}", NUMBER
    dataset.PatientAddress, dataset.AccessionNumber, dataset.OperatorsName = TEXT, NUMBER, TEXT
    block = dataset.private_block(0x0033, f"OF {TEXT}", create=True)
    block.add_new(1, "LO", TEXT)
    block.add_new(2, "UN", f"{TEXT}{DATE}".encode())
    nested = Dataset()
    nested.PatientID, nested.PatientName = NUMBER, TEXT
    block.add_new(3, "SQ", [nested])
    dataset.ReferencedImageSequence[0].add_new(0x00100010, "PN", TEXT)
    return dataset


@pytest.fixture(scope="module")
def files(shared_data):
    """Seven volumes, planted."""
    sources = sorted((shared_data / "siemens-mosaic").glob("*.dcm"))
    datasets = {int(dataset.InstanceNumber): dataset for dataset in map(planted, sources)}
    return [datasets[number] for number in sorted(datasets)][:7]


RUNNING = []


class Process:
    """A command of rtgod with a home and a folder for temporary files of its own; what it prints is kept."""

    def __init__(self, folder, *arguments):
        places = {"COLUMNS": "300"} | {
            name: str(folder / name.lower()) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME")
        }
        for place in (place for name, place in places.items() if name != "COLUMNS"):
            Path(place).mkdir(exist_ok=True)
        self.said = folder / "terminal" / f"{len(list((folder / 'terminal').iterdir()))}-{arguments[0]}.txt"
        with self.said.open("wb") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "rtgod", *map(str, arguments)],
                cwd=folder / "work", stdout=said, stderr=subprocess.STDOUT, env={**os.environ, **places},
            )  # fmt: skip

        RUNNING.append(self._process)

    def says(self, pattern):
        """Wait until it has printed something."""
        deadline_s = time.monotonic() + 3 * PATIENCE_S
        while time.monotonic() < deadline_s and self._process.poll() is None:
            if found := re.search(pattern, self.said.read_text(errors="replace")):
                return found
            threading.Event().wait(0.05)
        found = re.search(pattern, self.said.read_text(errors="replace"))
        assert found, self.said.read_text(errors="replace")
        return found

    def stop(self):
        self._process.send_signal(signal.SIGINT)
        assert self._process.wait(3 * PATIENCE_S) == 0, self.said.read_text(errors="replace")

    def done(self):
        assert self._process.wait(3 * PATIENCE_S) == 0, self.said.read_text(errors="replace")


@pytest.fixture(scope="module", autouse=True)
def _ends_all():
    yield
    for process in RUNNING:
        process.kill()
        process.wait(PATIENCE_S)


@pytest.fixture(scope="module")
def session(tmp_path_factory, files):
    """Everything that a session leaves: by folder and network, replayed, exported, with dates moved, logged."""
    pynetdicom = pytest.importorskip("pynetdicom")
    folder = tmp_path_factory.mktemp("session")
    for name in ("terminal", "work"):
        (folder / name).mkdir()
    scanner = tmp_path_factory.mktemp("scanner")
    export, old = scanner / IN_NAMES, scanner / "replayed" / IN_NAMES
    export.mkdir()
    work, journals = folder / "work", folder / "work" / "journals"
    serve = Process(folder, "serve", "--journal", journals, "--log", work / "log.json", "--ready-file", work / "ready",
                    "--ingest", "tcp://127.0.0.1:*", "--publish", "tcp://127.0.0.1:*")  # fmt: skip
    ingest = serve.says(r"volumes to (tcp://\S+?),").group(1)
    publish = serve.says(r"rankings from (tcp://\S+?),").group(1)

    watch = Process(folder, "watch", export, "--to", ingest, "--subject", "01", "--tr", "1.5")
    watch.says("volumes go to")
    for number, dataset in enumerate(files):
        save(dataset, export / f"{IN_NAMES}_{TEXT}" / f"{IN_NAMES}.{number}.dcm")
    damaged = save(files[0], scanner / "whole.dcm").read_bytes()
    (export / f"{IN_NAMES}.cut.dcm").write_bytes(damaged[:-9])
    (export / f"{IN_NAMES}.no.dcm").write_bytes(damaged[:140] + TEXT.encode() * 30)
    (export / f"{IN_NAMES}.txt").write_text(TEXT * 30)
    watch.says("lacks 9 bytes")
    watch.stop()

    receive = Process(folder, "receive", "--listen", "127.0.0.1:0", "--to", ingest, "--subject", "01")
    port = int(receive.says(r"listens at 127\.0\.0\.1:(\d+)").group(1))
    peer = pynetdicom.AE(ae_title="SCANNER")
    peer.add_requested_context("1.2.840.10008.5.1.4.1.1.4")
    association = peer.associate("127.0.0.1", port)
    for dataset in files:
        again = pydicom.dcmread(save(dataset, scanner / "sent.dcm"))
        again.SeriesInstanceUID, again.SeriesNumber = UID(f"1.2.{NUMBER}.3"), 21
        assert association.send_c_store(again).Status == 0
    association.release()
    receive.says("begins")
    receive.stop()

    for number, dataset in enumerate(files):
        again = pydicom.dcmread(save(dataset, old / f"{IN_NAMES}.{number}.dcm"))
        again.SeriesInstanceUID, again.SeriesNumber = UID(f"1.2.{NUMBER}.4"), 22
        save(again, old / f"{IN_NAMES}.{number}.dcm")
    Process(folder, "replay", old, "--to", ingest, "--full-speed", "--log", work / "replayed.tsv").done()
    Process(folder, "status", "--from", publish).done()
    serve.stop()
    (journal,) = journals.glob(f"*{SUFFIX}")
    Process(folder, "journal", "ls", journals).done()
    Process(folder, "journal", "verify", journal).done()
    Process(folder, "journal", "export", journal, "--out", work / "out").done()
    Process(folder, "report", journal, "--out", work / "report").done()
    Process(folder, "journal", "shift-dates", journal, "--out", work / "shared" / "copy.rtgod").done()
    return folder, journal


def contents(name, content, depth=0):
    """Yield bytes as they lie there, and unpacked: gzip, zip, zlib and base64."""
    yield name, content
    if depth == 3:
        return
    if content[:2] == b"\x1f\x8b":
        yield from contents(f"{name} unzipped", gzip.decompress(content), depth + 1)
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for inner in archive.namelist():
                yield from contents(f"{name}/{inner}", archive.read(inner), depth + 1)
    for start in re.finditer(rb"\x78[\x01\x5e\x9c\xda]", content):
        try:
            yield from contents(f"{name} inflated", zlib.decompressobj().decompress(content[start.start() :]), 3)
        except zlib.error:
            continue
    for text in re.findall(rb"[A-Za-z0-9+/]{16,}", content):
        yield f"{name} from base64", base64.b64decode(text[: len(text) // 4 * 4])


def found_in(folder, secrets=SECRETS):
    """List which secret is in which file below a folder, or in a name."""
    wanted = {
        secret.encode(encoding): secret
        for secret in secrets for encoding in ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le")
    }  # fmt: skip
    found = []
    for path in folder.rglob("*"):
        found += [(path.name, "its name", secret) for secret in secrets if secret in path.name]
        if path.is_file():
            for name, content in contents(path.name, path.read_bytes()):
                lower = content.lower()
                found += [(path.name, name, secret) for raw, secret in wanted.items() if raw.lower() in lower]
    return found


def test_the_search_finds_what_is_planted(tmp_path, files):
    """The null: each way to hide a string is found, in a file and in its name."""
    save(files[0], tmp_path / "a.dcm")
    assert {secret for _, _, secret in found_in(tmp_path)} >= {"Mustnotleak", DATE, NUMBER}
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    ways = {
        "utf-16": IN_NAMES.encode("utf-16"), "gzip": gzip.compress(IN_NAMES.encode()),
        "zlib": b"12" + zlib.compress(IN_NAMES.encode()), "base64": base64.b64encode(IN_NAMES.encode() + b".."),
        "lower": IN_NAMES.lower().encode(),
    }  # fmt: skip
    for way, content in ways.items():
        (hidden / way).write_bytes(content)
    (hidden / f"{IN_NAMES}.txt").touch()
    assert {name for name, _, _ in found_in(hidden)} == {*ways, f"{IN_NAMES}.txt"}


def test_a_whole_session_holds_no_identifying_string(session):
    folder, journal = session
    assert journal.read_bytes().startswith(MAGIC)
    runs = [message for message in read_journal(journal) if isinstance(message, Run)]
    assert len(runs) == 3
    assert sum(isinstance(message, Volume) for message in read_journal(journal)) == 21
    # What is typed is shown to who typed it, and to nobody else: the folder of a replay, and that is all.
    typed = [one for one in found_in(folder) if one[0].endswith("-replay.txt")]
    assert {secret for _, _, secret in typed} <= {IN_NAMES}
    assert [one for one in found_in(folder) if one not in typed] == []


def test_every_kind_of_output_was_there_to_be_searched(session):
    folder, _ = session
    names = [path.name for path in folder.rglob("*") if path.is_file()]
    for ending in (".rtgod", "_bold.nii.gz", "_bold.json", "_answers.tsv", "log.json", "ready", "replayed.tsv"):
        assert any(name.endswith(ending) for name in names), ending
    assert len(list((folder / "terminal").iterdir())) == 10
    assert json.loads((folder / "work" / "log.json").read_text().splitlines()[0])


def sent_of(datasets, folder):
    """What a watcher sends of files, as a text."""
    bridge = Bridge(folder)
    for number, dataset in enumerate(datasets):
        save(dataset, folder / f"{number}.dcm")
        bridge.step()
    bridge.stop()
    return [
        [f"{type(message).__name__}.{field.name}: {_shown(getattr(message, field.name))}"
         for field in dataclasses.fields(message)]
        for message in bridge.server.messages
    ]  # fmt: skip


def _shown(value):
    return value.tobytes() if hasattr(value, "tobytes") else value


def test_no_other_element_than_those_on_the_list_changes_what_is_sent(shared_data, tmp_path, files):
    """Not a word of it, not its length, not a digest: messages are the same, whatever the rest of a header says."""
    numbers = {int(dataset.InstanceNumber) for dataset in files}
    plain = {}
    for path in (shared_data / "siemens-mosaic").glob("*.dcm"):
        dataset = pydicom.dcmread(path)
        dataset.SeriesInstanceUID = UID(f"1.2.{NUMBER}.1")
        plain[int(dataset.InstanceNumber)] = dataset
    for name in ("plain", "planted", "replayed"):
        (tmp_path / name).mkdir()
    expected = sent_of([plain[number] for number in sorted(numbers)], tmp_path / "plain")
    assert len(expected) == 9
    assert sent_of(files, tmp_path / "planted") == expected
    for number, dataset in enumerate(files):
        save(dataset, tmp_path / "replayed" / f"{number}.dcm")
    source = DicomSeries(tmp_path / "replayed")
    assert f"Run.affine: {source.run.affine.tobytes()}" in expected[0]
    assert not any(secret in repr((source.run, source.notes, *source)) for secret in SECRETS)


def test_the_list_names_every_field_of_what_is_sent():
    fields = {f"{kind.__name__}.{field.name}" for kind in (Run, Volume, RunEnd) for field in dataclasses.fields(kind)}
    assert {one.field for one in SENT_FIELDS} | set(OWN_FIELDS) == fields
    assert not {one.field for one in SENT_FIELDS} & set(OWN_FIELDS)


def test_the_list_in_the_documentation_is_the_one_in_the_code():
    text = (Path(__file__).parents[2] / "docs" / "scanners.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `((?:Run|Volume|RunEnd)\.\w+)` \| ([^|]+) \| [^|]+ \|$", text, re.MULTILINE))
    assert {field: tuple(cell.strip().split(", ")) for field, cell in rows.items()} == {
        one.field: one.elements for one in SENT_FIELDS
    }


def test_what_takes_images_reads_nothing_else_than_is_needed(files):
    """The elements that are read at all: neither name nor birth date of the patient is among them."""
    from rtgod.receivers.live_runs import tags_taken

    never = (
        "PatientName",
        "PatientBirthDate",
        "PatientAddress",
        "OperatorsName",
        "PatientComments",
        "StudyInstanceUID",
    )
    assert not {pydicom.datadict.tag_for_keyword(keyword) for keyword in never} & set(tags_taken())
    lines = []
    LiveRuns(None, RunOptions(), lines.append).take(files[0], lambda: files[0].pixel_array[None], Path("an image"))
    assert lines == []
