"""Requests that are wrong in every way we can think of; tests/benchmarks/serving_robustness.py has ten thousand."""

from __future__ import annotations

import random

import pytest
from benchmarks.serving_robustness import KINDS, ask_wrongly, is_alive, ports_of

LARGE = [kind for kind in KINDS if "large text" in kind.name]


@pytest.fixture(scope="module")
def ports(server):
    ports = ports_of(server.grpc_port, server.rest_port)
    with ports.channel:
        yield ports


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_each_kind_has_the_status_that_tf_serving_gives_it(ports, kind):
    ask_wrongly(ports, [kind], random.Random(1))
    assert is_alive(ports)


def test_all_of_them_many_times(ports):
    chance = random.Random(2)
    kinds = [kind for kind in KINDS if kind not in LARGE]
    found = ask_wrongly(ports, chance.choices(kinds, [kind.weight for kind in kinds], k=400), chance)
    assert found.total() == 400
    assert is_alive(ports)
