"""Tests of the conformance runner itself, on made-up test modules that hang, crash and fail."""

from __future__ import annotations

import json
import os
import textwrap
from pathlib import Path
from typing import Any

import bind
import pytest
import report
import run
import verdict
from supervisor import ModuleRun, Result

UNRULY = """
    import asyncio, faulthandler, os, signal, subprocess, sys, time, unittest

    class Tests(unittest.IsolatedAsyncioTestCase):
        async def test_a_passes(self):
            await asyncio.sleep(0)

        def test_b_aborts(self):
            os.abort()

        def test_c_exits(self):
            os._exit(7)

        def test_d_hangs(self):
            subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            time.sleep(600)

        def test_e_fails(self):
            self.assertEqual(1, 2)

        def test_f_fails_in_two_subtests(self):
            for i in range(2):
                with self.subTest(i=i):
                    self.fail("no")

        def test_g_skips(self):
            self.skipTest("no reason")

        @unittest.skip("by decree")
        def test_h_is_skipped(self):
            pass

        @unittest.expectedFailure
        def test_i_fails_as_expected(self):
            self.fail("as expected")

        @unittest.expectedFailure
        def test_j_passes_unexpectedly(self):
            pass

        def test_k_is_killed(self):
            os.kill(os.getpid(), signal.SIGSEGV)

        async def test_l_leaves_a_mess_that_exits(self):
            asyncio.get_running_loop().close = lambda: os._exit(3)

        def test_m_passes(self):
            print("noise" * 100_000)

    @unittest.skip("as a class")
    class Skipped(unittest.TestCase):
        def test_n(self):
            pass

    class BrokenSetUp(unittest.TestCase):
        @classmethod
        def setUpClass(cls):
            raise RuntimeError("no set-up")

        def test_o(self):
            pass

        def test_p(self):
            pass

    class BrokenTearDown(unittest.TestCase):
        @classmethod
        def tearDownClass(cls):
            raise RuntimeError("no tear-down")

        def test_q(self):
            pass
"""


@pytest.fixture
def fake_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a test module, in a package, that workers can import."""
    package = tmp_path / "unruly"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)

    def make(source: str) -> str:
        (package / "tests.py").write_text(textwrap.dedent(source))
        return "unruly.tests"

    return make


def run_and_read(tmp_path: Path, *arguments: str) -> tuple[int, dict[str, str]]:
    """Run the runner; its exit status, and each test's outcome."""
    results = tmp_path / "results.json"
    status = run.main(["--loop", "asyncio", "--json", str(results), *arguments])
    modules = json.loads(results.read_text())["modules"]
    return status, {r["id"]: r["outcome"] for module in modules for r in module["results"]}


def test_every_test_of_an_unruly_module_gets_its_outcome(
    fake_module: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = fake_module(UNRULY)
    status, outcomes = run_and_read(tmp_path, "--modules", module, "--timeout", "2", "--verbose")
    assert status == 1
    assert outcomes == {
        f"{module}.{name}": outcome
        for name, outcome in {
            "Tests.test_a_passes": "passed",
            "Tests.test_b_aborts": "crashed",
            "Tests.test_c_exits": "crashed",
            "Tests.test_d_hangs": "hung",
            "Tests.test_e_fails": "failed",
            "Tests.test_f_fails_in_two_subtests": "failed",
            "Tests.test_g_skips": "skipped",
            "Tests.test_h_is_skipped": "skipped",
            "Tests.test_i_fails_as_expected": "passed",
            "Tests.test_j_passes_unexpectedly": "failed",
            "Tests.test_k_is_killed": "crashed",
            "Tests.test_l_leaves_a_mess_that_exits": "crashed",
            "Tests.test_m_passes": "passed",
            "Skipped.test_n": "skipped",
            "BrokenSetUp.test_o": "failed",
            "BrokenSetUp.test_p": "failed",
            "BrokenTearDown.test_q": "passed",
            "BrokenTearDown.(tearDownClass)": "failed",
        }.items()
    }
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == "4 passed, 11 failed, 3 skipped"
    assert "in test_d_hangs" in printed, "a hang comes with the traceback of where it was"
    assert "Fatal Python error: Aborted" in printed


@pytest.mark.parametrize(
    ("source", "outcomes"),
    [
        ("import no_such_module", {"(module)": "failed"}),
        ("import unittest; raise unittest.SkipTest('not here')", {"(module)": "skipped"}),
        ("import os; os.abort()", {"(start)": "crashed"}),
        ("import time; time.sleep(600)", {"(start)": "hung"}),
        (
            """
            import atexit, os, unittest

            class Tests(unittest.TestCase):
                def test_passes(self):
                    atexit.register(os.abort)
            """,
            {"Tests.test_passes": "passed", "(exit)": "crashed"},
        ),
    ],
)
def test_trouble_outside_tests_is_reported(
    fake_module: Any, tmp_path: Path, source: str, outcomes: dict[str, str]
) -> None:
    module = fake_module(source)
    status, found = run_and_read(tmp_path, "--modules", module, "--timeout", "1")
    assert found == {f"{module}.{name}": outcome for name, outcome in outcomes.items()}
    assert status == int(set(found.values()) != {"skipped"})


def test_selection(fake_module: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = fake_module(UNRULY)
    status, outcomes = run_and_read(tmp_path, "--modules", module, "-k", "_passes")
    assert (status, len(outcomes)) == (1, 3)
    status, outcomes = run_and_read(tmp_path, "--modules", module, "-k", "Tests.test_a")
    assert (status, len(outcomes)) == (0, 1)
    capsys.readouterr()
    assert run.main(["--loop", "asyncio", "--modules", module, "-k", "BrokenSetUp", "--list"]) == 0
    names = [f"{module}.BrokenSetUp.test_{letter}" for letter in "op"]
    assert capsys.readouterr().out.split() == names


def test_the_stock_tests_for_hoops_own_classes_exist(capsys: pytest.CaptureFixture[str]) -> None:
    modules = "test_tasks,test_futures,test_futures2"
    assert run.main(["--loop", "asyncio", "--modules", modules, "-k", "Hoop", "--list"]) == 0
    listed = capsys.readouterr().out.split()
    assert "test_tasks.HoopTask_HoopFuture_Tests.test_task_basics" in listed
    assert "test_futures.HoopFutureTests.test_future_repr" in listed
    assert "test_futures2.HoopFutureTests.test_future_traceback" in listed


def write_exceptions(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "exceptions.toml"
    path.write_text(textwrap.dedent(text))
    return path


def test_exceptions_excuse_failures_and_nothing_else(tmp_path: Path) -> None:
    path = write_exceptions(
        tmp_path,
        """
        [[group]]
        reason = "looks at loop._selector"
        tests = ["m.T.fails", "m.T.hangs", "m.T.crashes", "m.T.passes", "m.T.skips", "m.T.gone"]

        [[group]]
        reason = "not this Python"
        python = ["2.7"]
        tests = ["m.T.other"]
        """,
    )
    found = {
        "m.T.fails": "failed",
        "m.T.hangs": "hung",
        "m.T.crashes": "crashed",
        "m.T.passes": "passed",
        "m.T.skips": "skipped",
        "m.T.other": "failed",
    }
    module = ModuleRun("m", list(found), [Result(*item) for item in found.items()])
    exceptions = verdict.Exceptions.read(path, version="3.13")
    exceptions.apply(module, complete=True)
    assert {result.id: result.outcome for result in module.results} == {
        "m.T.fails": "excepted",
        "m.T.hangs": "excepted",
        "m.T.crashes": "crashed",
        "m.T.passes": "surprise",
        "m.T.skips": "skipped",
        "m.T.other": "failed",
        "m.T.gone": "surprise",
    }
    assert report.final_line([module]) == "0 passed, 4 failed, 1 skipped"
    assert verdict.rerun_on_stock(module) == ("m.T.crashes", "m.T.other")
    verdict.excuse(module, [Result("m.T.crashes", "passed"), Result("m.T.other", "hung")])
    assert report.final_line([module]) == "0 passed, 3 failed, 1 skipped"
    assert report.count([module])["stock"] == 1


@pytest.mark.parametrize(
    "text",
    [
        '[[group]]\ntests = ["m.T.x"]',
        '[[group]]\nreason = " "\ntests = ["m.T.x"]',
        '[[group]]\nreason = "r"\ntests = ["m.T.x"]\nversions = ["3.12"]',
        '[[group]]\nreason = "r"\ntests = ["m.T.x", "m.T.x"]',
    ],
)
def test_a_careless_exceptions_file_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"exceptions\.toml"):
        verdict.Exceptions.read(write_exceptions(tmp_path, text), version="3.12")


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14"])
def test_the_exceptions_file_is_sound(version: str) -> None:
    verdict.Exceptions.read(version=version)


@pytest.mark.parametrize("loop", bind.LOOPS)
def test_tests_get_the_loop_under_test(
    fake_module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loop: str
) -> None:
    if loop != "asyncio":
        pytest.importorskip(loop, exc_type=ImportError)
    monkeypatch.setenv("LOOP", loop)
    module = fake_module(
        """
        import asyncio, os, selectors, unittest
        from unittest import mock
        from test.test_asyncio import functional, utils

        MODULE = os.environ["LOOP"]

        class Base:
            def check(self, loop):
                self.assertEqual(type(loop).__module__.partition(".")[0], MODULE)
                self.assertIsInstance(loop, asyncio.SelectorEventLoop)
                return loop

        class Isolated(Base, unittest.IsolatedAsyncioTestCase):
            async def test_isolated(self):
                self.check(asyncio.get_running_loop())

        class Functional(Base, functional.FunctionalTestCaseMixin, unittest.TestCase):
            def test_functional(self):
                self.check(self.loop)

        class Tests(Base, utils.TestCase):
            def test_new_event_loop(self):
                self.set_event_loop(self.check(asyncio.new_event_loop()))

            def test_selector(self):
                self.check(asyncio.SelectorEventLoop(selectors.PollSelector())).close()

            def test_policy(self):
                self.check(asyncio.DefaultEventLoopPolicy().new_event_loop()).close()

            def test_executor_is_shut_down(self):
                loop = asyncio.new_event_loop()
                self.set_event_loop(loop)
                self.assertEqual(loop.run_until_complete(loop.run_in_executor(None, int)), 0)

            def test_runner(self):
                async def main():
                    self.check(asyncio.get_running_loop())
                asyncio.run(main())
                with asyncio.Runner() as runner:
                    runner.run(main())

            def test_test_loop_stays_stock(self):
                loop = self.new_test_loop()
                self.assertEqual(type(loop).__mro__[1].__module__, "asyncio.base_events")
                self.assertNotIsInstance(loop, asyncio.SelectorEventLoop)

            @unittest.skipIf(MODULE == "asyncio", "stock BaseEventLoop is abstract")
            def test_base_event_loop(self):
                loop = asyncio.BaseEventLoop()
                loop._write_to_self = mock.Mock()
                loop._write_to_self.return_value = None
                self.set_event_loop(self.check(loop))
                self.assertEqual(loop.run_until_complete(loop.run_in_executor(None, int)), 0)
        """
    )
    results = tmp_path / "results.json"
    status = run.main(["--loop", loop, "--json", str(results), "--modules", module, "--verbose"])
    counts = json.loads(results.read_text())["counts"]
    assert (status, counts["passed"]) == (0, 9 - (loop == "asyncio")), counts
