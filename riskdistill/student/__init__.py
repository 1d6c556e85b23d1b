"""Making the student do less: rows that leave the network early, and units that are cut out."""
