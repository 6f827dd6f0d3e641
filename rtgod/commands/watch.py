"""The commands `rtgod watch` and `rtgod receive`: a running scan to a server, from a folder or over the network."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rtgod.commands.check import check_export
from rtgod.commands.options import ClientName, CountFrom, Discard, Echo, Key, Waiting, chosen_counts, console
from rtgod.console import styled
from rtgod.errors import InputError
from rtgod.text import number_of

if TYPE_CHECKING:
    from rtgod.bundle import DecoderBundle
    from rtgod.receivers.identity_table import IdentityTable
    from rtgod.receivers.outbox import Outbox
    from rtgod.receivers.protocols.plain_receiver import PlainReceiver
    from rtgod.receivers.run_options import RunOptions
    from rtgod.receivers.server_rules import ServerRules

To = Annotated[str, typer.Option("--to", help="The server's ingest address.")]
Subject = Annotated[
    str, typer.Option("--subject", help="Subject label; what the images call the patient is never sent.")
]
Events = Annotated[
    Path | None,
    typer.Option("--events", help="Table of the trials of every run: a BIDS events table, or a plan of the display."),
]
Corrected = Annotated[bool, typer.Option("--corrected", help="Take the images that the scanner corrected for motion.")]
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
        help="Table that gets a row for each run of DICOM images, with PatientID and date. It stays on this machine "
        "and is never sent.",
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
    discard: Discard = None,
    count_from: CountFrom = None,
    corrected: Corrected = False,
    echo: Echo = "",
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
    itself. Localizers, references, phase and derived images are left out, and each named once. NIfTI files are followed
    too: one a volume, by the number at the end of their names, or an uncompressed 4-D one that grows. Files that are
    there at the start are never opened, and nothing in the folder is changed. Ctrl-C ends the run and stops.

    With --check the files that are there are read in place of new ones, and no server is needed; --events, --discard
    and --count-from hold as in a scan, by the rules of --bundle where it is given. The exit code is then 0 if the
    export is fit for live use, 1 if something is to be settled first, and 2 if the folder cannot be checked.
    """
    from rtgod.protocol.clients import Sender
    from rtgod.protocol.keys import read_client_key
    from rtgod.receivers.arrivals import Arrivals
    from rtgod.receivers.live_nifti import LiveNifti
    from rtgod.receivers.live_runs import LiveRuns
    from rtgod.receivers.outbox import Outbox
    from rtgod.receivers.server_rules import ServerRules
    from rtgod.receivers.watcher import Watcher

    options = _options(subject, corrected, echo, tr, volumes, patience, several_patients, events)
    counts = chosen_counts(discard, count_from)
    if check:
        _check_without(to=to != _SERVER, key=key, name=name, identity_table=identity_table, poll=poll)
        decoder = _loaded(bundle)
        theirs = None if decoder is None else decoder.settings.events.model_dump(mode="json", exclude_defaults=True)
        rules = ServerRules(lambda: theirs, options, counts, _tell)
        rules.ask()
        check_export(folder, rules.applied_to(options), html, decoder)
        return
    if html or bundle:
        raise InputError(f"{'--html' if html else '--bundle'}: for a finished export; give --check as well")
    stopped = _Stopped()
    identities = _identities(identity_table, folder)
    with (
        Arrivals(folder, with_events=not poll) as arrivals,
        Sender(
            to, patience_s=2.0, waiting=Waiting().say, key=read_client_key(key) if key else None, name=name
        ) as sender,
        Outbox(sender, _tell, n_receivers=2, is_hurried=stopped.is_hurried) as outbox,  # one order for both kinds
    ):
        old = f", without the {number_of(arrivals.n_old, 'file')} of before" if arrivals.n_old else ""
        _tell(f"watching{old}; volumes go to {to}")
        rules = ServerRules(sender.ask_rules, options, counts, _tell)
        options = replace(options, server_rules=rules)
        _ask(rules, outbox)
        runs = LiveRuns(outbox, options, _tell, identities=identities)
        nifti = LiveNifti(outbox, options, _tell, has_identities=identities is not None)
        Watcher(arrivals, runs, _tell, nifti=nifti).run(stopped)
        _tell(outbox.summary)


def receive(
    protocol: Annotated[
        Literal["dicom", "afni", "vsend", "pyneal", "siemens-tcp"],
        typer.Option(help="What the scanner's side speaks."),
    ] = "dicom",
    listen: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS:PORT",
            help="Where to listen; default 127.0.0.1, and port 11112 (dicom), 7961 (afni), 15000 (vsend), 5550 "
            "(pyneal) or 5677 (siemens-tcp).",
        ),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(metavar="NETWORK", help="Network whose hosts may connect: 192.168.2.0/24; may be repeated."),
    ] = None,
    geometry: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE_OR_FOLDER",
            help="For siemens-tcp, which does not say where the slices lie: a DICOM or NIfTI file of the series, or "
            "the folder of its DICOM files, of which the newest counts.",
        ),
    ] = None,
    title: Annotated[str, typer.Option(help="Application entity title of this node.")] = "RTGOD",
    tls_certificate: Annotated[Path | None, typer.Option(help="Certificate of this node, for TLS.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Private key of the certificate.")] = None,
    tls_authority: Annotated[Path | None, typer.Option(help="Certificates that senders must have theirs from.")] = None,
    to: To = _SERVER,
    subject: Subject = "unknown",
    events: Events = None,
    discard: Discard = None,
    count_from: CountFrom = None,
    corrected: Corrected = False,
    echo: Echo = "",
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
    sender; with "pyneal" as Pyneal does, for Pyneal-Scanner; with "siemens-tcp" for the direct export of a Siemens
    scanner, which needs --geometry. Nothing is written to a disk but the table of --identity-table, and, while the
    server is away for long, a temporary file of the volumes that wait.
    """
    from rtgod.protocol.addresses import host_and_port
    from rtgod.protocol.clients import Sender
    from rtgod.protocol.keys import read_client_key
    from rtgod.receivers.dicom_net import DicomNode, NodeOptions
    from rtgod.receivers.listening import listening_at
    from rtgod.receivers.live_runs import LiveRuns
    from rtgod.receivers.outbox import Outbox
    from rtgod.receivers.server_rules import ServerRules

    kinds = _plain_receivers()
    listen = listen or f"127.0.0.1:{kinds[protocol][1] if protocol in kinds else 11112}"
    host, port = host_and_port(listen, "--listen", "192.168.2.1:11112", lowest=0)
    allowed = tuple(allow or ())
    _check_options(
        protocol,
        corrected=corrected,
        echo=echo,
        has_tls=bool(tls_certificate or tls_key or tls_authority),
        has_geometry=geometry is not None,
        has_patients=bool(identity_table or several_patients),
    )
    _check_apart(host, port, to)
    options = replace(
        _options(subject, corrected, echo, tr, volumes, patience, several_patients, events), geometry=geometry
    )
    counts, stopped = chosen_counts(discard, count_from), _Stopped()
    identities, own_key = _identities(identity_table), read_client_key(key) if key else None
    with (
        Sender(to, patience_s=2.0, waiting=Waiting().say, key=own_key, name=name) as sender,
        Outbox(sender, _tell, is_hurried=stopped.is_hurried) as outbox,
    ):
        rules = ServerRules(sender.ask_rules, options, counts, _tell)
        options = replace(options, server_rules=rules)
        if protocol in kinds:
            kind, _ = kinds[protocol]
            with kind(listening_at(host, port, allowed), outbox, options, _tell) as receiver:
                _tell(f"listens for {protocol} at {host}:{receiver.port}; volumes go to {to}")
                _ask(rules, outbox)
                receiver.run(stopped)
            _tell(outbox.summary)
            return
        node_options = NodeOptions(
            host=host, port=port, title=title, allowed=allowed, certificate=tls_certificate,
            private_key=tls_key, authority=tls_authority,
        )  # fmt: skip
        runs = LiveRuns(outbox, options, _tell, identities=identities)
        with DicomNode(node_options, runs, _tell) as node:
            _tell(f"{title} listens at {host}:{node.port}; volumes go to {to}")
            _ask(rules, outbox)
            node.run(stopped)
        _tell(outbox.summary)


def _plain_receivers() -> dict[str, tuple[type[PlainReceiver], int]]:
    """Return the receivers of plain protocols with their default ports."""
    from rtgod.receivers.protocols import afni_net, pyneal_net, siemens_tcp_net, vsend_net

    return {
        "afni": (afni_net.AfniReceiver, afni_net.CONTROL_PORT),
        "vsend": (vsend_net.VsendReceiver, vsend_net.PORT),
        "pyneal": (pyneal_net.PynealReceiver, pyneal_net.PORT),
        "siemens-tcp": (siemens_tcp_net.SiemensTcpReceiver, siemens_tcp_net.PORT),
    }


def _check_options(
    protocol: str, *, corrected: bool, echo: str, has_tls: bool, has_geometry: bool, has_patients: bool
) -> None:
    """Refuse options that a protocol leaves without effect."""
    if has_tls and protocol != "dicom":
        raise InputError(
            "--tls-certificate, --tls-key, --tls-authority: for DICOM; the other protocols have no encryption"
        )
    speakers = {"afni": "AFNI's protocol", "pyneal": "Pyneal's protocol"}
    if corrected and protocol in speakers:
        raise InputError(
            f"--corrected: {speakers[protocol]} does not tell images that were corrected for motion from others"
        )
    if echo and protocol not in ("dicom", "afni"):
        raise InputError(f"--echo: images of {protocol} do not say of which echo they are")
    if has_patients and protocol != "dicom":
        raise InputError("--identity-table, --several-patients: for DICOM; the other protocols do not say who it is")
    if has_geometry and protocol != "siemens-tcp":
        raise InputError(f"--geometry: for siemens-tcp; {protocol} says where its slices lie")


def _check_apart(host: str, port: int, to: str) -> None:
    """Refuse to listen where the server does: whoever comes first would take what is meant for the other."""
    server, _, server_port = to.removeprefix("tcp://").rpartition(":")
    ours, theirs = (name.replace("localhost", "127.0.0.1") for name in (host, server.strip("[]")))
    is_everywhere = ours in ("0.0.0.0", "::") and theirs in ("127.0.0.1", "::1")  # noqa: S104 # compared, not bound
    if str(port) == server_port and (ours == theirs or is_everywhere):
        raise InputError(
            f"--listen {host}:{port}: the server itself listens there (--to {to}); choose another port here and at the "
            "scanner's side, where Pyneal-Scanner calls it pynealSocketPort"
        )


def _tell(line: str) -> None:
    console.print(styled(line), soft_wrap=True)


def _options(
    subject: str,
    corrected: bool,
    echo: str,
    tr_s: float | None,
    n_volumes: int | None,
    patience_tr: float,
    several_patients: bool,
    events: Path | None,
) -> RunOptions:
    from rtgod.events.table import events_table
    from rtgod.receivers.run_options import RunOptions
    from rtgod.sources.echoes import echo_of

    return RunOptions(
        subject=subject,
        corrected=corrected,
        echo=echo_of(echo),
        patience_tr=patience_tr,
        tr_s=tr_s,
        n_volumes=n_volumes,
        several_patients=several_patients,
        events=events_table(events) if events else None,
    )


def _check_without(**given: object) -> None:
    """Refuse options that have no effect with --check."""
    if refused := [f"--{name.replace('_', '-')}" for name, value in given.items() if value]:
        raise InputError(
            f"{', '.join(refused)}: --check reads a finished export, asks no server and writes no table; leave out "
            f"{'this option' if len(refused) == 1 else 'these options'}"
        )


def _loaded(bundle: Path | None) -> DecoderBundle | None:
    if bundle is None:
        return None
    from rtgod.bundle import DecoderBundle

    return DecoderBundle.load(bundle)


def _ask(rules: ServerRules, outbox: Outbox) -> None:
    """Ask the server for its rules for events; a run waits as long as it does not say them."""
    from rtgod.errors import RefusedError, ServerError

    try:
        rules.ask()
    except (RefusedError, ServerError) as error:
        waits = "; volumes wait here for it"
        if rules.are_needed:
            waits = (
                ", and how its bundle counts volumes and reads events is not known: until it has said so, runs wait "
                "here with their volumes, and nothing is guessed"
            )
        outbox.ask(rules)
        _tell(f"the server does not answer{waits}; start `rtgod serve` there before the scan ends: {error}")


def _identities(path: Path | None, watched: Path | None = None) -> IdentityTable | None:
    from rtgod.receivers.identity_table import IdentityTable

    if path is None:
        return None
    _tell("the identity table says who was scanned: keep it where only the lab can read it")
    return IdentityTable(path, watched)


class _Stopped:
    """Whether somebody stops the command by SIGTERM or Ctrl-C, and whether by more than one, as it takes too long."""

    def __init__(self) -> None:
        self._n_caught = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._catch)

    def _catch(self, number: int, frame: object) -> None:  # noqa: ARG002 # as signals are handled
        self._n_caught += 1

    def __call__(self) -> bool:
        return self._n_caught > 0

    def is_hurried(self) -> bool:
        return self._n_caught > 1
