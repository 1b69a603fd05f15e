"""The event loop policy, for code that still chooses its loop by one.

Python 3.14 deprecates policies and 3.16 has none: this module is imported when `hoop.EventLoopPolicy` is
first asked for, and then says what asyncio says.
"""

from __future__ import annotations

import asyncio

from hoop.loop.event_loop import EventLoop


class EventLoopPolicy(asyncio.DefaultEventLoopPolicy):
    """asyncio's policy, whose new_event_loop() gives a hoop loop."""

    _loop_factory = EventLoop
