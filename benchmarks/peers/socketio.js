// Rooms on Socket.IO, over WebSocket only: its in-memory adapter encodes a message once for a room.
"use strict";
const { createServer } = require("http");
const { Server } = require("socket.io");

const http = createServer();
const io = new Server(http, {
  transports: ["websocket"],
  perMessageDeflate: false,
  serveClient: false,
  pingInterval: 3_600_000,
});
let seq = 0;

io.on("connection", (socket) => {
  const { room, user } = socket.handshake.query;
  socket.join(room);
  socket.on("message", (d) => {
    seq += 1;
    io.to(room).emit("message", {
      message_id: `msg_${String(seq).padStart(22, "0")}`,
      channel_id: room,
      seq,
      author_id: user,
      message_type: "TEXT",
      content: d.content,
      timestamp: Date.now(),
    });
  });
});
http.listen({ host: "127.0.0.1", port: 0, backlog: 4096 }, () => console.log(http.address().port));
