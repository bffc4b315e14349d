"""The way to a backend and back: connections, attempts, streams and what is known of health."""
