"""Privacy accounting: epsilon, delta, Rényi and zero-concentrated differential privacy."""
