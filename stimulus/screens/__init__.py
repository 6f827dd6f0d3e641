"""What the participant sees, as plain values: no window, no font, no clock."""
