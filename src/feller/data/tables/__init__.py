"""Tables: columns of any type, public schemas, and integer codes of cells."""
