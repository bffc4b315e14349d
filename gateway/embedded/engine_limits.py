"""How much the embedded engine takes on at once; known without loading the engine."""

#: Requests decoded side by side.
SLOTS = 4
#: Tokens of prompt and answer together, for each of them.
CONTEXT_TOKENS = 4096
