"""Tables with columns of every kind: a public schema, codes, and cells in their formats."""
