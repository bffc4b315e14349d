"""Running the application: sockets, workers and an orderly end."""
