"""How far examples are apart, and which are the same, each kind of data by its own notion."""
