// Echo a node and store files to it with dcmjs-dimse; the answers go to standard output as JSON.
// node send.cjs HOST PORT CALLING CALLED KEY CERTIFICATE CA FILE...   ("" where there is no TLS)
const fs = require("node:fs");
const dimse = require(`${process.env.NODE_PATH}/dcmjs-dimse`);

dimse.log.setLevel("error");
const [host, port, calling, called, key, cert, ca, ...files] = process.argv.slice(2);
const statuses = [];
const requests = [
  new dimse.requests.CEchoRequest(),
  ...files.map((file) => new dimse.requests.CStoreRequest(file)),
];
const client = new dimse.Client();
for (const request of requests) {
  request.on("response", (response) => statuses.push(response.getStatus()));
  client.addRequest(request);
}
client.on("networkError", (error) => {
  console.error(String(error));
  process.exitCode = 1;
});
client.on("closed", () => console.log(JSON.stringify(statuses)));
const read = (path) => fs.readFileSync(path);
const securityOptions = key
  ? { key: read(key), cert: read(cert), ca: read(ca), rejectUnauthorized: true }
  : undefined;
client.send(host, Number(port), calling, called, { securityOptions });
