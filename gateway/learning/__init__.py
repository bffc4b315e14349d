"""The loop that learns routers from traffic: versions, evidence, judgement. The gateway only reads."""
