"""Messages of a small session, as the server would publish them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from rtgod.messages import Block, Hello, Motion, NotReady, Ranking, Reason, Run

STILL = Motion((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 0.0, 0.01, 3, True)
NAMES = (
    "goldfish",
    "leopard",
    "duck",
    "swan",
    "whale",
    "hammock",
    "airliner",
    "mailbox",
    "console",
    "sled",
    "owl",
    "bat",
)


@pytest.fixture
def hello() -> Hello:
    return Hello(server_version="0.1.0", bundle_id="3f2a9c1e0b7d", n_candidates=50, n_voxels=4000)


@pytest.fixture
def run() -> Run:
    blocks = tuple(Block(33 + 9 * n, 9) for n in range(5))
    return Run("run-1", "01", 3.0, (64, 64, 50), np.eye(4), n_volumes=30, blocks=blocks)


@pytest.fixture
def ranking() -> Callable[..., Ranking]:
    def build(
        index: int = 12,
        *,
        run_id: str = "run-1",
        n_volumes: int = 2,
        block: int | None = 0,
        final: bool = False,
        top: tuple[str, ...] = NAMES,
        scores: tuple[float, ...] | None = None,
    ) -> Ranking:
        given = np.linspace(0.5, -0.1, 50) if scores is None else np.array(scores)
        certain = (1.0, 1.0, 1.0)
        order = np.arange(len(given))
        return Ranking(run_id, index, n_volumes, block, final, top, order, given, STILL, probability=certain)

    return build


@pytest.fixture
def not_ready() -> Callable[..., NotReady]:
    def build(reason: Reason = Reason.WARMING_UP, index: int = 0, run_id: str = "run-1") -> NotReady:
        return NotReady(run_id, index, reason, detail="framewise displacement 1.3 mm", motion=STILL)

    return build
