"""Descriptors and sockets of the user's: add_reader(), add_writer(), and loop.sock_recv() and its like.

Nothing here is public. Users call these methods of the loop.
"""
