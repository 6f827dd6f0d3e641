"""The measures of attacks see a server that grows and one that loses volumes; the soak in small attacks a real one."""

import time

import pytest

from benchmarks import attackers, attacks
from benchmarks.soak import Addresses
from rtgod.server.connection_guard import IS_BOUNDED

pytestmark = pytest.mark.skipif(not IS_BOUNDED, reason="this system tells no bytes of connections")


def test_growth_and_volumes_that_are_lost_are_seen(tmp_path, monkeypatch):
    class Lost(attacks._Source):
        def n_missing(self, journal):
            self._acknowledged.append(("run-0", 10**6))
            return super().n_missing(journal)

    monkeypatch.setattr(attacks, "_Source", Lost)
    monkeypatch.setattr(attacks, "KINDS", ("plain",))
    sizes = iter((100.0, 150.0))
    monkeypatch.setattr(attacks, "_resident_mb", lambda *_, **__: next(sizes))
    figures = attacks.memory_attacks(tmp_path, ("same-subscription",), for_s=0.1)
    assert figures["memory_attack_growth_mb"] == 50
    assert figures["memory_attack_lost"] == 1


def test_every_attack_ends_when_nobody_listens():
    where = Addresses()  # free ports
    place = attackers.Place(where.ingest, where.publish)
    began_s = time.monotonic()
    plain = [name for name in attackers.ATTACKS if "zeromq" not in name]
    for name in plain:
        attackers.attack(place, name, 0.01)
    assert time.monotonic() - began_s < 5
    assert not attacks.lets_in(where)
