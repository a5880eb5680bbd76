"""A toy world of shapes, creatures with made-up names, maps and letters, with words about them."""
