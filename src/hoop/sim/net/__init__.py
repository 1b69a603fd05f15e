"""The network of a simulation: what happens between the sockets of a program."""
