"""Model families: sampling and log-likelihood of trained networks."""
