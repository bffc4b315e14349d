"""From a request to a decision: what is asked, what is predicted, what is chosen."""
