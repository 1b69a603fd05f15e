"""The event loop for users: the compiled core with the rest of asyncio's interface around it."""

from hoop.loop.event_loop import EventLoop, new_event_loop

__all__ = ["EventLoop", "new_event_loop"]
