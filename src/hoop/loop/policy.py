"""The event loop policy, for code that still chooses its loop by one.

Python 3.14 deprecates policies, and 3.16 has none. So hoop imports this module only when your code asks for
`hoop.EventLoopPolicy`. From 3.14 on you then see asyncio's DeprecationWarning.
"""

from __future__ import annotations

import asyncio

from hoop.loop.event_loop import EventLoop


class EventLoopPolicy(asyncio.DefaultEventLoopPolicy):
    """asyncio's event loop policy, whose new_event_loop() makes a hoop loop.

    For example:

        asyncio.set_event_loop_policy(hoop.EventLoopPolicy())
        asyncio.run(main())  # runs on hoop
    """

    __module__ = "hoop"

    _loop_factory = EventLoop
