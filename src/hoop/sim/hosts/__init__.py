"""Hosts of a simulation: each has a program, a loop, an address and a disk."""
