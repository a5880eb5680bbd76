"""Pictures of shapes and creatures with texts about them, as `feller data scenes` writes them."""
