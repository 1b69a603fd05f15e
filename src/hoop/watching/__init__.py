"""The user's own descriptors and sockets: add_reader(), add_writer(), loop.sock_recv() and its like.

Nothing here is public. Users call these methods of the loop.
"""
