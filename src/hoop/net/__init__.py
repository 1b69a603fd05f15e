"""TCP and Unix connections, UDP endpoints and listening sockets: the transports that protocols use.

Nothing here is public. Users get transports from loop.create_connection() and its like.
"""
