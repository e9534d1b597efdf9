// Rooms on the package `ws`, as its README has it: serialise once, then send to every client of the room.
"use strict";
const { WebSocketServer, WebSocket } = require("ws");

// With compression: as it comes, that is with a window kept for each client.
const server = new WebSocketServer({ host: "127.0.0.1", port: 0, backlog: 4096, perMessageDeflate: process.env.PEER_DEFLATE === "1" });
const rooms = new Map();

server.on("listening", () => console.log(server.address().port));
server.on("connection", (socket, request) => {
  const [, name, user] = request.url.split("/");
  let room = rooms.get(name);
  if (room === undefined) rooms.set(name, (room = { clients: new Set(), seq: 0 }));
  room.clients.add(socket);
  socket.on("close", () => room.clients.delete(socket));
  socket.on("error", () => socket.terminate());
  socket.on("message", (data) => {
    const { d } = JSON.parse(data);
    room.seq += 1;
    const event = {
      op: 101,
      d: {
        message_id: `msg_${String(room.seq).padStart(22, "0")}`,
        channel_id: name,
        seq: room.seq,
        author_id: user,
        message_type: "TEXT",
        content: d.content,
        timestamp: Date.now(),
      },
    };
    const payload = Buffer.from(JSON.stringify(event));
    for (const client of room.clients) {
      if (client.readyState === WebSocket.OPEN) client.send(payload, { binary: false });
    }
  });
  socket.send('{"op":4}');
});
