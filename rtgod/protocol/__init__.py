"""Messages between processes: frames, keys, authentication, and the clients' side of every socket."""
