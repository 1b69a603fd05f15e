"""hoop's own streams, sockets, TLS, queues, locks and groups in simulated worlds: see own.py."""

from __future__ import annotations

import own
import pytest


@pytest.mark.parametrize("name", list(own.PROGRAMS))
def test_nothing_is_lost(name):
    own.simulate(name, 25)


@pytest.mark.parametrize("order", ["fifo", "starts", "single", "pct"])
@pytest.mark.parametrize("name", ["sharing", "families", "connections"])
def test_nothing_is_lost_in_another_order(name, order):
    own.simulate(name, 10, order=order)
