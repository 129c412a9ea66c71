"""Forced alignment that trains itself on the corpus at hand: nothing but the recordings and what is said in them."""
