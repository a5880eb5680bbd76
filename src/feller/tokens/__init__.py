"""Documents as one sequence of tokens: hidden spans, retrieval, packing, and drawing token after token."""
