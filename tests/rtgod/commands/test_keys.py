"""The commands about keys, as a person types them."""

import pytest
from typer.testing import CliRunner

from rtgod.commands.keys import keys
from rtgod.errors import InputError
from rtgod.protocol.keys import Role, read_client_key


@pytest.fixture
def run(tmp_path):
    """A function that runs a command on a folder of keys, and gives what it printed."""

    def run(*arguments):
        result = CliRunner().invoke(keys, [*arguments, "--keys", str(tmp_path / "keys")])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


def test_keys_are_made_listed_and_revoked(run, tmp_path):
    made = run("new", "scanner", "--role", "source")
    assert f"{tmp_path / 'keys' / 'scanner.key'}: move it to the machine of 'scanner'" in made.output
    run("new", "wall", "--role", "watch")
    key = read_client_key(tmp_path / "keys" / "scanner.key")
    assert key.role is Role.SOURCE
    listed = run("ls").output
    assert f"scanner\tsource\t{key.public}\n" in listed
    assert len(listed.splitlines()) == 2
    run("revoke", "scanner")
    assert "scanner" not in run("ls").output
    for printed in (made.output, listed):
        assert key.secret not in printed


def test_a_role_must_be_given_and_be_one(run):
    assert run("new", "scanner").exit_code == 2
    assert run("new", "scanner", "--role", "owner").exit_code == 2
    with pytest.raises(InputError, match="1 to 50 letters"):
        run("new", "server", "--role", "watch")
