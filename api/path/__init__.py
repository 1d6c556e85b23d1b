"""What a transaction meets on its way from the bytes of a request to a durable decision."""
