"""Making the student do less: rows that leave the network early."""
