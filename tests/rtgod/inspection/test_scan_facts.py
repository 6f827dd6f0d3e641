"""Facts of a header: shown where they read as what they should be, and left out where they may name a person."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import FileDataset

from rtgod.inspection.scan_facts import facts_of
from tests.rtgod.inspection.exports import mosaic
from tests.rtgod.sources.dicom.dicoms import PLANTED, enhanced, single_slice


@pytest.mark.parametrize(
    ("keyword", "attribute", "values"),
    [
        ("ManufacturerModelName", "model", ("TrioTim", "Prisma_fit", "MAGNETOM Prisma Fit", "Ingenia Elition X")),
        ("SequenceName", "sequence", ("*epfid2d1_64", "epiRT", "FEEPI")),
        ("ReceiveCoilName", "coil", ("HeadNeck_64", "48HP", "MULTI COIL")),
        ("SoftwareVersions", "software", ("syngo MR E11", "syngo MR XA30", "5.1.1.0", "VB17A")),
    ],
)
def test_what_vendors_write_is_shown_and_names_are_not(keyword, attribute, values):
    for value in values:
        assert value.startswith(getattr(facts_of(single_slice(1, 0, **{keyword: value})), attribute))
        assert getattr(facts_of(single_slice(1, 0, **{keyword: value})), attribute)
    for planted in (*PLANTED, "Dr. Jane Roe, ward 3 <b>", "19010203"):
        shown = getattr(facts_of(single_slice(1, 0, **{keyword: planted})), attribute)
        # The coil's name leaves the scanner as it is; see docs/scanners.md.
        assert shown in ("", planted if keyword == "ReceiveCoilName" else "")


@pytest.mark.parametrize("make", [lambda: mosaic(1), lambda: single_slice(1, 0), lambda: enhanced([1])])
def test_a_header_of_any_format_without_facts_is_read(make):
    facts = facts_of(make())
    assert facts.vendor in ("Siemens", "GE")
    assert facts.table_mm is None


@given(st.text(max_size=40), st.text(max_size=40))
def test_whatever_a_field_holds_nothing_but_its_kind_is_shown(model, software):
    header = FileDataset("", {})
    header.ManufacturerModelName, header.SoftwareVersions = model, software
    facts = facts_of(header)
    assert facts.model in (model.strip(), "")
    assert not set(facts.model + facts.software) & set("^<>&\x1b\n")
