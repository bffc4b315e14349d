"""What each request used and cost: one record a request, on every way it can end."""
