"""A loop whose process is stopped, or gets no processor, is not reported as blocked."""

from __future__ import annotations

import subprocess
import sys
import textwrap


def prints_no_stall(code: str, driver: str, seconds: float) -> None:
    """Run code in a process of its own, which prints the stalls that it has found."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), driver],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_a_stopped_process_is_not_blocked(python, driver):
    """The program tells when it may be stopped, and another when it may go on."""
    code = """
        import os, signal, subprocess, sys, time
        import hoop.observe

        found = []
        hoop.observe.start(threshold=0.2, hook=found.append, socket=False)
        waker = [sys.executable, "-c", "import os, sys, time, signal; pid = int(sys.argv[1]);"
                 "os.kill(pid, signal.SIGSTOP); time.sleep(1); os.kill(pid, signal.SIGCONT)"]

        async def main():
            await hoop.sleep(0.05)
            child = subprocess.Popen([*waker, str(os.getpid())])
            began = time.monotonic()
            last, longest = began, 0
            while longest < 0.9 and time.monotonic() - began < 10:
                await hoop.sleep(0)
                now = time.monotonic()
                last, longest = now, max(longest, now - last)
            assert longest >= 0.9
            await hoop.sleep(0.1)
            await hoop.sleep(0.3)
            child.wait()

        loop = hoop.new_event_loop(sys.argv[1])
        loop.run_until_complete(main())
        loop.close()
        hoop.observe.stop()
        print([(s.cause, s.lasted) for s in found if s.lasted > 0.7])
        """
    prints_no_stall(code, driver, 15)


def test_a_starved_process_is_not_blocked(driver):
    """Its thread needs a few milliseconds for a turn, and another process has the processor meanwhile."""
    code = """
        import os, subprocess, sys, time
        import hoop.observe
        from hoop.observe import thread

        found = []
        hoop.observe.start(threshold=0.05, hook=found.append, socket=False)
        (processor, *_) = os.sched_getaffinity(0)
        hog = subprocess.Popen(
            [sys.executable, "-c", "import os, sys, time\\nos.sched_setaffinity(0, {int(sys.argv[1])})\\n"
             "print(flush=True)\\nwhile time.monotonic() < float(sys.argv[2]): pass",
             str(processor), str(time.monotonic() + 25)], stdout=subprocess.PIPE)
        hog.stdout.readline()

        async def main():
            await hoop.sleep(0.01)
            os.sched_setaffinity(0, {processor})
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            while not thread.current().watch.starved and not found:
                until = time.thread_time() + 0.002
                while time.thread_time() < until:
                    pass
                await hoop.sleep(0)

        loop = hoop.new_event_loop(sys.argv[1])
        loop.run_until_complete(main())
        hog.kill()
        hog.wait()
        loop.close()
        hoop.observe.stop()
        print([(s.cause, s.lasted) for s in found])
        """
    prints_no_stall(code, driver, 30)
