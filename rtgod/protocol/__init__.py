"""Messages between processes: frames, keys, authentication, and the clients' side of each socket."""
