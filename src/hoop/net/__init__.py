"""Connections, datagrams and listening sockets, from the driver to the protocol and back."""
