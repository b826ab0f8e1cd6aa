"""The card processor: what refill asks of one, the real one behind its SDK, and a sandbox that speaks the same HTTP."""
