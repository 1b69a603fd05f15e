"""timeout(), TaskGroup, gather() and other functions on several tasks: compiled versions of asyncio's."""
