"""Child processes: starting one without copying memory or blocking the loop, and waiting for its end.

Nothing here is public. Users call asyncio.create_subprocess_exec() or loop.subprocess_exec().
"""
