"""Commands that work offline, one module each; packages that take long to import are imported when a command runs."""
