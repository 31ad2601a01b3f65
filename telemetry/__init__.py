"""What every process says about itself: log lines, counters, health. Knows no service and no record."""
