"""The event loop: the compiled core in front, and asyncio's own code for everything else.

`EventLoop` inherits from the core's `Loop` first. That class has everything that runs for each callback.
The second base is asyncio's selector loop, with everything that runs at most once for each connection.
Examples are choosing addresses, checking arguments, servers, executors, exception handlers and debug mode.
There hoop behaves as the running Python's asyncio, because it runs the same code. No selector exists: its
users get the driver.

A loop belongs to the thread that runs it, which need not be the thread that made it. Other threads may call
`call_soon_threadsafe` alone. That pushes the callback under the GIL, and writes to the wake-up descriptor
only if the loop sleeps and nobody has woken it yet.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import contextvars
import functools
import importlib
import inspect
import selectors
import socket
import sys
import threading
import weakref
from asyncio import base_events, constants, events
from collections.abc import Awaitable, Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from hoop.disk import pool
from hoop.drivers import choosing
from hoop.drivers.choosing import DriverName
from hoop.drivers.driver import Driver
from hoop.loop import registry
from hoop.loop.signals import SignalWatch
from hoop.loop.turn import Loop
from hoop.net import names
from hoop.net.datagram import open_datagram
from hoop.net.listener import AcceptOp
from hoop.net.stream import open_stream

if TYPE_CHECKING:
    from hoop.loop.drain import Drain, Drained
    from hoop.processes import process

_T = TypeVar("_T")

_stop_loop_of: Callable[[Any], None] = base_events._run_until_complete_cb  # type: ignore[attr-defined]

# Since 3.14.8 asyncio closes a connection's socket if making its transport fails, even the user's own socket.
CLOSES_THE_UNUSED = sys.version_info >= (3, 14, 8)
# From 3.15 on asyncio hands a context to the methods that make transports.
GIVES_CONTEXTS = sys.version_info >= (3, 15)

# The kinds of sockets that the C library's getaddrinfo() knows.
KINDS = frozenset((socket.SOCK_STREAM, socket.SOCK_DGRAM))
PROTOCOLS = frozenset((0, socket.IPPROTO_TCP, socket.IPPROTO_UDP))

registry.install()
atexit.register(registry.let_go_of_tasks)

# The modules that are imported before a loop first runs, since not every program that imports hoop runs one.
# Later would be too late: a running loop would wait, and audit hooks would see files opened in it.
before_running = [
    "hoop.loop.drain",
    "hoop.pipes.reader",
    "hoop.pipes.writer",
    "hoop.processes.process",
]


def import_before_running() -> None:
    """Import what a running loop may need."""
    for module in before_running:
        with contextlib.suppress(ImportError, OSError):  # raised again where your program needs it
            importlib.import_module(module)
    before_running.clear()


def _with_lent_socket(name: str) -> Any:
    """asyncio's method of that name, which takes a socket of the user's. It has the same signature and no
    frame.
    """
    stock = getattr(asyncio.SelectorEventLoop, name)

    @functools.wraps(stock)
    def method(self: EventLoop, *args: Any, **kwargs: Any) -> Any:
        for given in (*args, kwargs.get("sock")):
            if isinstance(given, socket.socket):
                self._lend(given)
        return stock(self, *args, **kwargs)

    method.__doc__ = stock.__doc__ or f"See asyncio.loop.{name}."
    if sys.version_info >= (3, 12):
        return inspect.markcoroutinefunction(method)
    method._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]
    return method


class EventLoop(Loop, SignalWatch, asyncio.SelectorEventLoop):
    """An asyncio event loop on io_uring or epoll. It has asyncio's methods and a few more, such as drain().

    `driver` is "uring" or "epoll". None means the environment variable HOOP_DRIVER, and without that the
    better one for this machine. Raises OSError if you ask for io_uring and the kernel refuses it.

    `spin_us` is a number of microseconds, from 0 to a second: so long the loop polls for work before it
    sleeps. Polling answers sooner and keeps one processor busy. The loop polls only while its waits are on
    average shorter than that, and if its thread may use two processors. None means the environment variable
    HOOP_SPIN_US, and without that 0. Raises ValueError for any other number.

        with asyncio.Runner(loop_factory=lambda: hoop.EventLoop(driver="epoll")) as runner:
            runner.run(main())
    """

    # asyncio's attributes get slots. As long as an instance has no __dict__, CPython need not search one
    # before it calls a method. That saves a quarter of the cost of call_soon.
    __slots__ = (
        "_asyncgens",
        "_asyncgens_shutdown_called",
        "_children",
        "_clock_resolution",
        "_coroutine_origin_tracking_enabled",
        "_coroutine_origin_tracking_saved_depth",
        "_csock",
        "_default_executor",
        "_drain",
        "_driver_given",
        "_ended_children",
        "_exception_handler",
        "_executor_shutdown_called",
        "_file_pool",
        "_internal_fds",
        "_lent",
        "_listeners",
        "_old_agen_hooks",
        "_reads_signals",
        "_resolver",
        "_selector",
        "_signal_handlers",
        "_ssock",
        "_timer_cancelled_count",
        "_transports",
        "_unix_server_sockets",
        "_watches_signals",
        "slow_callback_duration",
    )

    if TYPE_CHECKING:  # attributes of asyncio's loops that typeshed does not know
        _asyncgen_finalizer_hook: Any
        _asyncgen_firstiter_hook: Any
        _check_closed: Any
        _getaddrinfo_debug: Any
        _old_agen_hooks: Any
        _set_coroutine_origin_tracking: Any

    def __init__(self, driver: DriverName | None = None, spin_us: float | None = None) -> None:
        try:
            spin_ns = choosing.choose_spin(spin_us)
            file_threads_max = pool.choose_threads_max()
            self._set_driver(self._first_driver(driver))
            self._set_spin(spin_ns)
        except BaseException:
            self._closed = True  # nothing is open yet: no warning
            raise
        base_events.BaseEventLoop.__init__(self)
        # The attributes that the selector loop's constructor would make, without the selector.
        self._selector = DriverSelector(self)
        self._transports: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
        self._signal_handlers: dict[int, events.Handle] = {}
        self._unix_server_sockets: dict[Any, int] = {}
        self._ssock = self._csock = self._old_agen_hooks = None
        self._listeners: dict[socket.socket, AcceptOp] = {}
        # Sockets that your code gave to the loop, and may close without telling the transport.
        self._lent: weakref.WeakSet[socket.socket] | None = None
        self._children: set[process.ChildWatch] = set()
        # Children that have ended while another process still has their pipes open.
        # The read end of such a pipe refers to the transport while the loop reads from it.
        self._ended_children: weakref.WeakSet[process.SubprocessTransport] | None = None
        self._resolver = names.Resolver()
        self._drain: Drain | None = None
        self._reads_signals = self._watches_signals = False
        self._driver_given = getattr(self, "_driver_given", False)  # by a class of your own
        # All but the first take the descriptors that the loop will need, as asyncio's constructor does.
        try:
            self._file_pool = pool.FilePool(self, file_threads_max)
            self._make_self_pipe()
            self._reserve_descriptors(self._ssock.fileno())
            registry.loops.add(self)
        except BaseException:
            if hasattr(self, "_file_pool"):
                self.close()
            raise

    def __del__(self) -> None:
        if hasattr(self, "_file_pool"):  # else its making was interrupted, and nothing is open yet
            super().__del__()

    @property
    def driver(self) -> DriverName:
        """The name of the loop's driver: "uring" or "epoll". For example, `print(loop.driver)`."""
        # To ask for __dict__ would make one.
        return self.__dict__["driver"] if self._driver_given else self._driver_name()

    @driver.setter
    def driver(self, value: Any) -> None:
        self.__dict__["driver"] = value  # your code's own, as on asyncio's loops
        self._driver_given = True

    @driver.deleter
    def driver(self) -> None:
        if self._driver_given:
            del self.__dict__["driver"]
            self._driver_given = False

    def __repr__(self) -> str:
        driver = "" if self.is_closed() else f"driver={self._driver_name()} "
        return (
            f"<{type(self).__module__}.{type(self).__qualname__} {driver}running={self.is_running()} "
            f"closed={self.is_closed()} debug={self.get_debug()}>"
        )

    def _first_driver(self, name: DriverName | None) -> Driver:
        """The driver that the loop begins with."""
        return choosing.choose(name)

    def _new_driver(self, error: int) -> Driver:
        """The driver that takes over if the present one cannot serve the thread that runs the loop."""
        return choosing.after_failure(error)

    # ---- running ----

    def run_forever(self) -> None:
        """Run until stop() is called."""
        self._check_may_run()
        try:
            self._prepare_run()
            self._run_turns()
        finally:
            self._run_forever_cleanup()

    def run_until_complete(self, future: Generator[Any, None, _T] | Awaitable[_T]) -> _T:
        """Run until a future or coroutine is done, and return its result. See
        asyncio.loop.run_until_complete.

        Raises its exception, or RuntimeError if the loop was stopped before.
        """
        try:
            self._check_may_run()
        except (SystemExit, KeyboardInterrupt):  # of a forked child: see _check_inherited()
            if asyncio.iscoroutine(future):
                future.close()
            raise
        made = not asyncio.isfuture(future)
        main: Any = asyncio.ensure_future(future, loop=self)  # type: ignore[arg-type]
        if made:
            main._log_destroy_pending = False  # an exception tells that it did not complete
        main.add_done_callback(_stop_loop_of)
        try:
            self.run_forever()
        except BaseException:
            if (made or self._is_inherited()) and main.done() and not main.cancelled():
                main.exception()  # the coroutine raised it, and no other code can reach the task
            raise
        finally:
            main.remove_done_callback(_stop_loop_of)
        if not main.done():
            raise RuntimeError("Event loop stopped before Future completed.")
        return main.result()  # type: ignore[no-any-return]

    def _run_forever_setup(self) -> None:
        self._check_may_run()
        self._prepare_run()
        self._watch_signals()

    def _check_running(self) -> None:
        if self.is_running():
            raise RuntimeError("This event loop is already running")
        if asyncio._get_running_loop() is not None:
            raise RuntimeError("Cannot run the event loop while another loop is running")

    @property
    def _nest_patched(self) -> bool:
        """Refuse nest_asyncio and similar patches, which look for this name before they patch a loop's
        class.
        """
        raise ValueError(f"Can't patch loop of type {type(self)}")

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if name != "_nest_patched"]

    def _check_may_run(self) -> None:
        if before_running:
            import_before_running()
        self._check_closed()
        self._check_inherited()
        self._check_running()
        if registry.on_run is not None:
            registry.on_run()

    def _prepare_run(self) -> None:
        """Get ready to run. _run_forever_cleanup() can undo this from any point where an interrupt stops
        it.
        """
        self._set_coroutine_origin_tracking(self._debug)
        self._old_agen_hooks = sys.get_asyncgen_hooks()
        self._thread_id = threading.get_ident()
        sys.set_asyncgen_hooks(
            firstiter=self._asyncgen_firstiter_hook, finalizer=self._asyncgen_finalizer_hook
        )
        events._set_running_loop(self)
        choosing.tell_running(self._driver_name())

    def _run_forever_cleanup(self) -> None:
        self._unwatch_signals()
        self._stopping = False
        self._thread_id = None
        events._set_running_loop(None)
        self._set_coroutine_origin_tracking(False)
        if self._old_agen_hooks is not None:
            sys.set_asyncgen_hooks(*self._old_agen_hooks)
            self._old_agen_hooks = None

    def set_debug(self, enabled: bool) -> None:
        """Turn debug mode on or off."""
        self._debug = enabled
        if self.is_running():
            self.call_soon_threadsafe(self._set_coroutine_origin_tracking, self._debug)

    def close(self) -> None:
        """Close the loop: drop all callbacks, and close its descriptors. See asyncio.loop.close.

        Raises RuntimeError if the loop is running.
        """
        self._check_may_close()
        if self.is_closed():
            return
        if self._file_pool.opens_in_kernel and asyncio._get_running_loop() is None:
            self.run_until_complete(self._file_pool.opens_ended())
        for child in list(self._children):
            child.close()
        for accepting in self._listeners.values():
            accepting.stop()
        self._listeners.clear()
        super().close()
        for transport in list(self._ended_children or ()):
            transport.close()
        self._ended_children = None
        self._resolver.close()
        self._release()
        self._file_pool.close()

    async def drain(self, deadline: float, *, quiet: float = 0.25) -> Drained:
        """End everything that this loop does within `deadline` seconds. Returns a Drained. Not in asyncio.

        Servers stop accepting. Each accepted connection is closed as soon as it is idle. That means:
        everything written was sent, nothing came since the last write, and nothing moved for `quiet`
        seconds. When none is left, or three quarters of the time have passed, all tasks are cancelled.
        Exempt are the callers of drain() and the tasks that wait for them. At the deadline, or when the
        tasks have ended, connections and datagram endpoints still open are aborted.

        A second call during a drain can only bring the deadline forward, and gets the same result. Raises
        ValueError if a time is negative or not a number.

            loop.add_signal_handler(signal.SIGTERM, stop.set)
            await stop.wait()
            outcome = await asyncio.get_running_loop().drain(10)
        """
        from hoop.loop.drain import Drain, check

        check(deadline, quiet)
        if self._drain is not None:
            self._drain.hasten(deadline)
            return await self._drain.join()
        self._drain = Drain(self, deadline, quiet)
        try:
            return await self._drain.run()
        finally:
            self._drain = None

    def _servers(self) -> list[Any]:
        """The servers that accept connections now."""
        return list(
            {id(op.server): op.server for op in self._listeners.values() if op.server}.values()
        )

    # ---- connections: asyncio chooses addresses and makes servers, the core moves the bytes ----

    create_connection = _with_lent_socket("create_connection")
    create_unix_connection = _with_lent_socket("create_unix_connection")
    connect_accepted_socket = _with_lent_socket("connect_accepted_socket")
    create_datagram_endpoint = _with_lent_socket("create_datagram_endpoint")

    def _lend(self, sock: socket.socket) -> None:
        if self._lent is None:
            self._lent = weakref.WeakSet()
        self._lent.add(sock)

    def _is_lent(self, sock: socket.socket) -> bool:
        return self._lent is not None and sock in self._lent

    async def _create_connection_transport(
        self,
        sock: socket.socket,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        ssl: Any,
        server_hostname: str | None,
        server_side: bool = False,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        context: contextvars.Context | None = None,
    ) -> Any:
        if context is None and GIVES_CONTEXTS:
            context = contextvars.copy_context()
        options: dict[str, Any] = {} if context is None else {"context": context}
        try:
            sock.setblocking(False)
            protocol = protocol_factory()
            waiter = self.create_future()
            if ssl:
                transport = self._make_ssl_transport(
                    sock,
                    protocol,
                    None if isinstance(ssl, bool) else ssl,
                    waiter,
                    server_side=server_side,
                    server_hostname=server_hostname,
                    ssl_handshake_timeout=ssl_handshake_timeout,
                    ssl_shutdown_timeout=ssl_shutdown_timeout,
                    **options,
                )
            else:
                transport = self._make_socket_transport(sock, protocol, waiter, **options)
        except BaseException:
            if CLOSES_THE_UNUSED:
                sock.close()
            raise
        try:
            await waiter
        except BaseException:
            transport.close()
            # As asyncio does when it accepts. The waiter keeps the exception, and its traceback this frame.
            # That circle would leave a failed handshake to the garbage collector.
            waiter = None  # type: ignore[assignment]
            raise
        return transport, protocol

    def _make_socket_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        *,
        extra: dict[str, Any] | None = None,
        server: Any = None,
        context: contextvars.Context | None = None,
    ) -> Any:
        self._ensure_fd_no_transport(sock)
        lent = self._is_lent(sock)
        return open_stream(self, sock, protocol, waiter, extra, server, lent, context)

    def _make_datagram_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        address: Any = None,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> Any:
        self._ensure_fd_no_transport(sock)
        return open_datagram(self, sock, protocol, address, waiter, extra, self._is_lent(sock))

    def _make_ssl_transport(
        self,
        rawsock: socket.socket,
        protocol: asyncio.BaseProtocol,
        sslcontext: Any,
        waiter: asyncio.Future[None] | None = None,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        extra: dict[str, Any] | None = None,
        server: Any = None,
        ssl_handshake_timeout: float | None = constants.SSL_HANDSHAKE_TIMEOUT,
        ssl_shutdown_timeout: float | None = constants.SSL_SHUTDOWN_TIMEOUT,
        context: contextvars.Context | None = None,
    ) -> Any:
        self._ensure_fd_no_transport(rawsock)
        from hoop.tls import setup  # only now: many programs never need it

        transport = setup.new_transport(
            self,
            protocol,
            sslcontext,
            waiter,
            server_side=server_side,
            server_hostname=server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        lent = self._is_lent(rawsock)
        open_stream(self, rawsock, transport._ssl_protocol, None, extra, server, lent, context)
        return transport

    async def start_tls(
        self,
        transport: Any,
        protocol: asyncio.BaseProtocol,
        sslcontext: Any,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> Any:
        """Upgrade a connection to TLS, and return the transport to use from now on. See
        asyncio.loop.start_tls.

        If the protocol belongs to a StreamReader, data that the reader holds counts as the first TLS
        records. Raises ConnectionResetError if the connection is lost during the handshake.
        """
        from hoop.tls import setup

        return await setup.upgrade(
            self,
            transport,
            protocol,
            sslcontext,
            server_side=server_side,
            server_hostname=server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )

    def _start_serving(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        sock: socket.socket,
        sslcontext: Any = None,
        server: Any = None,
        backlog: int = 100,
        ssl_handshake_timeout: float | None = constants.SSL_HANDSHAKE_TIMEOUT,
        ssl_shutdown_timeout: float | None = constants.SSL_SHUTDOWN_TIMEOUT,
        context: contextvars.Context | None = None,
    ) -> None:
        accept_tls = None
        if sslcontext:
            from hoop.tls import setup

            accept_tls = functools.partial(
                setup.accept,
                self,
                protocol_factory,
                sslcontext,
                server,
                ssl_handshake_timeout,
                ssl_shutdown_timeout,
            )
        accepting = AcceptOp(self, sock, protocol_factory, server, backlog, accept_tls, context)
        accepting.start()
        self._listeners[sock] = accepting

    def _stop_serving(self, sock: socket.socket) -> None:
        accepting = self._listeners.pop(sock, None)
        if accepting is not None:
            accepting.stop()
        if sock.fileno() < 0:  # your code closed it: asyncio raises a ValueError
            self._unix_server_sockets.pop(sock, None)
            return
        super()._stop_serving(sock)  # type: ignore[misc]

    def _ensure_fd_no_transport(self, fd: Any) -> None:
        number = fd
        if not isinstance(number, int):
            try:
                number = int(number.fileno())
            except (AttributeError, TypeError, ValueError):
                raise ValueError(f"Invalid file object: {fd!r}") from None
        transport = self._transport_of(number) or self._transports.get(number)
        if transport is not None and not transport.is_closing():
            raise RuntimeError(f"File descriptor {fd!r} is used by transport {transport!r}")

    async def _sendfile_native(self, transp: Any, file: Any, offset: int, count: int | None) -> int:
        was_reading = transp.is_reading()
        transp.pause_reading()
        await transp._make_empty_waiter()
        try:
            with self._lend_descriptor(transp):
                return await self.sock_sendfile(transp._sock, file, offset, count, fallback=False)
        finally:
            transp._reset_empty_waiter()
            if was_reading:
                transp.resume_reading()

    @contextlib.contextmanager
    def _lend_descriptor(self, transport: Any) -> Iterator[None]:
        """Let the sock_* methods use a transport's descriptor while the transport leaves it alone."""
        number = transport._sock_fd
        self._set_transport(number, None)
        try:
            yield
        finally:
            self._set_transport(number, transport)

    def _ensure_resolved(  # not async: an async function adds a frame to tracebacks
        self,
        address: Any,
        *,
        family: int = 0,
        type: int = socket.SOCK_STREAM,
        proto: int = 0,
        flags: int = 0,
        loop: EventLoop,
    ) -> Any:
        async def of_protocol() -> Any:
            return [(f, t, proto, name, a) for f, t, _, name, a in await found]

        # An address is the same under each protocol, and the C library does not know all, such as MPTCP.
        known = 0 if type in KINDS and proto not in PROTOCOLS else proto
        found = super()._ensure_resolved(  # type: ignore[misc]
            address, family=family, type=type, proto=known, flags=flags, loop=loop
        )
        return found if known == proto else of_protocol()

    @functools.wraps(base_events.BaseEventLoop.create_server)
    async def create_server(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        try:
            server = await super().create_server(*args, **kwargs)
        except OSError as exc:
            if (
                exc.errno is None
            ):  # asyncio takes every failed socket() for a missing address family
                _check_sockets_can_be_made(exc)
            raise
        if not server.sockets:
            try:
                _check_sockets_can_be_made(None)
            except OSError:
                server.close()
                raise
        return server

    # ---- pipes and child processes ----

    def _make_read_pipe_transport(
        self,
        pipe: Any,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> Any:
        from hoop.pipes.reader import open_read_pipe

        return open_read_pipe(self, pipe, protocol, waiter, extra)

    def _make_write_pipe_transport(
        self,
        pipe: Any,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> Any:
        from hoop.pipes.writer import open_write_pipe

        return open_write_pipe(self, pipe, protocol, waiter, extra)

    async def _make_subprocess_transport(self, *args: Any, **kwargs: Any) -> Any:
        from hoop.processes.process import open_process

        return await open_process(self, *args, **kwargs)

    def _keep_ended_child(self, transport: process.SubprocessTransport) -> None:
        if self._ended_children is None:
            self._ended_children = weakref.WeakSet()
        self._ended_children.add(transport)

    # ---- names ----

    async def getaddrinfo(
        self,
        host: Any,
        port: Any,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        """Look up a host's addresses without blocking. See asyncio.loop.getaddrinfo.

        Raises socket.gaierror if the host is not known.
        """
        found = names.resolve_literal(host, port, family, type, proto, flags)
        if found is not None:
            self._check_closed()
            return found
        resolve = self._getaddrinfo_debug if self._debug else socket.getaddrinfo
        return await self._look_up(resolve, host, port, family, type, proto, flags)

    async def getnameinfo(self, sockaddr: Any, flags: int = 0) -> Any:
        """Look up an address's name without blocking. See asyncio.loop.getnameinfo."""
        return await self._look_up(socket.getnameinfo, sockaddr, flags)

    def _look_up(self, call: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        self._check_closed()
        return asyncio.wrap_future(self._resolver.submit(call, *args), loop=self)


def _check_sockets_can_be_made(instead: OSError | None) -> None:
    """Raise the OSError of socket() if the process lacks descriptors or memory."""
    try:
        socket.socket().close()
    except OSError as exc:
        raise exc from instead


class DriverSelector:
    """A stand-in for a selector: asyncio's transports ask it for their repr which events are watched."""

    def __init__(self, loop: EventLoop) -> None:
        self._loop = weakref.ref(loop)

    def get_key(self, fd: int) -> selectors.SelectorKey:
        """The events watched on a descriptor, in the form of selectors. KeyError if there are none."""
        loop = self._loop()
        handles = (None, None) if loop is None else loop._watched(fd)
        if handles == (None, None):
            raise KeyError(f"{fd!r} is not registered")
        events = selectors.EVENT_READ * (handles[0] is not None)
        events |= selectors.EVENT_WRITE * (handles[1] is not None)
        return selectors.SelectorKey(fd, fd, events, handles)

    def close(self) -> None:
        """Do nothing: the driver belongs to the loop."""


def new_event_loop(driver: DriverName | None = None, spin_us: float | None = None) -> EventLoop:
    """Return a new hoop event loop, for example for `loop_factory=`. For the arguments see EventLoop.

    For example:

        asyncio.run(main(), loop_factory=hoop.new_event_loop)  # Python 3.12 or later
    """
    return EventLoop(driver, spin_us)
