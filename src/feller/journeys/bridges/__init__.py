"""What a bridge between populations is made of: what was asked, its costs and rooms, its rounds, what it leaves."""
