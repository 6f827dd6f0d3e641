"""The commands `rtgod watch` and `rtgod receive`: a running scan to a server, from a folder or over the network."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rtgod.commands.check import check_export
from rtgod.commands.options import ClientName, Key, Waiting, console
from rtgod.console import styled
from rtgod.errors import InputError
from rtgod.text import number_of

if TYPE_CHECKING:
    from rtgod.receivers.identity_table import IdentityTable
    from rtgod.receivers.run_options import RunOptions

To = Annotated[str, typer.Option("--to", help="The server's ingest address.")]
Subject = Annotated[
    str, typer.Option("--subject", help="Subject label; what the images call the patient is never sent.")
]
Events = Annotated[
    Path | None, typer.Option("--events", help="Table of the trials of every run, with onsets from the first volume.")
]
Corrected = Annotated[bool, typer.Option("--corrected", help="Take the images that the scanner corrected for motion.")]
Echo = Annotated[int, typer.Option("--echo", min=0, help="Echo to take, from 1, of series that have several.")]
Tr = Annotated[
    float | None, typer.Option("--tr", min=0.05, help="Repetition time in seconds, where the images give none.")
]
Volumes = Annotated[
    int | None,
    typer.Option("--volumes", min=1, help="Planned number of volumes of a run, after which it ends; default theirs."),
]
Patience = Annotated[
    float, typer.Option("--patience", min=0, help="How many TR a missing volume is waited for once a later one came.")
]
SeveralPatients = Annotated[
    bool,
    typer.Option(
        "--several-patients", help="Send images of any PatientID, where the person who is scanned has two numbers."
    ),
]
Identities = Annotated[
    Path | None,
    typer.Option(
        "--identity-table",
        metavar="FILE",
        help="Table that gets a row for each run, with PatientID and date. It stays on this machine and is never sent.",
    ),
]
Check = Annotated[
    bool,
    typer.Option(
        "--check", help="Before a scan: play a finished export as if it came now, send nothing, and say what was seen."
    ),
]
Page = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="With --check: write what it says as a page, too.")
]
Bundle = Annotated[
    Path | None, typer.Option("--bundle", help="With --check: compare the runs with the scan of this bundle.")
]
_SERVER = "tcp://127.0.0.1:5555"


def watch(
    folder: Annotated[Path, typer.Argument(help="Folder in which the scanner's files appear; folders in it count.")],
    to: To = _SERVER,
    subject: Subject = "unknown",
    events: Events = None,
    corrected: Corrected = False,
    echo: Echo = 0,
    tr: Tr = None,
    volumes: Volumes = None,
    patience: Patience = 2.0,
    several_patients: SeveralPatients = False,
    identity_table: Identities = None,
    poll: Annotated[
        bool, typer.Option("--poll", help="Only look, every 20 ms, and use no events of the system.")
    ] = False,
    check: Check = False,
    html: Page = None,
    bundle: Bundle = None,
    key: Key = None,
    name: ClientName = None,
) -> None:
    """Send a running scan to a server, from the folder in which the scanner's files appear.

    Every functional run is sent, volume by volume, as soon as its files are complete; the next series is picked up by
    itself. Localizers, references, phase and derived images are left out, and each named once. Files that are there at
    the start are never opened, and nothing in the folder is changed. Ctrl-C ends the run and stops.

    With --check the files that are there are read in place of new ones, and no server is needed. The exit code is then
    0 if the export is fit for live use, and 1 if something is to be settled first.
    """
    from rtgod.protocol.clients import Sender
    from rtgod.protocol.keys import read_client_key
    from rtgod.receivers.arrivals import Arrivals
    from rtgod.receivers.live_runs import LiveRuns
    from rtgod.receivers.watcher import Watcher

    options = _options(subject, events, corrected, echo, tr, volumes, patience, several_patients)
    if check:
        check_export(folder, options, html, bundle)
        return
    if html or bundle:
        raise InputError(f"{'--html' if html else '--bundle'}: for a finished export; give --check as well")
    identities, stopped = _identities(identity_table, folder), _stop_on_signals()
    with (
        Arrivals(folder, with_events=not poll) as arrivals,
        Sender(
            to, patience_s=2.0, waiting=Waiting().say, key=read_client_key(key) if key else None, name=name
        ) as sender,
    ):
        _tell(f"watching, with {arrivals.n_old} old files; volumes go to {to}")
        runs = LiveRuns(sender, options, _tell, identities=identities)
        Watcher(arrivals, runs, _tell).run(stopped)
        _tell(f"{runs.n_sent} volumes sent")


def receive(
    protocol: Annotated[
        Literal["dicom", "afni", "vsend"], typer.Option(help="What the scanner's side speaks.")
    ] = "dicom",
    listen: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS:PORT",
            help="Where to listen; default 127.0.0.1, and port 11112 (dicom), 7961 (afni) or 15000 (vsend).",
        ),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(metavar="NETWORK", help="Network whose hosts may connect: 192.168.2.0/24; may be repeated."),
    ] = None,
    title: Annotated[str, typer.Option(help="Application entity title of this node.")] = "RTGOD",
    tls_certificate: Annotated[Path | None, typer.Option(help="Certificate of this node, for TLS.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Private key of the certificate.")] = None,
    tls_authority: Annotated[Path | None, typer.Option(help="Certificates that senders must have theirs from.")] = None,
    to: To = _SERVER,
    subject: Subject = "unknown",
    events: Events = None,
    corrected: Corrected = False,
    echo: Echo = 0,
    tr: Tr = None,
    volumes: Volumes = None,
    patience: Patience = 2.0,
    several_patients: SeveralPatients = False,
    identity_table: Identities = None,
    key: Key = None,
    name: ClientName = None,
) -> None:
    """Send a running scan to a server, from images that come over the network.

    With "dicom" it is a node to which the scanner sends its images (C-STORE), of which the same are taken and left out
    as with `rtgod watch`; this needs pynetdicom, which rtgod's extra "network" installs. With "afni" it listens as
    AFNI does, for Dimon or any other source for AFNI; with "vsend" as MURFI does, for a Siemens scanner that has its
    sender. Nothing is written to a disk.
    """
    from rtgod.protocol.clients import Sender
    from rtgod.protocol.keys import read_client_key
    from rtgod.receivers import afni_net, vsend_net
    from rtgod.receivers.dicom_net import DicomNode, NodeOptions
    from rtgod.receivers.listening import listening_at
    from rtgod.receivers.live_runs import LiveRuns

    ports = {"dicom": 11112, "afni": afni_net.CONTROL_PORT, "vsend": vsend_net.PORT}
    listen = listen or f"127.0.0.1:{ports[protocol]}"
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise InputError(f"--listen {listen}: give an address and a port, such as 192.168.2.1:11112")
    if protocol != "dicom" and (tls_certificate or tls_key or tls_authority):
        raise InputError(
            "--tls-certificate, --tls-key, --tls-authority: for DICOM; the other protocols have no encryption"
        )
    if protocol == "afni" and corrected:
        raise InputError("--corrected: AFNI's protocol does not tell images that were corrected for motion from others")
    if protocol != "dicom" and (identity_table or several_patients):
        raise InputError("--identity-table, --several-patients: for DICOM; the other protocols do not say who it is")
    host, allowed = host.strip("[]"), tuple(allow or ())
    options = _options(subject, events, corrected, echo, tr, volumes, patience, several_patients)
    identities, stopped = _identities(identity_table), _stop_on_signals()
    own_key = read_client_key(key) if key else None
    with Sender(to, patience_s=2.0, waiting=Waiting().say, key=own_key, name=name) as sender:
        if protocol != "dicom":
            kind = afni_net.AfniReceiver if protocol == "afni" else vsend_net.VsendReceiver
            with kind(listening_at(host, int(port), allowed), sender, options, _tell) as receiver:
                _tell(f"listens for {protocol} at {host}:{receiver.port}; volumes go to {to}")
                receiver.run(stopped)
                _tell(f"{receiver.n_sent} volumes sent")
            return
        node_options = NodeOptions(
            host=host, port=int(port), title=title, allowed=allowed, certificate=tls_certificate,
            private_key=tls_key, authority=tls_authority,
        )  # fmt: skip
        runs = LiveRuns(sender, options, _tell, identities=identities)
        with DicomNode(node_options, runs, _tell) as node:
            _tell(f"{title} listens at {host}:{node.port}; volumes go to {to}")
            node.run(stopped)
        _tell(f"{runs.n_sent} volumes sent")


def _tell(line: str) -> None:
    console.print(styled(line), soft_wrap=True)


def _options(
    subject: str,
    events: Path | None,
    corrected: bool,
    echo: int,
    tr_s: float | None,
    n_volumes: int | None,
    patience_tr: float,
    several_patients: bool,
) -> RunOptions:
    from rtgod.events.table import read_events
    from rtgod.receivers.run_options import RunOptions

    trials = read_events(events).trials if events else ()
    if trials:
        first_s, last_s = (edge(trial.onset_s for trial in trials) for edge in (min, max))
        what = number_of(len(trials), "trial")
        _tell(f"every run has {what}, which begin {first_s:g} s to {last_s:g} s after its first volume")
    return RunOptions(
        subject=subject,
        trials=trials,
        corrected=corrected,
        echo=echo,
        patience_tr=patience_tr,
        tr_s=tr_s,
        n_volumes=n_volumes,
        several_patients=several_patients,
    )


def _identities(path: Path | None, watched: Path | None = None) -> IdentityTable | None:
    from rtgod.receivers.identity_table import IdentityTable

    if path is None:
        return None
    _tell("the identity table says who was scanned: keep it where only the lab can read it")
    return IdentityTable(path, watched)


def _stop_on_signals() -> Callable[[], bool]:
    """Return a function that tells whether SIGTERM or Ctrl-C came."""
    caught: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: caught.append(number))
    return lambda: bool(caught)
