"""Locks, events, semaphores, conditions, barriers and queues: compiled versions of asyncio's."""
