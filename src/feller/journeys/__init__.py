"""What people come for, as functions: from data to a run, from a run to samples, from samples to numbers."""
