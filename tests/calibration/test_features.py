import io

import numpy as np
import pytest
import torch
from PIL import Image

from calibration import torchvision_import
from calibration.features import FeatureExtractor, category_means
from calibration.network import ALEXNET_LAYERS, Network
from calibration.torchvision_import import import_torchvision
from calibration.weights import load_model
from rtgod.errors import InputError, MissingDependencyError

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
    plain = torchvision.models.alexnet()  # with its in-place rectifications
    plain.load_state_dict(load_model(every).state_dict())
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
    monkeypatch.setattr("calibration.features._PASS", 4)
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


# ---------------------------------------------------------------- weights


def test_random_weights_are_the_seed_s_and_leave_torch_s_own_state_alone(extractor):
    before = torch.random.get_rng_state()
    again, other = (FeatureExtractor(network(weights)).extract(images()) for weights in ("random:0", "random:1"))
    assert torch.equal(torch.random.get_rng_state(), before)
    for layer, values in extractor.extract(images()).items():
        assert again[layer].tobytes() == values.tobytes() != other[layer].tobytes()
        assert np.isfinite(values).all()
        assert 0.01 < values.std() < 100  # neither fades nor explodes on the way up


def test_real_pretrained_weights_load_from_a_local_file(shared_data):
    path = shared_data / "networks" / "squeezenet1_1_torchvision_keys.npz"
    found = FeatureExtractor(network(str(path), n_units=ALL)).extract(images())
    torchvision = import_torchvision()
    plain = torchvision.models.squeezenet1_1()
    with np.load(path) as arrays:
        plain.load_state_dict({key: torch.from_numpy(arrays[key].astype(np.float32)) for key in arrays.files})
    transforms = torchvision.models.SqueezeNet1_1_Weights.DEFAULT.transforms(antialias=True)
    for node, values in hooked(plain, NODES.values(), images(), transforms).items():
        layer = next(name for name in NODES if NODES[name] == node)
        np.testing.assert_allclose(np.sort(found[layer]), np.sort(values), rtol=1e-4, atol=1e-3)


@pytest.fixture(scope="module")
def state():
    with torch.random.fork_rng(devices=[]):
        return import_torchvision().models.squeezenet1_1().state_dict()


@pytest.mark.parametrize("suffix", ["pt", "pth", "safetensors", "npz"])
def test_every_kind_of_weights_file_gives_the_same_features(state, tmp_path, suffix):
    from safetensors.torch import save_file

    torch.save(state, tmp_path / "reference.pt")
    path = tmp_path / f"weights.{suffix}"
    match suffix:
        case "npz":
            np.savez(path, **{key: tensor.numpy() for key, tensor in state.items()})
        case "safetensors":
            save_file(state, path)
        case _:
            torch.save(state, path)
    expected = FeatureExtractor(network(str(tmp_path / "reference.pt"))).extract(images(1))
    for layer, values in FeatureExtractor(network(str(path))).extract(images(1)).items():
        np.testing.assert_array_equal(values, expected[layer])


class RunsCode:
    def __reduce__(self):
        return (print, ("code from a weights file ran",))


def other_network(path, state):
    torch.save({"conv.weight": torch.zeros(3)} | {k: v for k, v in state.items() if "3" in k}, path)


BROKEN = {
    "garbage.pt": (lambda path, _: path.write_bytes(b"garbage" * 99), "cannot be read as a state dictionary"),
    "garbage.npz": (lambda path, _: path.write_bytes(b"garbage" * 99), "cannot be read as a state dictionary"),
    "garbage.safetensors": (lambda path, _: path.write_bytes(b"garbage" * 99), "cannot be read as a state dictionary"),
    "empty.pt": (lambda path, _: path.touch(), "cannot be read as a state dictionary"),
    "folder.pt": (lambda path, _: path.mkdir(), "cannot be read as a state dictionary"),
    "code.pt": (lambda path, _: torch.save({"a": RunsCode()}, path), "cannot be read as a state dictionary"),
    "objects.npz": (lambda path, _: np.savez(path, a=np.array([{}])), "cannot be read as a state dictionary"),
    "tensor.pt": (lambda path, _: torch.save(torch.zeros(3), path), "not those of squeezenet1_1"),
    "other.pt": (other_network, "not those of squeezenet1_1"),
    "nested.pt": (lambda path, state: torch.save({"state_dict": state}, path), "not those of squeezenet1_1"),
    "missing.pt": (lambda *_: None, "no such file; give default, random:SEED or a file"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_weights_that_cannot_be_used_are_refused_in_one_line(name, state, tmp_path, capsys):
    write, what = BROKEN[name]
    write(tmp_path / name, state)
    with pytest.raises(InputError, match=what) as refused:
        FeatureExtractor(network(str(tmp_path / name)))
    message = str(refused.value)
    assert name in message
    assert "\n" not in message
    assert len(message) < 300 + len(str(tmp_path))
    assert "code" not in capsys.readouterr().out


def test_a_truncated_weights_file_is_refused(shared_data, tmp_path):
    whole = (shared_data / "networks" / "squeezenet1_1_torchvision_keys.npz").read_bytes()
    (tmp_path / "short.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cannot be read as a state dictionary"):
        FeatureExtractor(network(str(tmp_path / "short.npz")))


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        (Network(name="nonet", weights="random:0"), "network 'nonet' is not a classification network"),
        (Network(name="fcn_resnet50", weights="random:0"), "network 'fcn_resnet50' is not a classification network"),
        (network(layers={"a": "features.99"}), "'features.99' is not present"),
        (network(layers={"a": "features.0", "b": "features.0"}), "none of them twice"),
        (Network(name=SMALL, weights="random:0", layers={}), "name at least one node"),
        (network("random:x"), "write random:SEED"),
        (network("random:-1"), "write random:SEED"),
        (network(f"random:{2**70}"), "write random:SEED"),
    ],
)  # fmt: skip
def test_networks_nodes_and_seeds_that_are_not_there_are_refused(wrong, what):
    with pytest.raises(InputError, match=what) as refused:
        FeatureExtractor(wrong)
    assert "\n" not in str(refused.value)


def test_weights_that_cannot_be_downloaded_say_what_to_do_instead(monkeypatch, tmp_path):
    from urllib.error import URLError

    def offline(*_, **__):
        raise URLError("offline")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", offline)
    with pytest.raises(InputError, match=r"cannot be downloaded.*--weights a local file, or random:0"):
        FeatureExtractor(network("default"))


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


# ---------------------------------------------------------------- torchvision's compiled operators


@pytest.fixture
def declared(monkeypatch):
    """Records what is declared, and what is loaded, instead of doing it."""
    calls = []

    class Library:
        def __init__(self, *_):
            pass

        def define(self, schema):
            calls.append(schema.partition("(")[0])

    monkeypatch.setattr(torch.library, "Library", Library)
    monkeypatch.setattr(torchvision_import, "_declared", [])
    return calls


def operators(monkeypatch, **there):
    monkeypatch.setattr(torch.ops, "torchvision", type("Operators", (), there)())


def test_operators_that_are_there_are_left_alone(monkeypatch, declared):
    operators(monkeypatch, nms=None)
    monkeypatch.setattr(torch.ops, "load_library", lambda path: declared.append(path))
    import_torchvision()
    assert declared == []


def test_operators_that_load_are_not_declared(monkeypatch, declared):
    operators(monkeypatch)
    monkeypatch.setattr(torch.ops, "load_library", lambda _: None)
    import_torchvision()
    assert declared == []


def test_operators_that_cannot_be_loaded_are_declared(monkeypatch, declared):
    def refuse(_):
        raise OSError("libtorch_cuda.so: cannot open shared object file")

    operators(monkeypatch)
    monkeypatch.setattr(torch.ops, "load_library", refuse)
    import_torchvision()
    assert declared == ["nms", "qnms"]


def test_without_torchvision_the_line_that_installs_it_is_given(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"torchvision is not installed; run: .*rtgod\[calibration\]"):
        import_torchvision()
