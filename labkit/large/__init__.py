"""What large models need: a network that may not be trained again, and what can be cut from it all the same."""
