import io
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from calibration.features.extractor import FeatureExtractor, category_means, compute, make_preprocess
from calibration.features.network import ALEXNET_LAYERS, Network, Preprocessing
from calibration.features.torchvision_import import import_torchvision
from calibration.features.weights import checksum, load_model, published_preprocessing
from rtgod.errors import InputError

SMALL = "squeezenet1_1"
NODES = {"early": "features.0", "middle": "features.6", "late": "classifier.1"}
ALL = 10**9


def images(n=3, seed=0, size=48):
    rng = np.random.default_rng(seed)
    return [
        np.kron(rng.integers(0, 256, (6, 6, 3)), np.ones((size // 6, size // 6, 1))).astype(np.uint8) for _ in range(n)
    ]


def png(image, mode="RGB", fmt="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(image).convert(mode).save(buffer, fmt)
    return buffer.getvalue()


def network(weights="random:0", layers=None, n_units=50, **changes):
    return Network(name=SMALL, weights=weights, layers=layers or NODES, n_units=n_units, **changes)


def hooked(model, nodes, pictures, transforms):
    """What plain forward hooks see, copied before anything can overwrite it: node to (n_images, n_units)."""
    seen = {}
    for node in nodes:
        model.get_submodule(node).register_forward_hook(
            lambda _, __, output, node=node: seen.__setitem__(node, output.clone().flatten(1).numpy())
        )
    with torch.inference_mode():
        model.eval()(torch.stack([transforms(torch.from_numpy(p.transpose(2, 0, 1).copy())) for p in pictures]))
    return seen


@pytest.fixture(scope="module")
def extractor():
    return FeatureExtractor(network())


# ---------------------------------------------------------------- values and units


def test_alexnet_s_layers_are_what_hooks_see_before_rectification():
    torchvision = import_torchvision()
    every = Network(weights="random:0", n_units=ALL)
    with torch.device("meta"):
        plain = torchvision.models.alexnet()  # with its in-place rectifications
    plain.load_state_dict(load_model(every).state_dict(), assign=True)
    transforms = torchvision.models.AlexNet_Weights.DEFAULT.transforms(antialias=True)
    pictures = images(2)
    expected = hooked(plain, ALEXNET_LAYERS.values(), pictures, transforms)
    found = FeatureExtractor(every).extract(pictures)
    assert [values.shape[1] for values in found.values()] == [
        64 * 55 * 55, 192 * 27 * 27, 384 * 13 * 13, 256 * 13 * 13, 256 * 13 * 13, 4096, 4096, 1000,
    ]  # fmt: skip
    for layer, node in ALEXNET_LAYERS.items():
        assert found[layer].min() < 0
        # All units are asked for, in a random order.
        scale = np.abs(expected[node]).max()
        np.testing.assert_allclose(np.sort(found[layer]), np.sort(expected[node]), atol=1e-5 * scale)


def test_one_permutation_per_layer_chooses_the_units(extractor):
    pictures = images(1)
    every = FeatureExtractor(network(n_units=ALL)).extract(pictures)
    for layer, values in extractor.extract(pictures).items():
        np.testing.assert_array_equal(values, every[layer][:, :50])
        assert len(np.unique(every[layer])) > 1000


def test_units_do_not_depend_on_which_other_layers_are_asked_for_or_on_names(extractor):
    pictures = images()
    alone = FeatureExtractor(network(layers={"renamed": NODES["middle"]})).extract(pictures)
    np.testing.assert_array_equal(alone["renamed"], extractor.extract(pictures)["middle"])


def test_another_seed_chooses_other_units(extractor):
    pictures = images(1)
    other = FeatureExtractor(network(units_seed=1)).extract(pictures)
    for layer, values in extractor.extract(pictures).items():
        assert set(values[0]) != set(other[layer][0])


def test_a_layer_with_fewer_units_keeps_them_all():
    found = FeatureExtractor(network(layers={"low": "features.3.squeeze", "out": "flatten"}, n_units=2000))
    assert {k: v.shape for k, v in found.extract(images(1)).items()} == {"low": (1, 2000), "out": (1, 1000)}


def test_order_batches_and_files_make_no_difference(extractor, tmp_path, monkeypatch):
    monkeypatch.setattr("calibration.features.extractor._PASS", 4)
    pictures = images(7)
    paths = [tmp_path / f"{i}.png" for i in range(7)]
    for path, picture in zip(paths, pictures, strict=True):
        path.write_bytes(png(picture))
    done = []
    found = extractor.extract(paths, done.append)
    assert done == [4, 3]
    backwards = extractor.extract(pictures[::-1])
    for layer, values in found.items():
        assert values.shape == (7, 50)
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, backwards[layer][::-1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
def test_other_kinds_of_pictures_are_read_as_colours(extractor, tmp_path, mode):
    (tmp_path / "picture.png").write_bytes(png(images(1)[0], mode))
    with Image.open(tmp_path / "picture.png") as opened:
        expected = np.asarray(opened.convert("RGB"))
    found, expected = extractor.extract([tmp_path / "picture.png"]), extractor.extract([expected])
    for layer, values in found.items():
        np.testing.assert_array_equal(values, expected[layer])


def test_random_weights_neither_fade_nor_explode_on_the_way_up(extractor):
    again, other = (FeatureExtractor(network(weights)).extract(images()) for weights in ("random:0", "random:1"))
    for layer, values in extractor.extract(images()).items():
        assert again[layer].tobytes() == values.tobytes() != other[layer].tobytes()
        assert np.isfinite(values).all()
        assert 0.01 < values.std() < 100


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        (network(layers={"a": "features.99"}), "'features.99' is not present"),
        (network(layers={"a": "features.0", "b": "features.0"}), "none of them twice"),
        (Network(name=SMALL, weights="random:0", layers={}), "name at least one node"),
    ],
)
def test_nodes_that_are_not_there_are_refused(wrong, what):
    with pytest.raises(InputError, match=what) as refused:
        FeatureExtractor(wrong)
    assert "\n" not in str(refused.value)


def test_the_extractor_says_what_it_computes(extractor):
    assert extractor.precision == "float32"
    assert extractor.network.weights_sha256 == checksum(load_model(network()))
    assert {layer: len(set(units)) for layer, units in extractor.units.items()} == dict.fromkeys(NODES, 50)
    every = FeatureExtractor(network(n_units=ALL))
    whole, some = every.extract(images(1)), extractor.extract(images(1))
    for layer, units in extractor.units.items():
        in_order = np.empty_like(whole[layer])
        in_order[:, every.units[layer]] = whole[layer]
        np.testing.assert_array_equal(some[layer], in_order[:, units])


# ---------------------------------------------------------------- preprocessing


def test_published_preprocessing_is_torchvision_s_own():
    weights = import_torchvision().models.Swin_T_Weights.DEFAULT  # of its own size, and bicubic
    (picture,) = images(1, size=300)
    ours = make_preprocess(published_preprocessing(Network(name="swin_t")))(picture)
    theirs = weights.transforms(antialias=True)(torch.from_numpy(picture.transpose(2, 0, 1).copy()))
    assert torch.equal(ours, theirs)


def test_preprocessing_as_published_for_caffe():
    """Blue first, from 0 to 255, less the mean of each channel: written out in numpy."""
    settings = Preprocessing(
        resize_px=48, crop_px=20, channels="BGR", brightest=255, mean=(104, 117, 123), sd=(1, 1, 2)
    )
    (picture,) = images(1)
    middle = picture[14:34, 14:34, ::-1].transpose(2, 0, 1).astype(np.float32)
    expected = (middle - np.array([104, 117, 123])[:, None, None]) / np.array([1, 1, 2])[:, None, None]
    np.testing.assert_array_equal(make_preprocess(settings)(picture).numpy(), expected.astype(np.float32))


# ---------------------------------------------------------------- batches


def sent(what):
    return pickle.loads(pickle.dumps(what))  # noqa: S301 # our own


def test_a_batch_computed_elsewhere_is_as_computed_here(extractor, tmp_path):
    """Sent as it would be to another process; what cannot be read is said, and the rest is as without it."""
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path, picture in zip(paths, images(3), strict=True):
        path.write_bytes(png(picture))
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not a picture")
    work, *arguments = sent((compute, extractor.network, [*paths[:2], broken, paths[2]]))
    found = sent(work(*arguments))
    assert [bool(problem) for problem in found.problems] == [False, False, True, False]
    assert "broken.png: cannot be read" in found.problems[2]
    for layer, values in extractor.extract(paths).items():
        assert np.isnan(found.values[layer][2]).all()
        assert found.values[layer][[0, 1, 3]].tobytes() == values.tobytes()


def test_a_batch_of_images_that_cannot_be_read_is_nothing_but_nan(extractor, tmp_path):
    found = extractor.compute([tmp_path / "a.png", tmp_path / "b.png"])
    assert all(found.problems)
    assert all(values.shape == (2, 50) and np.isnan(values).all() for values in found.values.values())


def test_a_process_with_other_weights_is_refused(extractor):
    with pytest.raises(InputError, match="have the checksum"):
        compute(extractor.network.model_copy(update={"weights": "random:1"}), [])


def test_on_a_gpu_the_network_computes_in_mixed_precision(monkeypatch):
    """There is none here: what would be sent to it stays on the CPU, in its own reduced precision."""
    on_cpu = FeatureExtractor(network()).extract(images())
    autocast = torch.autocast
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.device", lambda kind: SimpleNamespace(type=kind))
    monkeypatch.setattr("torch.nn.Module.to", lambda module, _: module)
    monkeypatch.setattr("torch.Tensor.to", lambda tensor, _: tensor)
    monkeypatch.setattr("torch.autocast", lambda *_: autocast("cpu", torch.bfloat16))
    mixed = FeatureExtractor(network())
    assert mixed.precision == "mixed float16"
    for layer, values in mixed.extract(images()).items():
        assert values.dtype == np.float32
        assert not np.array_equal(values, on_cpu[layer])
        np.testing.assert_allclose(values, on_cpu[layer], atol=0.05 * np.abs(on_cpu[layer]).max())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that CUDA can use")
def test_features_from_a_gpu_are_the_cpu_s_but_for_half_precision():
    extractor = FeatureExtractor(network())
    assert extractor.precision == "mixed float16"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("torch.cuda.is_available", lambda: False)
        on_cpu = FeatureExtractor(network()).extract(images())
    for layer, values in extractor.extract(images()).items():
        np.testing.assert_allclose(values, on_cpu[layer], atol=0.02 * np.abs(on_cpu[layer]).max())


# ---------------------------------------------------------------- images


def broken_chunk():
    whole = bytearray(png(images(1)[0]))
    whole[whole.index(b"IDAT") + 6 :] = b"\xe3" * 40
    return bytes(whole)


def huge_bmp():
    whole = bytearray(png(images(1)[0], fmt="BMP"))
    whole[18:26] = (60_000).to_bytes(4, "little") * 2
    return bytes(whole)


@pytest.mark.parametrize(
    "content",
    [b"", b"not a picture", png(images(1)[0])[:60], png(images(1)[0])[:-40], png(images(1)[0], fmt="JPEG")[:300],
     broken_chunk(), huge_bmp()],
    ids=["empty", "text", "header only", "cut short", "cut JPEG", "broken chunk", "a bomb"],
)  # fmt: skip
def test_an_image_that_cannot_be_read_is_named(extractor, tmp_path, content):
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(InputError, match=r"bad.png: cannot be read .*; replace or remove it") as refused:
        extractor.extract([tmp_path / "bad.png"])
    assert "\n" not in str(refused.value)


def test_an_image_that_is_not_there_is_named(extractor, tmp_path):
    with pytest.raises(InputError, match=r"none.png: cannot be read"):
        extractor.extract([tmp_path / "none.png"])


# ---------------------------------------------------------------- categories


def test_category_means_are_the_means_of_their_images():
    rng = np.random.default_rng(0)
    features = {"a": rng.normal(5, 2, (7, 3)).astype(np.float32), "b": rng.normal(0, 1, (7, 5)).astype(np.float32)}
    labels = ["dog", "cat", "dog", "owl", "cat", "dog", "dog"]
    names, means = category_means(features, labels)
    assert names == ["dog", "cat", "owl"]
    for layer, values in features.items():
        assert means[layer].dtype == np.float32
        for name, mean in zip(names, means[layer], strict=True):
            np.testing.assert_allclose(
                mean, np.mean([v for v, k in zip(values, labels, strict=True) if k == name], 0), rtol=1e-6
            )
