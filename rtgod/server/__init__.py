"""The server: sockets, sessions, status, and the continuation of a session after a server died."""
