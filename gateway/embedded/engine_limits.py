"""How much the embedded engine takes on at once; known without loading the engine."""

#: Requests decoded side by side.
SLOTS = 4
#: Tokens of prompt and answer together, for each of them.
CONTEXT_TOKENS = 4096
#: More threads than this gain nothing on a model of this size.
MAX_THREADS = 4
