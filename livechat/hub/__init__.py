"""Who is where and who must hear what: users, channels, media peers, deadlines. Pure."""
