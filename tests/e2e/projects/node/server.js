const http = require("http");
const leftPad = require("left-pad");

http.createServer((request, response) => {
  response.end(`${leftPad(process.env.NODE_ENV, 12, ".")} ${process.getuid()}\n`);
}).listen(3000, () => console.log("listening"));

process.on("SIGTERM", () => process.exit(0));
