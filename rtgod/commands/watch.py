"""The commands `rtgod watch` and `rtgod receive`: a running scan to a server, from a folder or over the network."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rtgod.commands.check import check_export
from rtgod.commands.options import ClientName, CountFrom, Discard, Echo, Key, Waiting, chosen_counts, console
from rtgod.console import styled
from rtgod.errors import InputError, RtgodError
from rtgod.text import number_of

if TYPE_CHECKING:
    from rtgod.bundle import DecoderBundle
    from rtgod.protocol.clients import Sender
    from rtgod.receivers.identity_table import IdentityTable
    from rtgod.receivers.protocols.plain_receiver import PlainReceiver
    from rtgod.receivers.run_options import RunOptions

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
    from rtgod.receivers.watcher import Watcher

    options = _options(subject, corrected, echo, tr, volumes, patience, several_patients)
    counts = chosen_counts(discard, count_from)
    if check:
        _check_without(to=to != _SERVER, key=key, name=name, identity_table=identity_table, poll=poll)
        decoder = _loaded(bundle)
        rules = None if decoder is None else decoder.settings.events.model_dump(mode="json", exclude_defaults=True)
        check_export(folder, _ruled(options, rules, events, counts), html, decoder)
        return
    if html or bundle:
        raise InputError(f"{'--html' if html else '--bundle'}: for a finished export; give --check as well")
    stopped = _stop_on_signals()
    identities = _identities(identity_table, folder)
    with (
        Arrivals(folder, with_events=not poll) as arrivals,
        Sender(
            to, patience_s=2.0, waiting=Waiting().say, key=read_client_key(key) if key else None, name=name
        ) as sender,
    ):
        old = f", without the {number_of(arrivals.n_old, 'file')} of before" if arrivals.n_old else ""
        _tell(f"watching{old}; volumes go to {to}")
        options = _with_events(options, sender, events, counts)
        outbox = Outbox(sender, _tell, options.rules.discard_volumes, n_receivers=2)  # one order for both kinds
        runs = LiveRuns(outbox, options, _tell, identities=identities)
        nifti = LiveNifti(outbox, options, _tell, has_identities=identities is not None)
        Watcher(arrivals, runs, _tell, nifti=nifti).run(stopped)
        _tell(f"{number_of(outbox.n_sent, 'volume')} sent")


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
    options = replace(_options(subject, corrected, echo, tr, volumes, patience, several_patients), geometry=geometry)
    counts, stopped = chosen_counts(discard, count_from), _stop_on_signals()
    identities, own_key = _identities(identity_table), read_client_key(key) if key else None
    with Sender(to, patience_s=2.0, waiting=Waiting().say, key=own_key, name=name) as sender:
        options = _with_events(options, sender, events, counts)
        if protocol in kinds:
            kind, _ = kinds[protocol]
            with kind(listening_at(host, port, allowed), sender, options, _tell) as receiver:
                _tell(f"listens for {protocol} at {host}:{receiver.port}; volumes go to {to}")
                receiver.run(stopped)
                _tell(f"{number_of(receiver.n_sent, 'volume')} sent")
            return
        node_options = NodeOptions(
            host=host, port=port, title=title, allowed=allowed, certificate=tls_certificate,
            private_key=tls_key, authority=tls_authority,
        )  # fmt: skip
        runs = LiveRuns(sender, options, _tell, identities=identities)
        with DicomNode(node_options, runs, _tell) as node:
            _tell(f"{title} listens at {host}:{node.port}; volumes go to {to}")
            node.run(stopped)
        _tell(f"{number_of(runs.n_sent, 'volume')} sent")


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
) -> RunOptions:
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


def _with_events(options: RunOptions, sender: Sender, events: Path | None, counts: dict[str, int]) -> RunOptions:
    """Read the table of events by the rules of the server's decoder, and say what will be done with every run."""

    def renew(known: RunOptions) -> RunOptions:
        try:
            return _ruled(replace(known, renew=None), sender.ask_rules(), events, counts)
        except RtgodError as error:
            _tell(f"the usual rules for events hold for the run that begins now: {error}")
            return known

    if events is None:
        _tell(
            "no table of events (--events): blocks are what a display tells; without any, a window slides over the run"
        )
    try:
        theirs = sender.ask_rules()
    except RtgodError as error:
        _tell(f"the server does not answer; its rules for events are asked for again when a run begins: {error}")
        return replace(_ruled(options, None, events, counts), renew=renew)
    return _ruled(options, theirs, events, counts)


def _ruled(
    options: RunOptions, theirs: Mapping[str, Any] | None, events: Path | None, counts: dict[str, int]
) -> RunOptions:
    """Read the table of events by the rules of a decoder, and say what will be done with every run."""
    from rtgod.events.counting import in_words, is_usual, n_used
    from rtgod.events.table import events_table
    from rtgod.events.trials import remarks_on
    from rtgod.receivers.run_options import live_trials
    from rtgod.sources.event_rules import live_rules

    rules, remarks = live_rules(theirs, counts)
    for line in remarks:
        _tell(line)
    if options.n_volumes:
        n_used(options.n_volumes, rules)
    table = events_table(events) if events else None
    if table is not None:
        read, note = live_trials(table, rules, options.tr_s)
        _tell(f"every run has {number_of(len(read.trials), 'trial')}: {in_words(rules, read.trials, options.tr_s)}")
        for line in ([note] if note else []) + remarks_on([replace(read, counted="")]):
            _tell(f"{table.path.name}: {line}")
    elif not is_usual(rules):
        _tell(f"of every run: {in_words(rules)}")
    return replace(options, events=table, rules=rules)


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
