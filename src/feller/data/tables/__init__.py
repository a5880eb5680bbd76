"""Tables with columns of any type: public schemas, and encoding of cells as integer codes."""
