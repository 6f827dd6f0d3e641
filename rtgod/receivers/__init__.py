"""What a running scanner sends, as runs and volumes: files that appear in a folder, in the order of acquisition."""
