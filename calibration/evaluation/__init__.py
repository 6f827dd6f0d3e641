"""New runs decoded and judged."""
