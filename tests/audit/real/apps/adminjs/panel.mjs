// AdminJS with its own sign-in, as its documentation sets it up, and no tables.
import AdminJS from "adminjs";
import AdminJSExpress from "@adminjs/express";
import express from "express";

const [port, alice, mallory] = process.argv.slice(2);
const people = { alice, mallory };
const admin = new AdminJS({ rootPath: "/admin" });
const router = AdminJSExpress.buildAuthenticatedRouter(admin, {
  authenticate: async (email, password) => (people[email] === password ? { email } : null),
  cookieName: "adminjs",
  cookiePassword: "kept for one run on loopback 31b97c0d",
}, null, { resave: false, saveUninitialized: true, secret: "kept for one run on loopback 77" });
express().use(admin.options.rootPath, router).listen(Number(port), "127.0.0.1");
