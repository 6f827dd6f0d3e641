"""What a running scanner sends, as runs and volumes: files that appear in a folder, and images over the network."""
