"""Media workers: processes that relay beside the gateway's, each for its share of the channels."""
