"""From measured outcomes to a router: reading the data, and fitting on its training rows alone."""
