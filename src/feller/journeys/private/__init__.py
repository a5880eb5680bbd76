"""What a private fit may know, what it spends, and what it promises."""
