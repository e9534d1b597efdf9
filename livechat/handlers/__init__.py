"""One file per opcode family: a request in, changes to hubs and store, a reply and events out."""
