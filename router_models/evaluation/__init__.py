"""How good a router is on prompts it has not seen, beside baselines that cost nothing."""
