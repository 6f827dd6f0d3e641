"""The ends that talk to a server: what they are called, and over which addresses they find it."""

import re
import socket
import time

import pytest

from rtgod.errors import InputError
from rtgod.messages import LONGEST_CLIENT, Event, RunEnd, Status
from rtgod.protocol.clients import LONGEST_NAME, Reporter, Sender, Subscriber, new_client_name
from rtgod.protocol.keys import Role, add_client, read_client_key, read_server_keys
from tests import small
from tests.serving import FREE, FREE_IPV6, PATIENCE_S, needs_ipv6_loopback, running


def heard(subscriber, condition):
    """The first message for which the condition holds."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not ((message := subscriber.poll(0.1)) is not None and condition(message)):
        assert time.monotonic() < deadline_s
    return message


def test_a_client_s_name_tells_neither_machine_nor_person(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "ward-3-of-dr-ito")
    name = new_client_name("display")
    assert re.fullmatch(r"display-[0-9]+-[0-9a-f]{8}", name)
    assert new_client_name("display") != name


@pytest.mark.parametrize("name", ["scanner console", "装置", "[bold]x[/bold]", "n" * LONGEST_NAME])
def test_a_client_is_called_as_people_ask_and_is_still_one_of_its_kind(name):
    first, second = new_client_name("source", name), new_client_name("source", name)
    assert first.startswith(f"{name}-")
    assert first != second, "its events are told apart by it, however often it is started"
    assert len(first) <= LONGEST_CLIENT


@pytest.mark.parametrize("name", ["", "  ", "n" * (LONGEST_NAME + 1)])
def test_a_name_that_cannot_be_sent_is_refused_before_anything_is(name):
    with pytest.raises(InputError, match=f"--name .*1 to {LONGEST_NAME} characters"):
        Sender("tcp://127.0.0.1:1", name=name)


@pytest.mark.parametrize("address", [FREE, pytest.param(FREE_IPV6, marks=needs_ipv6_loopback)])
@pytest.mark.parametrize("encrypted", [False, True])
def test_every_client_of_a_server_over_either_family(tmp_path, address, encrypted):
    key = read_client_key(add_client(tmp_path / "keys", "all", Role.SOURCE)) if encrypted else None
    keys = read_server_keys(tmp_path / "keys") if encrypted else None
    messages = small.messages()
    with (
        running(tmp_path, address=address, keys=keys) as server,
        Subscriber(server.publish, key) as subscriber,
        Sender(server.ingest, key=key, name="scanner console") as sender,
        Reporter(server.ingest, "display", key=key, name="screen") as reporter,
    ):
        heard(subscriber, lambda message: isinstance(message, Status))
        for message in messages:
            sender.send(message)
        reporter.report("flip", 1.0)
        deadline_s = time.monotonic() + PATIENCE_S
        while reporter.n_unacknowledged:
            assert time.monotonic() < deadline_s
            reporter.poll()
        status = heard(subscriber, lambda message: isinstance(message, Status) and len(message.clients) > 1)
    assert [re.sub("-[0-9a-f]{8}$", "", one.client) for one in status.clients] == ["scanner console", "screen"]
    assert [event.client for event in server.recorded(Event)] == [reporter.name]
    assert len(server.recorded(RunEnd)) == 1
