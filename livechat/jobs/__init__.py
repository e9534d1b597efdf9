"""Jobs: what is answered at once, done later, and told of as it goes on."""
