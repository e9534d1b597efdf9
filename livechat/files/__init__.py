"""Files that messages refer to: what may be one, where its bytes and its row are kept, who may have it."""
