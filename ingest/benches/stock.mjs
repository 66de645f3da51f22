// What the stock function of CloudWatch's console does between its call and its request:
//   node stock.mjs PAYLOAD [--once]
// Written from a description of its behaviour, with Node's own gunzip and JSON. It prints events a second, of a payload
// of a thousand; --once does it one time and prints the bytes of the body.
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";

const isNumeric = (text) => !Number.isNaN(Number.parseFloat(text)) && Number.isFinite(Number(text));

function parsed(text) {
  const start = text.indexOf("{");
  if (start < 0) return null;
  try {
    return JSON.parse(text.substring(start));
  } catch {
    return null;
  }
}

function fields(event) {
  if (!event.extractedFields) return parsed(event.message) ?? {};
  const found = {};
  for (const [key, value] of Object.entries(event.extractedFields)) {
    if (!value) continue;
    if (isNumeric(value)) {
      found[key] = Number(value);
      continue;
    }
    const object = parsed(value);
    if (object) found[`$${key}`] = object;
    found[key] = value;
  }
  return found;
}

function bulk(payload) {
  const delivery = JSON.parse(gunzipSync(Buffer.from(payload.awslogs.data, "base64")).toString("utf8"));
  if (delivery.messageType === "CONTROL_MESSAGE") return null;
  let body = "";
  for (const event of delivery.logEvents) {
    const time = new Date(1 * event.timestamp);
    const two = (number) => String(number).padStart(2, "0");
    const index = `cwl-${time.getUTCFullYear()}.${two(time.getUTCMonth() + 1)}.${two(time.getUTCDate())}`;
    const source = fields(event);
    source["@id"] = event.id;
    source["@timestamp"] = time.toISOString();
    source["@message"] = event.message;
    source["@owner"] = delivery.owner;
    source["@log_group"] = delivery.logGroup;
    source["@log_stream"] = delivery.logStream;
    const action = { index: { _index: index, _type: delivery.logGroup, _id: event.id } };
    body += `${JSON.stringify(action)}\n${JSON.stringify(source)}\n`;
  }
  // As it would be written to a socket.
  return Buffer.from(body, "utf8");
}

const text = readFileSync(process.argv[2], "utf8");
const events = 1000;
// Lambda's Node parses the payload before the function sees it: so it counts, as it does on the other side.
const run = () => bulk(JSON.parse(text));
if (process.argv[3] === "--once") {
  console.log(run().length);
  process.exit();
}
for (let warm = 0; warm < 50; warm += 1) run();
const times = [];
for (let nth = 0; nth < 100; nth += 1) {
  const start = process.hrtime.bigint();
  run();
  times.push(Number(process.hrtime.bigint() - start) / 1e9);
}
times.sort((one, other) => one - other);
console.log(Math.round(events / times[times.length / 2]));
