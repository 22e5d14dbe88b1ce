"""What goes on beside the steps: the rate, the log, validation, the film."""
