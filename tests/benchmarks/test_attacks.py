"""Attacks in small: a server survives them, stays small and loses nothing; and the measures see one that does not."""

import time

import pytest

from benchmarks import attackers, attacks
from benchmarks.soak import Addresses
from rtgod.server.connection_guard import IS_BOUNDED

pytestmark = pytest.mark.skipif(not IS_BOUNDED, reason="this system tells no bytes of connections")


def test_clients_are_killed_and_the_server_and_its_source_do_not_notice(tmp_path, monkeypatch):
    monkeypatch.setattr(attacks, "dead_peer", lambda _: {})
    figures = attacks.killed_clients(tmp_path, 8)
    assert figures["killed_clients"] == 8
    assert figures["killed_clients_crashes"] == figures["killed_clients_lost"] == 0
    assert 0 < figures["stall_ms_max"] < 2000


def test_attacks_on_memory_get_no_more_than_a_little(tmp_path):
    figures = attacks.memory_attacks(tmp_path, ("subscribing-500", "unfinished-by-zeromq-0"), for_s=0.3)
    assert figures["memory_attack_crashes"] == figures["memory_attack_lost"] == 0
    assert figures["memory_attack_growth_mb"] < 100
    assert 0 < figures["stall_ms_max"] < 2000


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


def test_a_peer_behind_a_pulled_cable_is_noticed(tmp_path):
    if not (figures := attacks.dead_peer(tmp_path)):
        pytest.skip("networks cannot be made here: not root, or no `ip`")
    assert 2 < figures["dead_peer_noticed_s"] < 8
