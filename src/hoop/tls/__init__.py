"""TLS on a connection: records, a layer between stream and protocol, and the transport that protocols see.

Nothing here is public. Users pass `ssl=` to loop.create_connection() and its like.
"""
