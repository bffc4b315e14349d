"""The retriever router: outcomes of the pilots nearest to a prompt."""
