"""How many gateways, Redis and pools a rate takes, by what one process was measured to use."""
