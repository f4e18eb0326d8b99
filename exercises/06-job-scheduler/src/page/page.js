"use strict";

const byId = (id) => document.getElementById(id);
const connection = byId("connection");
let led = null;

function say(text, kind) {
  connection.textContent = text;
  connection.className = kind;
}

function when(schedule) {
  if (schedule.cron) return `${schedule.cron} (${schedule.tz})`;
  if (schedule.every) return `every ${schedule.every}`;
  if (schedule.at) return `at ${schedule.at}`;
  return `after ${schedule.after}`;
}

function row(job) {
  const last = job.last;
  const cells = [
    job.name,
    when(job.schedule),
    job.service,
    job.state,
    job.next ? new Date(job.next).toLocaleString() : "",
    last ? `${last.state} (${new Date(last.scheduled_for).toLocaleTimeString()})` : "",
  ];
  const tr = document.createElement("tr");
  tr.dataset.job = job.name;
  for (const text of cells) {
    const td = document.createElement("td");
    td.textContent = text;
    tr.append(td);
  }
  if (last && last.state === "failed") {
    tr.lastChild.className = "failed";
    tr.lastChild.title = last.error;
  }
  return tr;
}

function show(status) {
  const { node, token } = status.leader;
  byId("leader").textContent = node ?? "nobody";
  byId("token").textContent = token === null ? "" : `token ${token}`;
  if (node !== null && led !== null && led !== token) {
    const li = document.createElement("li");
    li.textContent = `${new Date().toLocaleTimeString()}: ${node} took over with token ${token}`;
    byId("handovers").prepend(li);
  }
  if (token !== null) led = token;
  byId("jobs").replaceChildren(...status.jobs.map(row));
  byId("none").hidden = status.jobs.length > 0;
  byId("more").hidden = !status.more;
}

const events = new EventSource("status");
events.addEventListener("open", () => say("live", "live"));
events.addEventListener("error", () => say("connecting again", "away"));
events.addEventListener("status", (event) => {
  say("live", "live");
  show(JSON.parse(event.data));
});
events.addEventListener("away", (event) => say(JSON.parse(event.data).detail, "away"));
