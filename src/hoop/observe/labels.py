"""Labels: the request that a task or a callback serves, for those who look into the program.

A label is the text of label() in the context of a task or a callback. Without one it is the current request
of uvicorn or aiohttp, found by the frame of their task. No code of the program runs for it.
"""

from __future__ import annotations

import types
from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import Context, ContextVar, Token
from typing import Any

from hoop.observe.reading import LABEL_MAX, context_of, field, is_task, peer, plain, raw, variable
from hoop.scheduling.handle import Handle

SHOWN_MAX = 8
INT_MAX = 1 << 64

_label: ContextVar[str] = ContextVar("hoop.label")
_shown: list[ContextVar[Any]] = []
_mro: Any = type.__dict__["__mro__"]
_module: Any = type.__dict__["__module__"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


# ---- for programs ----------------------------------------------------------------------------------


class label:
    """Label what runs inside of `with`, and the tasks that are made there.

    Stalls, tasks and connections are shown with the label. It is cut at 200 characters. Raises TypeError if
    `text` is no str.

        with hoop.observe.label("import of orders"):
            await import_orders()
    """

    __slots__ = ("_text", "_token")

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise TypeError(f"a label is a str, not {type(text).__name__}")
        self._text = text if len(text) <= LABEL_MAX else text[:LABEL_MAX]
        self._token: Token[str] | None = None

    def __enter__(self) -> None:
        self._token = _label.set(self._text)

    def __exit__(self, *exc: object) -> None:
        token, self._token = self._token, None
        if token is None:
            return
        try:
            _label.reset(token)
        except ValueError:
            pass  # an asynchronous generator is closed in another context, which has no such label


def asgi(app: Application) -> Application:
    """Label each request and each websocket of an ASGI application by method, path and client.

    The query is left out.

        app = hoop.observe.asgi(app)
    """

    async def labelled(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await app(scope, receive, send)
        with label(of_scope(scope)):
            return await app(scope, receive, send)

    return labelled


def show(var: ContextVar[Any]) -> None:
    """Show a ContextVar that holds a str or an int beside the label, such as a trace id.

    Up to 8 variables are shown. Raises TypeError for anything else than a ContextVar, and ValueError for a
    ninth one.

        hoop.observe.show(trace_id)
    """
    if type(var) is not ContextVar:
        raise TypeError(f"a ContextVar is shown, not {type(var).__name__}")
    if var in _shown:
        return
    if len(_shown) >= SHOWN_MAX:
        raise ValueError(f"more than {SHOWN_MAX} variables cannot be shown")
    _shown.append(var)


# ---- for those who look ----------------------------------------------------------------------------


def of_task(task: Any, coroutines: list[Any]) -> str:
    """The label of a task, whose coroutines are these; "" if it has none."""
    context = context_of(task)
    return joined(labelled(context) or request_of(coroutines), context)


def of_runnable(runnable: Any) -> str:
    """The label of a task or a callback; "" for an operation."""
    if is_task(runnable):
        first = raw(runnable, "_coro")
        return of_task(runnable, [first] if first is not None else [])
    if issubclass(type(runnable), Handle):
        context = Handle.get_context(runnable)
        return joined(labelled(context), context)
    return ""


def labelled(context: Context | None) -> str:
    """The text that label() has set in a context."""
    text = None if context is None else context.get(_label)
    return "" if text is None else plain(text)


def joined(text: str, context: Context | None) -> str:
    """Add what show() was asked to show."""
    if not _shown or context is None:
        return text
    parts = [text] if text else []
    for var in list(_shown):
        value: Any = context.get(var)
        kind = type(value)
        if kind is str or (kind is int and -INT_MAX < value < INT_MAX):
            parts.append(f"{var.name}={plain(str(value))}")
    return " ".join(parts)[:LABEL_MAX]


def said(method: Any, path: Any, client: Any) -> str:
    """A label for a request, of those three that are known. The query is left out."""
    parts = [part for part in (method, path) if type(part) is str and part]
    if type(path) is str:
        parts[-1:] = [path.partition("?")[0]]
    return plain(" ".join([*parts, peer(client)]).rstrip())


def of_scope(scope: Any) -> str:
    """A label for an ASGI scope."""
    client = scope.get("client")
    return said(
        "WebSocket" if scope.get("type") == "websocket" else scope.get("method"),
        scope.get("path"),
        tuple(client) if type(client) is list else client,
    )


# ---- the current request of a framework ------------------------------------------------------------


def request_of(coroutines: list[Any]) -> str:
    """The request that uvicorn or aiohttp has a task's first coroutine for; "" if it is none of theirs."""
    scope, request = requested(coroutines)
    return of_scope(scope) if scope is not None else of_aiohttp(request)


def client_of(coroutines: list[Any]) -> str:
    """The address of the client that has sent that request."""
    scope, request = requested(coroutines)
    if scope is not None:
        client = scope.get("client")
        return peer(tuple(client) if type(client) is list else client)
    return peer(field(request, "_transport_peername")) if is_of_aiohttp(request) else ""


def requested(coroutines: list[Any]) -> tuple[dict[str, Any] | None, Any]:
    """The ASGI scope, or else the request of aiohttp's, that a task's first coroutine is for."""
    if not coroutines or type(coroutines[0]) is not types.CoroutineType:
        return None, None
    code = coroutines[0].cr_code
    if code.co_name == "run_asgi" and "uvicorn" in code.co_filename:
        scope = field(local(coroutines[0], "self"), "scope")
        return (scope if type(scope) is dict else None), None
    if code.co_name == "_handle_request" and "aiohttp" in code.co_filename:
        return None, local(coroutines[0], "request")
    if code.co_qualname == "RequestHandler.start" and "aiohttp" in code.co_filename:
        return None, field(local(coroutines[0], "self"), "_current_request")
    return None, None


def is_of_aiohttp(request: Any) -> bool:
    return any(_module.__get__(cls) == "aiohttp.web_request" for cls in _mro.__get__(type(request)))


def of_aiohttp(request: Any) -> str:
    """A label for a request of aiohttp's."""
    if not is_of_aiohttp(request):
        return ""
    message = field(request, "_message")
    is_tuple = issubclass(type(message), tuple) and tuple.__len__(message) > 1
    path = tuple.__getitem__(message, 1) if is_tuple else field(message, "path")
    return said(field(request, "_method"), path, field(request, "_transport_peername"))


def local(coro: Any, name: str) -> Any:
    """A local variable of a coroutine, suspended or running; None if it has none of that name."""
    frame = coro.cr_frame
    return None if frame is None else variable(frame, name)
