"""What an operator may change: settings, the schedule and the example programs. Imports nothing else of refill."""
