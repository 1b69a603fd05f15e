"""TLS on a connection: records, the layer between stream and protocol, the transport that users see."""
