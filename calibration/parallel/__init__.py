"""Work on several processes or machines, how far it has come, and where its time goes."""
