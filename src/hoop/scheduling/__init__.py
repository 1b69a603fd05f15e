"""Callbacks, timers, coroutines, futures and tasks, and the part of the event loop that they need.

Nothing here is public. Users import `Future`, `Task` and the others from `hoop`.
"""
