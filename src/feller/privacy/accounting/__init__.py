"""Privacy accounting: computation of the epsilon, delta, Rényi and zCDP cost of private releases."""
