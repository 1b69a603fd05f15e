"""hoop's own streams, TLS, locks, endpoints and files in simulated worlds: see own.py and endpoints.py."""

from __future__ import annotations

import endpoints
import own
import pytest

import hoop.sim


@pytest.mark.parametrize("name", list(own.PROGRAMS))
def test_nothing_is_lost(name):
    own.simulate(name, 25)


@pytest.mark.parametrize("order", ["fifo", "starts", "single", "pct"])
@pytest.mark.parametrize("name", ["sharing", "families", "connections"])
def test_nothing_is_lost_in_another_order(name, order):
    own.simulate(name, 10, order=order)


@pytest.mark.parametrize("name", list(endpoints.PROGRAMS))
def test_endpoints_lose_nothing(name):
    main, settings = endpoints.prepare(name)
    hoop.sim.explore(main, seeds=3, **settings)
