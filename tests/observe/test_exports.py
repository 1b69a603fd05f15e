"""The numbers for Prometheus and OpenTelemetry are those that the loops count."""

from __future__ import annotations

import asyncio
import gc
import platform
import time

import pytest

import hoop.observe
from hoop.observe import exports
from hoop.scheduling.histogram import Histogram


def parsed(text: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """The samples by name and labels, as Prometheus's own parser reads them."""
    parser = pytest.importorskip(
        "prometheus_client.parser", reason="prometheus_client is not installed"
    )
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in parser.text_string_to_metric_families(text):
        assert family.documentation
        assert family.type in ("counter", "gauge", "histogram")
        for sample in family.samples:
            labels = tuple(sorted(sample.labels.items()))
            assert labels not in found.setdefault(sample.name, {}), (
                "two samples have the same labels"
            )
            found[sample.name][labels] = sample.value
    return found


@pytest.fixture
def observed(monkeypatch, tmp_path):
    """Observe the process during the test."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    hoop.observe.start(threshold=0.05)
    yield
    hoop.observe.stop()


MAIN = (("loop", "MainThread"),)


def test_numbers_of_a_loop(run):
    async def main():
        async def fails():
            raise ValueError

        await asyncio.gather(*(asyncio.sleep(0) for _ in range(5)))
        await asyncio.gather(fails(), return_exceptions=True)
        cancelled = asyncio.create_task(asyncio.sleep(10))
        waits = asyncio.create_task(asyncio.sleep(0.05))
        await asyncio.sleep(0.01)
        cancelled.cancel()
        await asyncio.sleep(0.01)
        found = parsed(hoop.observe.metrics())
        counters = asyncio.get_running_loop().counters()
        await waits
        return found, counters

    found, counters = run(main())
    assert found["hoop_loop_turns_total"][MAIN] == counters["turns"]
    assert found["hoop_callbacks_total"][MAIN] <= counters["callbacks"]
    assert found["hoop_tasks"] == {
        (*MAIN, ("state", "running")): 1,
        (*MAIN, ("state", "ready")): 0,
        (*MAIN, ("state", "waiting")): 1,
    }
    assert found["hoop_tasks_ended_total"] == {
        (("how", "returned"), *MAIN): 5,
        (("how", "failed"), *MAIN): 1,
        (("how", "cancelled"), *MAIN): 1,
    }
    assert found["hoop_loop_idle_seconds_total"][MAIN] > 0.005
    assert found["hoop_info"] == {
        (("python", platform.python_version()), ("version", hoop.__version__)): 1
    }


def test_buckets_of_a_histogram_add_up(run):
    async def main():
        for _ in range(20):
            await asyncio.sleep(0.001)
        return parsed(hoop.observe.metrics())

    found = run(main())
    for name in ("hoop_loop_visit_seconds", "hoop_timer_lag_seconds"):
        buckets = [
            (float(dict(labels)["le"]), value) for labels, value in found[f"{name}_bucket"].items()
        ]
        values = [value for _, value in buckets]
        assert [bound for bound, _ in buckets] == sorted(bound for bound, _ in buckets)
        assert values == sorted(values)
        assert values[-1] == found[f"{name}_count"][MAIN] > 0
        assert 0 < found[f"{name}_sum"][MAIN] < 5


def test_each_bound_is_one_of_hoop_s_histograms():
    """So no time is counted in the wrong bucket."""
    assert set(exports.BOUNDS) <= set(Histogram.bounds())


def test_connections_and_bytes(run):
    async def main():
        async def serve(reader, writer):
            writer.write(await reader.readexactly(1000))
            await reader.read()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(bytes(1000))
        await reader.readexactly(1000)
        found = parsed(hoop.observe.metrics())
        writer.close()
        await writer.wait_closed()
        server.close()
        await asyncio.sleep(0.01)
        return found

    found = run(main())
    assert found["hoop_bytes_total"] == {
        (("direction", "in"), *MAIN): 2000,
        (("direction", "out"), *MAIN): 2000,
    }
    assert found["hoop_accepted_total"][MAIN] == 1


def test_stalls_and_collections_are_counted(run, observed):
    async def main():
        await asyncio.sleep(0.01)
        time.sleep(0.3)
        gc.collect()
        for _ in range(300):
            await asyncio.sleep(0.01)
            found = parsed(hoop.observe.metrics())
            if "hoop_stall_seconds_count" in found:
                return found

    found = run(main())
    cause = (("cause", "blocking call"),)
    assert found["hoop_stall_seconds_count"][cause] == 1
    assert 0.25 < found["hoop_stall_seconds_sum"][cause] < 5
    assert found["hoop_stall_seconds_bucket"][(*cause, ("le", "+Inf"))] == 1
    assert found["hoop_stall_seconds_bucket"][(*cause, ("le", repr((1 << 27) * 1e-9)))] == 0
    assert found["hoop_gc_pause_seconds_count"][(("generation", "2"),)] >= 1
    assert found["hoop_observer_cpu_seconds_total"][()] >= 0
    assert found["hoop_starved_total"][()] >= 0


def test_loops_of_one_thread_have_names_of_their_own(new_loop):
    loops = [new_loop(), new_loop()]
    found = parsed(hoop.observe.metrics())
    names = {dict(labels)["loop"] for labels in found["hoop_loop_turns_total"]}
    assert {"stopped", "stopped 2"} <= names
    assert len(loops) <= len(names)


def test_texts_of_several_processes_become_one(run):
    async def main():
        return hoop.observe.metrics()

    text = run(main())
    found = parsed(exports.merged({1: text, 2: text}))
    for name, samples in parsed(text).items():
        for labels, value in samples.items():
            for pid in ("1", "2"):
                assert found[name][tuple(sorted((*labels, ("pid", pid))))] == value


def test_labels_are_escaped():
    text = exports.braces((("loop", 'a"b\\c\nd'),))
    assert text == '{loop="a\\"b\\\\c\\nd"}'
    assert parsed(f"# HELP x X\n# TYPE x gauge\nx{text} 1\n")["x"] == {(("loop", 'a"b\\c\nd'),): 1}


# ---- OpenTelemetry ---------------------------------------------------------------------------------


def test_instruments_of_opentelemetry(run, observed, monkeypatch):
    pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk is not installed")
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    hoop.observe.otel(provider.get_meter("hoop"))

    async def main():
        await asyncio.sleep(0.01)
        time.sleep(0.3)
        await asyncio.sleep(0.3)
        monkeypatch.setattr(exports, "FRESH", 60.0)  # on a slow machine, too
        monkeypatch.setattr(exports, "_read", (-100.0, (), []))
        monkeypatch.setattr(exports, "snapshot", counted)
        return reader.get_metrics_data()

    looks = []

    def counted(**fields):
        looks.append(fields)
        return hoop.observe.snapshot(**fields)

    data = run(main())
    provider.shutdown()
    assert looks == [{"top": 0}]  # all instruments share it
    (resource,) = data.resource_metrics
    (scope,) = resource.scope_metrics
    found = {
        metric.name: {
            tuple(sorted(point.attributes.items())): point.value
            for point in metric.data.data_points
        }
        for metric in scope.metrics
    }
    assert 0.25 < found["hoop.loop.visit.max"][MAIN] < 5
    assert found["hoop.loop.visit.p50"][MAIN] <= found["hoop.loop.visit.p99"][MAIN]
    assert found["hoop.timer.lag.max"][MAIN] >= 0
    assert found["hoop.loop.idle"][MAIN] > 0
    assert found["hoop.tasks"][(*MAIN, ("state", "running"))] == 1
    assert found["hoop.stalls"][(("cause", "blocking call"),)] == 1
    assert 0.25 < found["hoop.stall.time"][(("cause", "blocking call"),)] < 5
    assert {"hoop.callbacks", "hoop.bytes", "hoop.observer.cpu"} <= set(found)
