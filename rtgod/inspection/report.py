"""What the check of a finished export has found: facts on its runs and series, and what to mind before a scan.

A pure function of what was played; see `rtgod.inspection.terminal` and `rtgod.inspection.page` for how it looks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from rtgod.errors import InputError
from rtgod.events.table import cut_and_told
from rtgod.inspection.arrival_times import ArrivalTimes
from rtgod.inspection.playback import Playback, SeenSeries, SeriesKey
from rtgod.inspection.run_volumes import RunVolumes, volumes_of
from rtgod.inspection.scan_facts import ScanFacts
from rtgod.inspection.slice_timing import SliceTiming, timing_of
from rtgod.messages import Run
from rtgod.receivers.privacy import OTHER
from rtgod.receivers.run_options import SILENCE_TR
from rtgod.text import number_of

#: Relative difference from which on the clock contradicts the repetition time.
_CONTRADICTION = 0.01
#: Lines that every scan has.
_USUAL = (
    re.compile(r"\S+: begins, \d+ × .*"),
    re.compile(r"\S+: ended after \d+ volumes?\b.*"),  # what is missing is said by itself
    re.compile(r"\S+: \d+ volumes? (is|are) discarded"),  # said with the run's rules
    re.compile(r"series \d+: one volume, and no more: left out"),
    re.compile(r"series \d+, after series \d+: .* it is of another"),
    re.compile(r"files that are no DICOM images are left out"),
)
#: Lines that are no complaint, and tell what was chosen.
_CHOSEN = (
    re.compile(r"series \d+: \d+ echoes \(.*\) are combined, .*"),
    re.compile(r"series \d+: echo \d+ is taken of .*"),
    re.compile(r"\S+: (no volume is|\d+ volumes? (is|are)) discarded; .*"),
    re.compile(r"series \d+: the scanner's clock (has jumped|goes)\b.*"),
)
#: Said of an image that waits, which is settled if the clock was set anew.
_WAITS = re.compile(r"(series \d+): an image's number and time do not fit the others of its series: .*")
_JUMPED = re.compile(r"(series \d+): the scanner's clock has jumped: .*")
_SILENT = re.compile(r"(series \d+): no volume for [\d.]+ TR, since volume (\d+): .*")
_AGAIN = re.compile(r"(series \d+): volumes come again")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to mind.

    Attributes
    ----------
    is_first : bool
        Whether it is to be settled before a scan; else it is to be known.
    text : str
    """

    is_first: bool
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class RunReport:
    """A functional run that would be sent.

    Attributes
    ----------
    run : Run
        As it would be sent.
    number : int
        SeriesNumber.
    facts : ScanFacts
    echoes_ms : tuple of float
    timing : SliceTiming or None
    n_sent : int
        Volumes that would be sent.
    volumes : RunVolumes or None
        None if they cannot be counted.
    n_discarded : int
        Volumes at its start that would not be sent.
    """

    run: Run
    number: int
    facts: ScanFacts
    echoes_ms: tuple[float, ...]
    timing: SliceTiming | None
    n_sent: int
    volumes: RunVolumes | None
    n_discarded: int = 0

    @property
    def n_bands(self) -> int:
        """Slices that are acquired at once; 0 if it is not known."""
        return self.facts.n_bands or (self.timing.n_bands if self.timing else 0)


@dataclass(frozen=True, slots=True)
class SeriesReport:
    """A series of the folder.

    Attributes
    ----------
    number : int
        SeriesNumber.
    n_files : int
    fate : str
        What would become of it live.
    is_sent : bool
        Whether it is a run, or a part of one.
    """

    number: int
    n_files: int
    fate: str
    is_sent: bool


@dataclass(frozen=True, slots=True)
class Fit:
    """Comparison of a run with the scan that a bundle was trained on.

    Attributes
    ----------
    number : int
        SeriesNumber.
    rows : tuple of (str, str, str)
        What is compared, as it is here, and as it is in the bundle.
    findings : tuple of Finding
        What differs.
    """

    number: int
    rows: tuple[tuple[str, str, str], ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """All of it.

    Attributes
    ----------
    findings : tuple of Finding
        Those that come first at the beginning.
    runs : tuple of RunReport
    series : tuple of SeriesReport
    times : ArrivalTimes
    n_files : int
    fits : tuple of Fit
        How each run compares with a bundle, if one was given.
    """

    findings: tuple[Finding, ...]
    runs: tuple[RunReport, ...]
    series: tuple[SeriesReport, ...]
    times: ArrivalTimes
    n_files: int
    fits: tuple[Fit, ...] = ()

    @property
    def is_fit(self) -> bool:
        """Whether nothing is to be settled before a scan."""
        return not any(finding.is_first for finding in self.findings)

    def verdict(self) -> str:
        """Say whether the export is fit for live use."""
        n_first = sum(finding.is_first for finding in self.findings)
        if n_first:
            return f"Not yet fit for live use: {number_of(n_first, 'thing')} first"
        return "Fit for live use" + ("" if self.times.are_known else ", as far as a copy can tell")


def report_of(playback: Playback, times: ArrivalTimes) -> Report:
    """Report on what was played.

    Parameters
    ----------
    playback : Playback
    times : ArrivalTimes
    """
    runs = tuple(_run_report(run, playback, times) for run in playback.runs)
    findings = [
        *_of_lines(playback, are_timed=times.are_known),
        *_of_times(times),
        *(finding for report in runs for finding in [*_of_run(report), *_of_trials(report)]),
        *_of_repeats(runs, playback),
    ]
    if not runs:
        findings.append(Finding(True, "no functional run in it: nothing would be sent, so that nothing can be decoded"))
    return Report(
        findings=_first_ones_first(findings),
        runs=runs,
        series=tuple(_series_report(key, series, runs, playback) for key, series in playback.series.items()),
        times=times,
        n_files=playback.n_files,
    )


def with_fits(report: Report, fits: Sequence[Fit]) -> Report:
    """Add how runs compare with a bundle.

    Parameters
    ----------
    report : Report
    fits : sequence of Fit
    """
    findings = [*report.findings, *(finding for fit in fits for finding in fit.findings)]
    return replace(report, findings=_first_ones_first(findings), fits=tuple(fits))


def _first_ones_first(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda finding: not finding.is_first))


# ---------------------------------------------------------------- runs and series


def _run_report(run: Run, playback: Playback, times: ArrivalTimes) -> RunReport:
    key, pieces = playback.keys[run.run_id][0], playback.pieces[run.run_id]
    series = playback.series[key]
    # Of several echoes that are taken, each volume has all; one is enough to count them.
    pieces = [piece for piece in pieces if piece.piece.grid.echo_ms == pieces[0].piece.grid.echo_ms]
    volumes = volumes_of(pieces, run.tr_s)
    slice_times_s = series.slice_times_s or (volumes.slice_times_s if volumes else ())
    if volumes is not None and not times.are_known:
        volumes = replace(volumes, delays_s=())
    return RunReport(
        run=run,
        number=key[0],
        facts=series.facts,
        echoes_ms=tuple(sorted(echo_ms for echo_ms in series.echoes_ms if echo_ms)),
        timing=timing_of(slice_times_s),
        n_sent=playback.n_sent[run.run_id],
        volumes=volumes,
        n_discarded=playback.n_discarded,
    )


def _series_report(key: SeriesKey, series: SeenSeries, runs: Sequence[RunReport], playback: Playback) -> SeriesReport:
    own = [report for report in runs if playback.keys[report.run.run_id][0] == key]
    if own:
        n = max(len(playback.keys[report.run.run_id]) for report in own)
        joined = f" of {n} series" if n > 1 else ""
        fates = [f"a run{joined}, {number_of(report.n_sent, 'volume')}" for report in own]
        more = [f"{count} left out: {why}" for why, count in series.left_out.most_common()]
        return SeriesReport(key[0], series.n_files, "; ".join([", restarted: ".join(fates), *more]), True)
    for report in runs:
        if key in playback.keys[report.run.run_id]:
            return SeriesReport(key[0], series.n_files, f"a volume of the run of series {report.number}", True)
    if series.left_out:
        fate = "; ".join(
            why if count == series.n_files else f"{count} files: {why}" for why, count in series.left_out.most_common()
        )
        return SeriesReport(key[0], series.n_files, f"left out: {fate}", False)
    start = f"series {key[0]}: "
    lines = [line.removeprefix(start) for _, line in playback.told if line.startswith(start)]
    return SeriesReport(key[0], series.n_files, lines[-1] if lines else "left out", False)


# ---------------------------------------------------------------- findings


def _of_lines(playback: Playback, *, are_timed: bool) -> list[Finding]:
    """Choose the lines that would be told live of something that is not as it should be."""
    rules = {
        f"series {number}: {why}: left out"
        for (number, _), series in playback.series.items()
        for why in series.left_out
        if why != OTHER
    }
    kinds: dict[str, list[str]] = {}
    lines = _with_pauses(playback, are_timed=are_timed)
    jumped = {match[1] for line in lines if (match := _JUMPED.fullmatch(line))}
    for line in lines:
        if (match := _WAITS.fullmatch(line)) and match[1] in jumped:
            continue
        if line not in rules and not any(usual.fullmatch(line) for usual in _USUAL):
            kinds.setdefault(re.sub(r"\d+(\.\d+)?", "0", line), []).append(line)
    return [
        Finding(
            not any(chosen.fullmatch(lines[0]) for chosen in _CHOSEN),
            lines[0] + (f" (and {len(lines) - 1} more of the kind)" if len(lines) > 1 else ""),
        )
        for lines in kinds.values()
    ]


def _with_pauses(playback: Playback, *, are_timed: bool) -> list[str]:
    """Return lines, with silence told only if more volumes came after it: after the last of a run all is silent.

    Where nobody knows when files came, pauses between them are none.
    """
    lines: list[str] = []
    silent: dict[str, tuple[float, str]] = {}
    trs_s = {f"series {number}": series.tr_s for (number, _), series in playback.series.items()}
    for time_s, line in playback.told:
        if match := _SILENT.fullmatch(line):
            silent[match[1]] = time_s - SILENCE_TR * trs_s[match[1]], match[2]
        elif (match := _AGAIN.fullmatch(line)) and match[1] in silent:
            since_s, volume = silent.pop(match[1])
            if are_timed:
                lines.append(f"{match[1]}: no volume came for {time_s - since_s:.1f} s after volume {volume}")
        else:
            lines.append(line)
    return lines


def _of_times(times: ArrivalTimes) -> list[Finding]:
    return [Finding(times.is_burst, times.remark)] if times.remark else []


def _of_trials(report: RunReport) -> list[Finding]:
    """Compare trials with the volumes that came, where the files do not say how many are planned."""
    run, volumes = report.run, report.volumes
    if run.n_volumes is not None or volumes is None:
        return []  # what lies beyond the planned end is left out, and told, when the run begins
    n_used = volumes.n_whole + len(volumes.missing) - report.n_discarded
    try:
        _, note = cut_and_told(replace(run, n_volumes=n_used)) if n_used > 0 else (run, "")
    except InputError as error:
        return [Finding(True, str(error))]
    return [Finding(True, note)] if note else []


def _of_run(report: RunReport) -> list[Finding]:
    run, volumes, name = report.run, report.volumes, f"series {report.number}"
    findings = []
    if not report.n_sent and report.n_discarded:
        findings.append(Finding(True, f"{name}: all of its volumes would be discarded: nothing of it would be sent"))
    elif run.n_volumes is None:
        findings.append(
            Finding(
                False,
                f"{name}: its files do not say how many volumes are planned; give rtgod watch --volumes "
                f"{report.n_sent + report.n_discarded}, or as many as are planned, so that drift is modelled as in a "
                "replay",
            )
        )
    elif volumes is not None and volumes.n_whole + len(volumes.missing) < run.n_volumes + report.n_discarded:
        findings.append(
            Finding(False, f"{name}: {report.n_sent} of {run.n_volumes} planned volumes are there: was it stopped?")
        )
    if volumes is None:
        text = f"{name}: its volumes cannot be counted as those of a finished folder; rtgod replay says why"
        return [*findings, Finding(True, text)]
    if volumes.n_files < volumes.n_whole:
        text = (
            f"{name}: its {volumes.n_whole} volumes come in {number_of(volumes.n_files, 'file')}, and none before "
            "its file is whole: have the scanner export each volume, or slice, as it is reconstructed"
        )
        findings.append(Finding(True, text))
    if volumes.n_doubled:
        findings.append(Finding(False, f"{name}: {number_of(volumes.n_doubled, 'file')} came twice: taken once"))
    if volumes.clock_tr_s and abs(volumes.clock_tr_s - run.tr_s) > _CONTRADICTION * run.tr_s:
        text = (
            f"{name}: by the scanner's clock a volume is acquired every {volumes.clock_tr_s:.3g} s, and TR is "
            f"{run.tr_s:.3g} s: which is true?"
        )
        findings.append(Finding(True, text))
    late = [delay_s for _, delay_s in volumes.delays_s if delay_s > run.tr_s]
    if late:
        steady = max(late) - min(delay_s for _, delay_s in volumes.delays_s) < run.tr_s
        ask = "; all by about the same time, so do the clocks of scanner and files agree?" if steady else ""
        findings.append(
            Finding(
                True,
                f"{name}: {len(late)} of {number_of(len(volumes.delays_s), 'volume')} came more than a TR after the "
                f"end of their acquisition, at worst {max(late):.1f} s: feedback would be late{ask}",
            )
        )
    return findings


def _of_repeats(runs: Sequence[RunReport], playback: Playback) -> list[Finding]:
    """Name runs of one protocol that follow each other; of one series, they were named when it was restarted."""
    findings = []
    for before, after in pairwise(runs):
        first, second = (playback.keys[report.run.run_id][0] for report in (before, after))
        if first != second and playback.series[first].is_alike == playback.series[second].is_alike:
            text = (
                f"series {after.number} has the protocol of series {before.number}: the next run, or the same started "
                "again; each is sent as a run of its own"
            )
            findings.append(Finding(False, text))
    return findings
