"""TOML as Windows editors save it, wherever rtgod reads any."""

import pytest

from rtgod.errors import InputError
from rtgod.settings import PipelineSettings
from rtgod.toml_text import read_toml

MARK = b"\xef\xbb\xbf"


@pytest.mark.parametrize("mark", [b"", MARK])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_a_mark_and_line_ends_change_nothing(tmp_path, mark, end):
    path = tmp_path / "settings.toml"
    path.write_bytes(mark + end.join([b"[nuisance]", b"motion_parameters = 6", b""]))
    assert read_toml(path) == {"nuisance": {"motion_parameters": 6}}
    assert PipelineSettings.from_toml(path).nuisance.motion_parameters == 6


def test_what_powershell_redirects_is_named(tmp_path):
    path = tmp_path / "settings.toml"
    path.write_bytes("[nuisance]\n".encode("utf-16"))
    with pytest.raises(InputError, match=r"settings.toml: cannot be read \(it is UTF-16 text.*save it as UTF-8"):
        PipelineSettings.from_toml(path)
