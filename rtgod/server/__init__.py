"""The server's side: sockets, sessions, status, and how a server that died goes on."""
