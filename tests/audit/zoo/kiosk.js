// A kiosk in plain Node, without any package: `node kiosk.js FAULT`. It signs in with JSON, from a
// script, and prints its port. Sessions are records here, the cookie is 32 random bytes.
"use strict";
const crypto = require("node:crypto");
const http = require("node:http");

const fault = process.argv.slice(2).join(" ");
const sessions = new Map();
let counter = 1000, motto = "none";

const token = () => {
  counter += 1;
  if (fault === "counts") return crypto.createHash("md5").update(String(counter)).digest("hex");
  if (fault === "Math.random") return Math.floor(Math.random() * 1e9).toString().padStart(9, "1");
  return crypto.randomBytes(32).toString("hex");
};
const cookies = (request) => Object.fromEntries(
  (request.headers.cookie || "").split(/; */).map((pair) => pair.split("=")));
const body = (request) => new Promise((done) => {
  let text = "";
  request.on("data", (part) => { text += part; });
  request.on("end", () => done(text));
});
const foreign = (request) => {
  if (fault === "no origin check") return false;
  const origin = request.headers.origin;
  if (fault === "origin by regular expression") return !/127.0.0.1/.test(origin || "");
  return origin !== `http://${request.headers.host}`;
};
const page = `<title>Kiosk</title><input id="username"><input id="password" type="password">
<script>const enter = (json) => fetch("/api/enter-session", { method: "POST",
headers: { "Content-Type": "application/json" }, body: JSON.stringify(json) });
const leave = () => fetch("/api/logout", { method: "POST" });</script>`;

http.createServer(async (request, response) => {
  const url = new URL(request.url, "http://kiosk");
  const sid = fault === "takes the id from the query"
    ? url.searchParams.get("sid") || cookies(request).sid : cookies(request).sid;
  const record = sessions.get(sid);
  const say = (status, value, headers = {}) => {
    response.writeHead(status, { "Content-Type": "application/json", "Cache-Control": "no-store",
      ...headers });
    response.end(JSON.stringify(value));
  };
  const text = await body(request);
  const key = `${request.method} ${url.pathname}`;
  if (key === "GET /") {
    response.writeHead(200, { "Content-Type": "text/html" });
    return response.end(page);
  }
  if (request.method === "POST" && foreign(request)) return say(403, { error: "foreign" });
  if (key === "POST /api/enter-session") {
    let given = {};
    try { given = JSON.parse(text); } catch { return say(400, {}); }
    if (given.username !== "alice" || given.password !== "correct horse battery") return say(401, {});
    if (fault !== "never ends the old one") sessions.delete(sid);
    const fresh = token();
    sessions.set(fresh, { user: "alice" });
    return say(200, { ok: true }, { "Set-Cookie":
      `sid=${fresh}; Path=/; HttpOnly${fault === "no samesite" ? "" : "; SameSite=Strict"}` });
  }
  if (!record) return say(401, { error: "sign in" });
  if (key === "GET /api/me") return say(200, { user: record.user, motto });
  if (key === "POST /api/motto") {
    try { motto = JSON.parse(text).motto; } catch { return say(400, {}); }
    if (fault === "saves the record again") sessions.set(sid, record);
    return say(200, { motto });
  }
  if (key === "POST /api/logout") {
    if (fault !== "forgets to delete") sessions.delete(sid);
    return say(200, { ok: true }, { "Set-Cookie": "sid=; Path=/; Max-Age=0",
      "Clear-Site-Data": '"cache", "storage"' });
  }
  return say(404, {});
}).listen(0, "127.0.0.1", function listening() { console.log(this.address().port); });
