import pytest
import torch

from calibration.features import torchvision_import
from calibration.features.torchvision_import import import_torchvision
from rtgod.errors import MissingDependencyError


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
