"""What runs refill: the only house that knows the queue, the scheduler, the stream and the command line."""
