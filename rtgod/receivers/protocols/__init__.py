"""Protocols of other tools, whose messages are volumes: bytes to messages in one module, sockets in another."""
