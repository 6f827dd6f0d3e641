"""Files that are one acquisition in several forms are one run, or none is taken without asking."""

import json

import pytest

from calibration.datasets.acquisitions import choose_forms
from calibration.datasets.bids import search_runs
from calibration.datasets.run_patterns import RunPatterns
from calibration.datasets.runs import find_plain_runs
from rtgod.errors import InputError

RUNS = [f"sub-01_task-x_run-{n}" for n in (1, 2)]


def make(folder, names, **sidecar):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
        if sidecar:
            about = {key: value[name] for key, value in sidecar.items() if name in value}
            (folder / name.replace(".nii", ".json")).write_text(json.dumps(about))
    return [folder / name for name in names]


def choose(paths, *patterns):
    parsed = RunPatterns.parse(patterns)
    wanted = [path for path in paths if parsed.match(path.name)]
    return choose_forms(wanted, parsed, "--training", [path.name for path in paths])


@pytest.mark.parametrize(
    ("forms", "says"),
    [
        (["_echo-1", "_echo-2", "_echo-3"], r"run-1 is there as echo-1, echo-2, echo-3 .*one, --training echo-2$"),
        (["", "_rec-moco"], r"is there as the plain file, rec-moco .*, --training rec-moco$"),
        (["_rec-a_echo-1", "_echo-1", "_echo-2"], "--training echo-2$"),
        (["_space-MNI_desc-preproc", "_space-T1w_desc-preproc"], "choose one, --training space-T1w$"),
        (["_desc-preproc", "_desc-smooth"], "--training desc-smooth$"),
        (["_res-1", "_res-2"], "--training res-2$"),
        (["_chunk-1", "_chunk-2"], "--training chunk-2$"),
        (["_space-A_echo-1", "_space-B_echo-2", "_space-A_echo-2"], "--training"),
    ],
)  # fmt: skip
def test_several_forms_of_a_run_are_a_question_and_its_answer_works(tmp_path, forms, says):
    paths = make(tmp_path, [f"{run}{form}_bold.nii.gz" for run in RUNS for form in forms])
    with pytest.raises(InputError, match=says) as refused:
        choose(paths)
    answer = str(refused.value).rpartition(", --training ")[2].replace("'", "").split(" --training ")
    chosen = choose(paths, *answer)
    assert len(chosen.paths) == 2


def test_the_answer_keeps_to_what_was_asked_for(tmp_path):
    """Else the second echo of all sessions would be trained on, those of the test among them."""
    names = [f"sub-01_ses-{s}_run-1_echo-{e}_bold.nii.gz" for s in ("Training", "Test") for e in (1, 2)]
    paths = make(tmp_path, names)
    with pytest.raises(InputError, match=r"choose one, --training 'Training\*echo-2'$"):
        choose(paths, "Training")
    assert [path.name for path in choose(paths, "Training*echo-2").paths] == [names[1]]


@pytest.mark.parametrize("mark", ["part-phase", "part-real", "part-imag"])
def test_a_phase_image_is_never_a_run_of_magnitudes(tmp_path, mark):
    paths = make(tmp_path, [f"{RUNS[0]}_part-mag_bold.nii.gz", f"{RUNS[0]}_{mark}_bold.nii.gz"])
    chosen = choose(paths)
    assert [path.name for path in chosen.paths] == [f"{RUNS[0]}_part-mag_bold.nii.gz"]
    assert chosen.left_out == (f"{RUNS[0]}_{mark}_bold.nii.gz: no magnitudes but {mark}",)
    assert choose(paths, mark).paths == ()


def test_a_sidecar_says_that_an_image_is_one_of_phases(tmp_path):
    kinds = {"a.nii": ["ORIGINAL", "PRIMARY", "M"], "b.nii": ["ORIGINAL", "PRIMARY", "P"]}
    chosen = choose(make(tmp_path, ["a.nii", "b.nii"], ImageType=kinds))
    assert [path.name for path in chosen.paths] == ["a.nii"]
    assert chosen.left_out == ("b.nii: no magnitudes but p",)


def test_a_packed_and_an_unpacked_file_are_one_run(tmp_path):
    chosen = choose(make(tmp_path, ["a_bold.nii", "a_bold.nii.gz", "b_bold.nii"]))
    assert [path.name for path in chosen.paths] == ["a_bold.nii.gz", "b_bold.nii"]
    assert chosen.left_out == ("a_bold.nii: the same run is there as a_bold.nii.gz",)


@pytest.mark.parametrize(
    "names",
    [
        ["8_cmrr_Int_e1.nii", "8_cmrr_Int_e2.nii"],
        ["run1.nii", "rrun1.nii", "swrrun1.nii"],
        ["run1.nii", "run1_mcf.nii"],
        ["echo1/run.nii", "echo2/run.nii"],
        ["loc1_echo_1.nii", "loc1_echo_2.nii"],
        ["loc_1_echo1of3.nii", "loc_1_echo2of3.nii"],
        ["loc-run1-mag.nii", "loc-run1-magnitude.nii"],
        ["loc_run1_15ms.nii", "loc_run1_35ms.nii"],
        ["loc_run1.nii", "loc_run1_NORDIC.nii"],
        ["loc_run1.nii", "loc_run1_denoised.nii"],
        ["run1.nii", "run1_topup.nii"],
    ],
)
def test_other_names_for_forms_are_known(tmp_path, names):
    for name in names:
        make((tmp_path / name).parent, [(tmp_path / name).name])
    with pytest.raises(InputError, match="one acquisition is one run"):
        choose([tmp_path / name for name in names])


def test_a_p_beside_an_m_is_a_phase_and_words_of_a_task_are_none(tmp_path):
    chosen = choose(make(tmp_path, ["loc_run1_M.nii", "loc_run1_P.nii", "loc_run2_P.nii", "s1-imag-run1.nii"]))
    assert [path.name for path in chosen.paths] == ["loc_run1_M.nii", "loc_run2_P.nii", "s1-imag-run1.nii"]
    assert chosen.left_out == ("loc_run1_P.nii: no magnitudes but P",)


def test_runs_of_different_events_are_different_acquisitions(tmp_path):
    paths = make(tmp_path, ["loc_e1.nii", "loc_e2.nii"])
    parsed = RunPatterns.parse("")
    tables = dict(zip(paths, (b"a", b"b"), strict=True))
    assert choose_forms(paths, parsed, "--training", [], events_of=tables.get).paths == tuple(paths)
    with pytest.raises(InputError, match="one acquisition is one run"):
        choose_forms(paths, parsed, "--training", [], events_of=dict.fromkeys(paths, b"a").get)


def test_runs_that_are_only_called_like_echoes_stay_runs(tmp_path):
    names = ["subject_e1.nii", "subject_e2.nii"]
    assert len(choose(make(tmp_path, names, EchoTime=dict.fromkeys(names, 0.03))).paths) == 2
    times = {"subject_e1.nii": 0.013, "subject_e2.nii": 0.03}
    with pytest.raises(InputError, match="is there as e1, e2"):
        choose(make(tmp_path, names, EchoTime=times))


def test_what_was_acquired_at_one_time_is_one_run_whatever_it_is_called(tmp_path):
    names = ["series_5.nii", "series_6.nii", "series_7.nii"]
    times = {"series_5.nii": "10:20:30.123", "series_6.nii": "10:20:30.123", "series_7.nii": "10:31:00.500"}
    with pytest.raises(InputError, match=r"there as series_5.nii, series_6.nii: .*give the files themselves"):
        choose(make(tmp_path, names, AcquisitionTime=times))


@pytest.mark.parametrize(
    "names",
    [
        ["sub-01_task-x_acq-a_run-1_bold.nii", "sub-01_task-x_acq-b_run-1_bold.nii"],
        ["sub-01_task-x_dir-AP_bold.nii", "sub-01_task-x_dir-PA_bold.nii"],
        ["sub-01_task-mag_bold.nii", "sub-01_task-phase_bold.nii"],
        ["1.nii", "2.nii"],
        ["localizer_1.nii", "localizer_2.nii"],
    ],
)
def test_other_acquisitions_are_runs_of_their_own(tmp_path, names):
    chosen = choose(make(tmp_path, names))
    assert [path.name for path in chosen.paths] == names
    assert chosen.left_out == ()


# ---------------------------------------------------------------- where runs are looked for


def test_a_data_set_of_three_echoes_has_as_many_runs_as_it_has(tmp_path):
    folder = tmp_path / "sub-01" / "func"
    make(folder, [f"{run}_echo-{e}_bold.nii.gz" for run in RUNS for e in (1, 2, 3)])
    make(folder, [f"{run}_events.tsv" for run in RUNS])
    with pytest.raises(InputError, match="choose one, --training echo-2"):
        search_runs(tmp_path, "01", "")
    found = search_runs(tmp_path, "sub-01", "echo-2")
    assert [run.bold.name for run in found.runs] == [f"{run}_echo-2_bold.nii.gz" for run in RUNS]
    assert found.missing == ()  # the events were used: they are not without images


def test_of_several_echoes_the_one_that_was_downloaded_is_taken(tmp_path):
    folder = tmp_path / "sub-01" / "func"
    make(folder, [f"{RUNS[0]}_echo-2_bold.nii.gz", f"{RUNS[0]}_events.tsv"])
    (folder / f"{RUNS[0]}_echo-1_bold.nii.gz").symlink_to("nowhere")
    found = search_runs(tmp_path, "01", "")
    assert [run.bold.name for run in found.runs] == [f"{RUNS[0]}_echo-2_bold.nii.gz"]
    assert found.missing == (f"{RUNS[0]}_echo-1: images are a link to nothing; download them (datalad get)",)


def test_files_without_a_data_set_are_asked_about_as_well(tmp_path):
    paths = make(tmp_path, ["a_e1_bold.nii", "a_e2_bold.nii", "events.tsv"])
    with pytest.raises(InputError, match=r"a is there as e1, e2: .*choose one, --training e2"):
        find_plain_runs(paths[:2])
    with pytest.raises(InputError, match="a is there as e1, e2"):
        find_plain_runs([tmp_path])
    assert [run.bold.name for run in find_plain_runs([tmp_path], pattern="e2").runs] == ["a_e2_bold.nii"]
