"""Tables with columns of any type, a public schema, and codes."""
