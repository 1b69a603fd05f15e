"""The event loop policy, for code that still chooses its loop by one.

Python 3.14 deprecates policies, and 3.16 has none. So hoop imports this module only when your code asks for
`hoop.EventLoopPolicy` or calls `hoop.install()`. From 3.14 on, to ask for it gives asyncio's
DeprecationWarning. install() gives none.
"""

from __future__ import annotations

import sys
from asyncio import events
from typing import TYPE_CHECKING, Any

from hoop.loop.event_loop import EventLoop

if TYPE_CHECKING or sys.version_info < (3, 14):
    from asyncio import DefaultEventLoopPolicy
else:
    from asyncio.unix_events import _DefaultEventLoopPolicy as DefaultEventLoopPolicy


class EventLoopPolicy(DefaultEventLoopPolicy):
    """asyncio's event loop policy, whose new_event_loop() makes a hoop loop.

    For example:

        asyncio.set_event_loop_policy(hoop.EventLoopPolicy())
        asyncio.run(main())  # runs on hoop
    """

    __module__ = "hoop"

    _loop_factory = EventLoop


def current() -> Any:
    """The policy of this process; None if nothing has asked for one yet."""
    return events._event_loop_policy  # type: ignore[attr-defined]


def put(policy: Any) -> None:
    """Make `policy` the one of this process, without the warning that asyncio gives from 3.14 on."""
    events._event_loop_policy = policy  # type: ignore[attr-defined]
