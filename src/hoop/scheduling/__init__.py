"""Callbacks, timers, futures and tasks: all that takes turns, and the part of a loop that it needs."""
