import numpy as np
import pytest
import torch

from calibration.features.network import Network, Preprocessing
from calibration.features.torchvision_import import import_torchvision
from calibration.features.weights import checksum, load_model, published_preprocessing
from rtgod.errors import InputError

SMALL = "squeezenet1_1"


def network(weights="random:0", **changes):
    return Network(name=SMALL, weights=weights, **changes)


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng(devices=[]):
        return import_torchvision().models.squeezenet1_1()


@pytest.fixture(scope="module")
def state(model):
    return model.state_dict()


# ---------------------------------------------------------------- what is loaded


@pytest.mark.parametrize("suffix", ["pt", "pth", "safetensors", "npz"])
def test_every_kind_of_weights_file_gives_the_same_weights(model, state, tmp_path, suffix):
    from safetensors.torch import save_file

    path = tmp_path / f"weights.{suffix}"
    match suffix:
        case "npz":
            np.savez(path, **{key: tensor.numpy() for key, tensor in reversed(state.items())})
        case "safetensors":
            save_file(state, path)
        case _:
            torch.save(state, path)
    loaded = load_model(network(str(path)))
    assert not loaded.training
    for key, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, state[key])
    assert checksum(loaded) == checksum(model)
    assert load_model(network(str(path), weights_sha256=checksum(model)))


def test_random_weights_are_the_seed_s_and_leave_torch_s_own_state_alone():
    before = torch.random.get_rng_state()
    one, again, other = (load_model(network(weights)) for weights in ("random:0", "random:0", "random:1"))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert checksum(one) == checksum(again) != checksum(other)


def test_the_checksum_is_of_every_number_name_and_shape():
    class Model(torch.nn.Module):
        def __init__(self, **tensors):
            super().__init__()
            for name, tensor in tensors.items():
                self.register_buffer(name, tensor)

    weights = torch.arange(6.0)
    models = [
        Model(a=weights), Model(b=weights), Model(a=weights.reshape(2, 3)), Model(a=weights.double()),
        Model(a=weights.nextafter(weights + 1)), Model(a=weights[:3], b=weights[3:]),
    ]  # fmt: skip
    assert len({checksum(model) for model in models}) == len(models)
    assert checksum(Model(a=weights, b=weights)) == checksum(Model(b=weights, a=weights.clone()))


def test_weights_that_are_not_those_asked_for_are_refused():
    with pytest.raises(
        InputError, match=r"random:0 of squeezenet1_1 have the checksum \w{12}…, not aaaaaaaaaaaa…; give"
    ):
        load_model(network(weights_sha256="a" * 64))


# ---------------------------------------------------------------- preprocessing


def test_preprocessing_is_the_published_one_except_for_what_is_set():
    swin = Network(name="swin_t", preprocessing=Preprocessing(channels="BGR", crop_px=200))
    assert published_preprocessing(swin) == Preprocessing(
        resize_px=232, crop_px=200, interpolation="bicubic", channels="BGR"
    )


# ---------------------------------------------------------------- what cannot be loaded


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
        load_model(network(str(tmp_path / name)))
    message = str(refused.value)
    assert name in message
    assert "\n" not in message
    assert len(message) < 300 + len(str(tmp_path))
    assert "code" not in capsys.readouterr().out


def test_a_truncated_weights_file_is_refused(shared_data, tmp_path):
    whole = (shared_data / "networks" / "squeezenet1_1_torchvision_keys.npz").read_bytes()
    (tmp_path / "short.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cannot be read as a state dictionary"):
        load_model(network(str(tmp_path / "short.npz")))


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        (Network(name="nonet", weights="random:0"), "network 'nonet' is not a classification network"),
        (Network(name="fcn_resnet50", weights="random:0"), "network 'fcn_resnet50' is not a classification network"),
        (network("random:x"), "write random:SEED"),
        (network("random:-1"), "write random:SEED"),
        (network(f"random:{2**70}"), "write random:SEED"),
    ],
)
def test_networks_and_seeds_that_are_not_there_are_refused(wrong, what):
    with pytest.raises(InputError, match=what) as refused:
        load_model(wrong)
    assert "\n" not in str(refused.value)


def test_weights_that_cannot_be_downloaded_say_what_to_do_instead(monkeypatch, tmp_path):
    from urllib.error import URLError

    def offline(*_, **__):
        raise URLError("offline")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", offline)
    with pytest.raises(InputError, match=r"cannot be downloaded.*--weights a local file, or random:0"):
        load_model(network("default"))
