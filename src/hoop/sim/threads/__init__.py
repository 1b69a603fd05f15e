"""Threads of a simulation: real ones that take turns, in an order that the seed decides."""
