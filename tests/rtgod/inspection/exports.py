"""Finished exports for the check before a scan: files whose last changes are when they arrived."""

import os
from datetime import datetime, timedelta

from rtgod.inspection.listing import listed
from rtgod.inspection.playback import played
from rtgod.inspection.report import report_of
from rtgod.receivers.run_options import RunOptions
from tests.rtgod.sources.dicom import test_siemens_mosaic as test_mosaic
from tests.rtgod.sources.dicom.dicoms import N_Z, TR_S, enhanced, save, single_slice

DAY = "20260105"
START = datetime(2026, 1, 5, 10, 0, 0)  # as the scanner's clock and this machine's, without a zone
DELAY_S = 0.4
N_VOLUMES = 12


def clock(number):
    """When volume `number`, from 1, begins: as a scanner writes it."""
    return (START + timedelta(seconds=(number - 1) * TR_S)).strftime("%H%M%S.%f")


def arrived_s(number, delay_s=DELAY_S):
    """So long after the end of a volume's acquisition."""
    return (START + timedelta(seconds=number * TR_S + delay_s)).timestamp()


def arrive(path, number, delay_s=DELAY_S):
    """Set a file's last change to when it arrived."""
    os.utime(path, (arrived_s(number, delay_s),) * 2)
    return path


def mosaic(number, **changes):
    return test_mosaic.dicom(number, **{"AcquisitionDate": DAY, "AcquisitionTime": clock(number)} | changes)


def mosaics(folder, numbers=range(1, N_VOLUMES + 1), delay_s=lambda _: DELAY_S, **changes):
    """An export of mosaics, one file a volume."""
    for number in numbers:
        name = f"{number * 31 % 97:03d}-{changes.get('SeriesNumber', 7)}.dcm"
        arrive(save(mosaic(number, **changes), folder / name), number, delay_s(number))
    return folder


def slices(folder, numbers=range(1, N_VOLUMES + 1)):
    for number in numbers:
        for z in range(N_Z):
            path = save(single_slice(number, z, AcquisitionDate=DAY), folder / f"{number * N_Z + z}.dcm")
            arrive(path, number, DELAY_S + z / 100)
    return folder


def enhanced_files(folder, numbers=range(1, N_VOLUMES + 1)):
    for number in numbers:
        arrive(save(enhanced([number], AcquisitionDateTime=DAY + clock(number)), folder / f"{number}.dcm"), number)
    return folder


def interoperability(folder, numbers=range(1, N_VOLUMES + 1)):
    """Each volume a series of its own."""
    for number in numbers:
        own = {"SeriesNumber": 100 + number, "SeriesInstanceUID": f"1.2.3.{number}", "InstanceNumber": 1}
        own |= {"AcquisitionDateTime": DAY + clock(number), "AcquisitionNumber": 1}
        dataset = enhanced([number], temporal=False, **own)
        arrive(save(dataset, folder / f"{number}.dcm"), number)
    return folder


def checked(folder, **options):
    """The report on a folder."""
    listing = listed(folder)
    return report_of(played(listing, RunOptions(**{"n_volumes": N_VOLUMES} | options)), listing.times)


def first(report):
    return [finding.text for finding in report.findings if finding.is_first]


def known(report):
    return [finding.text for finding in report.findings if not finding.is_first]
