"""Streams: a reader, a writer, and the functions that open connections and start servers."""

from hoop.processes.output import KEEPING
from hoop.streams.opening import (
    open_connection,
    open_unix_connection,
    start_server,
    start_unix_server,
)
from hoop.streams.output import NativeOutputReader
from hoop.streams.reader import StreamReader

__all__ = ["open_connection", "open_unix_connection", "start_server", "start_unix_server"]

KEEPING[StreamReader] = NativeOutputReader
