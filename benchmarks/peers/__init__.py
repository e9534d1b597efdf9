"""Programs to compare with: what a developer could write, or put together, instead.

Relays of media read their rooms as JSON on standard input (see `benchmarks.peers.rooms`) and print the UDP port
they listen on. Chat servers (`ws.js`, `socketio.js`, `websockets_broadcast`, `socketio_rooms`,
`trio_websocket_rooms`) print the TCP port; a member's address names its room and itself, and whatever it says all
members of the room hear. All run until they are killed.
"""
