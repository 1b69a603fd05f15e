"""The disk of a simulation, in memory."""
