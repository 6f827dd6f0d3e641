"""Bundles: back to the last bit, refused when anything is wrong, and complete or not there at all."""

import hashlib
import json
import pickle
from dataclasses import asdict, replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rtgod.bundle import DecoderBundle, settings_of, sha256_of
from rtgod.decoding.chances import Chances, Presence, Weight
from rtgod.decoding.decoder import DenseLayerDecoder, LayerDecoder, SparseLayerDecoder
from rtgod.decoding.standardisation import Standardisation
from rtgod.errors import BundleError, InputError
from rtgod.preprocessing.alignment import Reference
from rtgod.preprocessing.noise_model import NoiseComponents
from rtgod.preprocessing.preprocessor import Noise
from rtgod.settings import PipelineSettings, RankingSettings
from tests import small


def mixed():
    """A bundle with layers of either form."""
    made, sparse = small.bundle(), small.sparse_layer_decoder(6, small.N_VOXELS)
    dense = DenseLayerDecoder(small.normal(5, small.N_VOXELS, seed=3), small.normal(5), np.ones(5, np.float32))
    features = {"sparse": small.normal(small.N_CANDIDATES, 6), "dense": small.normal(small.N_CANDIDATES, 5)}
    return replace(
        made,
        layers={**made.layers, "sparse": sparse, "dense": dense},
        candidate_features={**made.candidate_features, **features},
    )


@pytest.fixture
def folder(tmp_path):
    mixed().save(tmp_path / "bundle")
    return tmp_path / "bundle"


def edit(folder, header=None, arrays=None):
    """Change a bundle's files and put the checksum right, as whoever wrote it wrongly would have done."""
    if arrays is not None:
        save_file(arrays(load_file(folder / "arrays.safetensors")), folder / "arrays.safetensors")
    path = folder / "bundle.json"
    content = json.loads(path.read_text()) | {"sha256": sha256_of(folder / "arrays.safetensors")}
    path.write_text(json.dumps(header(content) if header else content))


def refused(folder):
    with pytest.raises(BundleError) as caught:
        DecoderBundle.load(folder)
    assert str(folder) in str(caught.value)
    return str(caught.value)


def test_a_bundle_comes_back_to_the_last_bit(tmp_path):
    sent = replace(mixed(), provenance={"subject": "S1", "runs": [{"sha256": "ab"}], "penalty": 0.1})
    sent.save(tmp_path / "new" / "bundle")
    back = DecoderBundle.load(tmp_path / "new" / "bundle")
    ours, theirs = back._arrays(), sent._arrays()
    assert list(ours) == list(theirs)
    for key, array in theirs.items():
        assert (ours[key].dtype, ours[key].shape, ours[key].tobytes()) == (array.dtype, array.shape, array.tobytes()), (
            key
        )
    assert [(name, type(layer)) for name, layer in back.layers.items()] == [
        ("conv", LayerDecoder),
        ("fc", LayerDecoder),
        ("sparse", SparseLayerDecoder),
        ("dense", DenseLayerDecoder),
    ]
    assert (back.candidates, back.settings, back.provenance) == (sent.candidates, sent.settings, sent.provenance)
    assert hashlib.sha256((tmp_path / "new/bundle/arrays.safetensors").read_bytes()).hexdigest()[:12] == back.bundle_id
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["bundle"]


def test_arrays_of_any_layout_are_saved_as_their_values(tmp_path):
    sent = small.bundle()
    replace(sent, patterns=np.asfortranarray(sent.patterns)).save(tmp_path / "bundle")
    np.testing.assert_array_equal(DecoderBundle.load(tmp_path / "bundle").patterns, sent.patterns)


@pytest.mark.parametrize("position", [0, 8, 200, -1])
def test_one_changed_byte_of_the_arrays_is_seen(folder, position):
    content = bytearray((folder / "arrays.safetensors").read_bytes())
    content[position] ^= 1
    (folder / "arrays.safetensors").write_bytes(content)
    assert "checksum" in refused(folder)


def test_arrays_that_were_cut_short_are_seen(folder):
    content = (folder / "arrays.safetensors").read_bytes()
    (folder / "arrays.safetensors").write_bytes(content[:-1])
    assert "cut short" in refused(folder)


@pytest.mark.parametrize("name", ["bundle.json", "arrays.safetensors"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    message = refused(folder)
    assert name in message
    assert "cannot be read" in message


def test_a_missing_folder_says_what_makes_one(tmp_path):
    assert "rtgod calibrate" in refused(tmp_path / "absent")
    (tmp_path / "file").touch()
    assert "no such folder" in refused(tmp_path / "file")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 200_000, "not JSON"),
        (b"[]", "format"),
        (b"3", "format"),
        (b"{}", "format"),
        (b'{"rtgod_bundle": 1}', "format"),
        (b'{"rtgod_bundle": 3}', "checksum"),
        (b'{"rtgod_bundle": 3, "sha256": 7}', "checksum"),
        (pickle.dumps({"rtgod_bundle": 3}), "not JSON"),
    ],
    ids=lambda value: str(value[:20]),
)
def test_a_header_that_is_none_is_refused(folder, content, says):
    (folder / "bundle.json").write_bytes(content)
    assert says in refused(folder)


OTHER_KINDS = [None, 5, "text", ["text"], [[1, 2, 3]], {"unknown": 1}]


@pytest.mark.parametrize(
    ("key", "value"),
    [(key, value) for key in ("layers", "sparse", "dense", "candidates", "settings") for value in OTHER_KINDS]
    + [("provenance", value) for value in OTHER_KINDS[:-1]],
)
def test_a_header_field_of_another_kind_is_refused(folder, key, value):
    edit(folder, header=lambda header: header | {key: value})
    assert "do not fit together" in refused(folder)


@pytest.mark.parametrize("key", ["layers", "sparse", "dense", "candidates", "settings", "provenance"])
def test_a_missing_header_field_is_named(folder, key):
    edit(folder, header=lambda header: {k: v for k, v in header.items() if k != key})
    assert key in refused(folder)


def test_layers_that_the_arrays_do_not_have_are_refused(folder):
    edit(folder, header=lambda header: header | {"layers": ["conv", "fc", "fc9"]})
    assert "fc9/dual" in refused(folder)


ALL_ARRAYS = sorted(mixed()._arrays())


CHANGES = {
    "longer": lambda array: np.concatenate([array, array]),
    "narrower": lambda array: array[..., :-1],
    "deeper": lambda array: array[np.newaxis],
    "scalar": lambda array: array.ravel()[:1].reshape(()),
    "half": lambda array: array.astype("float16"),
}


@pytest.mark.parametrize(
    ("key", "change"),
    # A template may have any three sizes.
    [(k, c) for k in ALL_ARRAYS for c in CHANGES if (k, c) not in {("template", "longer"), ("template", "narrower")}],
)
def test_an_array_of_another_shape_or_type_is_refused(folder, key, change):
    edit(folder, arrays=lambda arrays: arrays | {key: np.ascontiguousarray(CHANGES[change](arrays[key]))})
    assert "do not fit together" in refused(folder)


@pytest.mark.parametrize("key", ALL_ARRAYS)
def test_a_missing_array_is_named(folder, key):
    edit(folder, arrays=lambda arrays: {k: v for k, v in arrays.items() if k != key})
    assert key in refused(folder)


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("starts", lambda starts: starts[::-1]),
        ("starts", lambda starts: starts + 1),
        ("starts", lambda starts: np.where(starts == starts[2], -1, starts)),
        ("starts", lambda starts: np.minimum(starts, starts[-2])),
        ("voxels", lambda voxels: voxels + small.N_VOXELS),
        ("voxels", lambda voxels: voxels - small.N_VOXELS),
    ],
)
def test_weights_of_voxels_that_there_are_not_are_refused(folder, key, values):
    """The kernel would read whatever lies there."""
    edit(folder, arrays=lambda a: a | {f"sparse/{key}": np.ascontiguousarray(values(a[f"sparse/{key}"]), np.int32)})
    assert f"sparse/{key}" in refused(folder)


def test_a_bundle_of_sparse_layers_alone_needs_no_patterns(tmp_path):
    made = mixed()
    replace(
        made,
        patterns=np.empty((0, small.N_VOXELS), np.float32),
        layers={"sparse": made.layers["sparse"]},
        candidate_features={"sparse": made.candidate_features["sparse"]},
    ).save(tmp_path / "bundle")
    pattern = small.normal(small.N_VOXELS)
    alone, beside_others = (b.decoder().decode(0, pattern) for b in (DecoderBundle.load(tmp_path / "bundle"), made))
    assert alone.layers["sparse"].tobytes() == beside_others.layers["sparse"].tobytes()


class Payload:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_loading_runs_no_code_from_the_files(folder, tmp_path):
    trace = tmp_path / "trace"
    payload = pickle.dumps(Payload(trace))
    (folder / "arrays.safetensors").write_bytes(payload)
    edit(folder)
    assert "do not fit together" in refused(folder)
    (folder / "bundle.json").write_bytes(payload)
    refused(folder)
    assert not trace.exists()
    pickle.loads(payload).close()  # noqa: S301 # it would have left its trace
    assert trace.exists()


# ---------------------------------------------------------------- complete or not at all


def test_a_folder_that_exists_is_left_as_it_is(folder):
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(BundleError, match="exists already"):
        replace(small.bundle(), provenance={}).save(folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match="cannot be written"):
        small.bundle().save(tmp_path / "file" / "bundle")


def test_nothing_half_written_stays_after_a_failure(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    unwritable = replace(small.bundle(), provenance={"when": object()})
    with pytest.raises(BundleError, match="cannot be written"):
        unwritable.save(tmp_path / "bundle")
    assert not list(tmp_path.iterdir())
    for place in ("rtgod.bundle.save_file", "pathlib.Path.write_text", "pathlib.Path.rename"):
        with monkeypatch.context() as patch:
            patch.setattr(place, full)
            with pytest.raises(BundleError, match="No space left"):
                small.bundle().save(tmp_path / "bundle")
        assert not list(tmp_path.iterdir()), place


# ---------------------------------------------------------------- what is made of it


def indexed(**ranking):
    return small.bundle(PipelineSettings(ranking=RankingSettings(**ranking))).category_index()


def test_the_settings_choose_the_layers_that_are_ranked():
    features = small.bundle().decoder().decode(0, np.linspace(-1, 1, small.N_VOXELS, dtype=np.float32))
    chosen = [(), ("conv",), ("fc",)]
    both, conv, fc = (indexed(layers=layers).correlations(features) for layers in chosen)
    np.testing.assert_array_equal(both, np.concatenate([conv, fc]))
    with pytest.raises(InputError, match="fc9"):
        indexed(layers=("conv", "fc9"))


def test_the_settings_choose_the_candidates_that_are_ranked():
    """By their ids; the order still names their positions among all."""
    features = small.bundle().decoder().decode(0, np.linspace(-1, 1, small.N_VOXELS, dtype=np.float32))
    everything, some = indexed(), indexed(candidates=("n00000005", "n00000001", "n00000004"))
    assert (some.n_candidates, list(some.positions)) == (3, [1, 4, 5])
    order, scores = everything.rank(features)
    among = np.isin(order, [1, 4, 5])
    for ours, theirs in zip(some.rank(features), (order[among], scores[among]), strict=True):
        assert (ours.dtype, ours.tobytes()) == (theirs.dtype, theirs.tobytes())
    with pytest.raises(InputError, match="candidates: n7, n8 not among the 7 candidates"):
        indexed(candidates=("n00000001", "n8", "n7"))
    with pytest.raises(InputError, match="and 90 more"):
        indexed(candidates=tuple(map(str, range(100))))


def test_weights_of_layers_come_from_the_bundle(tmp_path):
    settings = PipelineSettings(ranking=RankingSettings(combine="weighted"))
    sent = replace(small.bundle(settings), layer_weights={"fc": 0.75, "conv": 0.25})
    sent.save(tmp_path / "bundle")
    back = DecoderBundle.load(tmp_path / "bundle")
    assert back.layer_weights == sent.layer_weights
    features = back.decoder().decode(0, np.linspace(-1, 1, small.N_VOXELS, dtype=np.float32))
    z = np.arctanh(back.category_index().correlations(features))
    np.testing.assert_allclose(back.category_index().scores(features), 0.25 * z[0] + 0.75 * z[1], rtol=1e-5)
    only_fc = replace(back, layer_weights={"fc": 1.0}).category_index()
    np.testing.assert_allclose(only_fc.scores(features), z[1], rtol=1e-5)
    for weights in (None, {}, {"conv": 0.0}):
        with pytest.raises(InputError, match="no weights were learned"):
            replace(back, layer_weights=weights).category_index()


def test_a_standardisation_comes_back_and_without_one_scores_are_as_before(tmp_path):
    n = small.N_CANDIDATES
    made = Standardisation(np.linspace(-0.1, 0.1, n, dtype=np.float32), np.linspace(0.5, 2, n, dtype=np.float32))
    ranking = small.SETTINGS.ranking.model_copy(update={"standardise": True})
    settings = small.SETTINGS.model_copy(update={"ranking": ranking})
    replace(small.bundle(), standardisation=made, settings=settings).save(tmp_path / "bundle")
    back = DecoderBundle.load(tmp_path / "bundle")
    features = back.decoder().decode(0, np.linspace(-1, 1, small.N_VOXELS, dtype=np.float32))
    plain = small.bundle().category_index().scores(features)
    scores = back.category_index().scores(features)
    assert scores.tobytes() == ((plain - made.offset) * made.scale).tobytes()
    # A bundle of an older version has neither the arrays nor the setting.
    small.bundle().save(tmp_path / "older")
    header = json.loads((tmp_path / "older" / "bundle.json").read_text())
    del header["settings"]["ranking"]["standardise"]
    (tmp_path / "older" / "bundle.json").write_text(json.dumps(header))
    older = DecoderBundle.load(tmp_path / "older")
    assert (older.standardisation, older.settings.ranking.standardise) == (None, False)
    assert older.category_index().scores(features).tobytes() == plain.tobytes()
    short = Standardisation(made.offset[1:], made.scale[1:])
    replace(small.bundle(), standardisation=short).save(tmp_path / "short")
    with pytest.raises(BundleError, match="ranking/offset is float32 of shape"):
        DecoderBundle.load(tmp_path / "short")


def test_a_confidence_comes_back(tmp_path):
    replace(small.bundle(), confidence=small.CONFIDENCE).save(tmp_path / "bundle")
    assert DecoderBundle.load(tmp_path / "bundle").confidence == small.CONFIDENCE


def test_chances_and_plain_categories_come_back(tmp_path):
    chances = Chances(("n00000001",), (Weight(1.0, 0.5, 0.0), None), (0.5, 0.1), (1, 9), (2, 7))
    units = {"category": small.N_CANDIDATES}
    chances = replace(chances, presence=Presence(1.0, 2.0, 0.0, 0.1, (-0.5, 1.5)))
    made = replace(small.bundle(n_units=units), chances=chances, plain_categories=True)
    made = replace(made, response=np.linspace(0, 1, len(made.voxel_sd), dtype=np.float32))
    made.save(tmp_path / "bundle")
    back = DecoderBundle.load(tmp_path / "bundle")
    assert (back.chances, back.plain_categories) == (chances, True)
    np.testing.assert_array_equal(back.response, made.response)
    # Plain categories are a unit each.
    edit(tmp_path / "bundle", header=lambda header: header | {"candidates": header["candidates"][1:]})
    with pytest.raises(BundleError, match="fit together"):
        DecoderBundle.load(tmp_path / "bundle")


def test_a_bundle_from_before_chances_is_as_it_was(folder):
    edit(folder, header=lambda header: {k: header[k] for k in header if k not in ("chances", "plain_categories")})
    bundle = DecoderBundle.load(folder)
    assert (bundle.chances, bundle.plain_categories, bundle.response) == (None, False, None)


def test_a_bundle_from_before_crosstalk_was_limited_has_no_limit_and_others_keep_theirs(folder):
    assert DecoderBundle.load(folder).settings == settings_of(folder)
    assert settings_of(folder).response.most_crosstalk < 1

    def of_before(header):
        response = {k: v for k, v in header["settings"]["response"].items() if k != "most_crosstalk"}
        return header | {"settings": header["settings"] | {"response": response | {"sd": 1.0}}}

    edit(folder, header=of_before)
    for settings in (DecoderBundle.load(folder).settings, settings_of(folder)):
        assert settings.response.most_crosstalk > 1e300
        assert settings.response.sd == 1.0
    again = folder.with_name("again")
    DecoderBundle.load(folder).save(again)
    assert DecoderBundle.load(again).settings == settings_of(folder)


@pytest.mark.parametrize(
    ("n_most", "candidates", "search"),
    [(7, (), "exact"), (6, (), "shortlist"), (2, ("n00000001", "n00000005", "n00000001"), "exact")],
)
def test_a_bundle_from_before_the_search_was_a_setting_is_searched_by_the_number_of_candidates(
    folder, monkeypatch, n_most, candidates, search
):
    assert DecoderBundle.load(folder).settings.ranking.search == "auto"

    def of_before(header):
        ranking = {k: v for k, v in header["settings"]["ranking"].items() if k not in ("search", "exact_up_to_mb")}
        return header | {"settings": header["settings"] | {"ranking": ranking | {"candidates": candidates}}}

    edit(folder, header=of_before)
    monkeypatch.setattr("rtgod.bundle._EXACT_UP_TO", n_most)
    for settings in (DecoderBundle.load(folder).settings, settings_of(folder)):
        assert (settings.ranking.search, settings.ranking.candidates) == (search, candidates)


def test_a_bundle_from_before_delays_has_none(folder):
    def of_before(header):
        response = {k: v for k, v in header["settings"]["response"].items() if k != "delay_s"}
        return header | {"settings": header["settings"] | {"response": response}}

    assert "delay_s" in json.loads((folder / "bundle.json").read_text())["settings"]["response"]
    edit(folder, header=of_before)
    assert DecoderBundle.load(folder).settings == small.SETTINGS


def test_repeats_of_a_bundle_from_before_they_were_weighted_count_equally(folder):
    assert settings_of(folder).window.weigh_repeats == "by_volumes"

    def of_before(header):
        window = {k: v for k, v in header["settings"]["window"].items() if k != "weigh_repeats"}
        return header | {"settings": header["settings"] | {"window": window}}

    edit(folder, header=of_before)
    for settings in (DecoderBundle.load(folder).settings, settings_of(folder)):
        assert settings.window.weigh_repeats == "equally"


@pytest.mark.parametrize("presence", [None, Presence(0.0, 1.0, 0.0, 0.0, (-1.0, 1.0))])
def test_a_bundle_tells_each_category_s_chance_of_a_ranking(presence):
    made = small.bundle()
    ids, n = [candidate.category_id for candidate in made.candidates], len(made.candidates)
    chances = Chances(tuple(ids), (Weight(1.0, 0.5, 0.0), None), (0.0, 0.0), (1, 9), (2, 7), presence, 0.5, 3.0)
    made = replace(made, chances=chances)
    scores = np.linspace(1, 0, n).astype(np.float32)
    order = np.arange(n, dtype=np.int32)[::-1].copy()
    said = made.judge.of_ranking(order, scores, n, 20, 3, response=0.3)
    ranking = replace(small.RANKING, order=order, scores=scores, n_volumes=20, n_blocks=3, probability=said)
    posterior = made.posterior(ranking)
    assert posterior.sum() == pytest.approx(1)
    np.testing.assert_allclose([posterior[:k].sum() for k in (1, 5)], said[:2], rtol=1e-6)
    assert made.posterior(replace(ranking, probability=None)) is None
    assert replace(made, chances=None).posterior(ranking) is None


def test_a_bundle_from_before_weights_and_confidence_can_be_read(folder):
    edit(folder, header=lambda header: {k: header[k] for k in header if k not in ("layer_weights", "confidence")})
    bundle = DecoderBundle.load(folder)
    assert (bundle.layer_weights, bundle.confidence) == (None, None)


@pytest.mark.parametrize(
    "change",
    [
        {"layer_weights": {"fc9": 1.0}},
        {"layer_weights": {"fc": -1.0}},
        {"layer_weights": [1.0, 0.0]},
        {"confidence": {"mean": [0.0]}},
        {"confidence": asdict(small.CONFIDENCE) | {"intercepts": [0, 0]}},
        {"confidence": asdict(small.CONFIDENCE) | {"sd": [0.0]}},
        {"confidence": 3},
        {"chances": 3},
        {"chances": {"trained": ["a"], "weights": [None], "head_start": [0, 0]}},
        {"plain_categories": "perhaps"},
    ],
)
def test_weights_and_confidences_that_are_none_are_refused(folder, change):
    edit(folder, header=lambda header: header | change)
    assert "do not fit together" in refused(folder)


def test_a_template_may_be_of_any_size(tmp_path):
    sent = small.bundle()
    template = np.zeros((3, 4, 5), np.float32)
    replace(sent, reference=Reference(template, sent.reference.affine, sent.reference.voxels)).save(tmp_path / "b")
    assert DecoderBundle.load(tmp_path / "b").reference.template.shape == (3, 4, 5)


def with_courses():
    """A bundle that reads two noise components from five voxels."""
    courses = NoiseComponents(np.arange(15, dtype=np.int32).reshape(5, 3), np.ones((2, 5), np.float32))
    settings = variant(small.SETTINGS, n_components=2)
    return replace(small.bundle(settings), noise=Noise(small.NOISE, courses))


def variant(settings, **nuisance):
    return settings.model_copy(update={"nuisance": settings.nuisance.model_copy(update=nuisance)})


@pytest.mark.parametrize(
    "noise", [Noise(), Noise(shape=small.NOISE), with_courses().noise], ids=["none", "shape", "both"]
)
def test_what_is_known_of_the_noise_comes_back(tmp_path, noise):
    settings = variant(small.SETTINGS, n_components=2 if noise.courses else 0)
    replace(small.bundle(settings), noise=noise).save(tmp_path / "bundle")
    back = DecoderBundle.load(tmp_path / "bundle").noise
    for part in ("shape", "courses"):
        ours, theirs = getattr(back, part), getattr(noise, part)
        assert (ours is None) == (theirs is None)
        for name in getattr(theirs, "__slots__", ()):
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))


def test_components_that_the_settings_ask_for_must_be_there(tmp_path):
    small.bundle(variant(small.SETTINGS, n_components=2)).save(tmp_path / "none")
    assert "ask for 2 noise components, and there are none" in refused(tmp_path / "none")
    replace(with_courses(), settings=variant(small.SETTINGS, n_components=3)).save(tmp_path / "others")
    assert "noise/loadings" in refused(tmp_path / "others")
