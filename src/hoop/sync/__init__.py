"""Locks, events, conditions, barriers and queues."""
