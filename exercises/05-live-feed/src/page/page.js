// The dashboard. It reads the stream with fetch instead of EventSource, because that shows what
// EventSource hides: the status of the answer, the heartbeats, and events of every type.

const ROWS = 50;
const SECONDS = 60;
const LONGEST_SHOWN = 2000;
const LONGEST_PAUSE = 30_000;
/** Without any byte for so long a connection is taken for dead, until heartbeats tell how often they come. */
const FIRST_PATIENCE = 60_000;
const LEAST_PATIENCE = 5_000;

const $ = (id) => document.getElementById(id);
const parameters = new URLSearchParams(location.search);
const token = parameters.get("token");

// ---- the stream -------------------------------------------------------------------------------

/** Takes text as it comes, in pieces cut anywhere, and gives whole events. */
class Parser {
  constructor(onEvent, onComment, onRetry) {
    Object.assign(this, { onEvent, onComment, onRetry });
    this.rest = "";
    this.began = false;
    this.clear();
  }

  clear() {
    this.type = "";
    this.data = [];
    this.id = null;
  }

  feed(text) {
    if (!this.began && text) {
      this.began = true;
      text = text.replace(/^\uFEFF/, "");
    }
    // A CR at the end may be the first half of CR LF: it waits for what comes.
    const lines = (this.rest + text).split(/\r\n|\n|\r(?!$)/);
    this.rest = lines.pop();
    lines.forEach((line) => this.line(line));
  }

  line(line) {
    if (line === "") {
      if (this.data.length > 0) {
        this.onEvent({ id: this.id, type: this.type || "message", data: this.data.join("\n") });
      }
      this.clear();
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0) {
      this.onComment();
      return;
    }
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "data") this.data.push(value);
    else if (field === "event") this.type = value;
    else if (field === "id" && !value.includes("\0")) this.id = value;
    else if (field === "retry" && /^\d+$/.test(value)) this.onRetry(Number(value));
  }
}

let lastId = "";
let topic = parameters.get("topic") ?? "";
let retry = 2_000;
let failures = 0;
/** Ends what goes on now: a connection, or the pause before the next. Null when not watching. */
let watching = null;
let wakeUp = () => {};

/** Connects again and again until it is told to stop, or the server says that it is over. */
async function watch(signal) {
  while (!signal.aborted) {
    const outcome = await readStream(signal);
    if (signal.aborted) return;
    if (outcome.over) {
      show(outcome.state, outcome.text);
      watching = null;
      label();
      return;
    }
    failures += 1;
    const growing = Math.min(retry * 2 ** Math.min(failures - 1, 10), LONGEST_PAUSE);
    // Those who lost their connection together shall not come back together.
    const pause = Math.max(growing * (0.75 + Math.random() / 2), outcome.atLeast ?? 0);
    show("waiting", `${outcome.text}, trying again`);
    await pauseFor(pause, signal);
  }
}

async function readStream(signal) {
  show("connecting", lastId ? "connecting, to resume" : "connecting");
  const attempt = new AbortController();
  const stop = () => attempt.abort();
  signal.addEventListener("abort", stop);
  let patience = FIRST_PATIENCE;
  let heard = Date.now();
  const watchdog = setInterval(() => Date.now() - heard > patience && attempt.abort("silent"), 500);
  try {
    const query = new URLSearchParams();
    if (topic) query.set("topic", topic);
    if (token) query.set("token", token);
    const headers = { accept: "text/event-stream" };
    if (lastId) headers["last-event-id"] = lastId;
    const answer = await fetch(`/events?${query}`, { headers, cache: "no-store", signal: attempt.signal });
    if (answer.status !== 200) return await refusal(answer);

    const parser = new Parser(
      received,
      () => {
        // The silence before a heartbeat is what the server calls long.
        patience = Math.max(LEAST_PATIENCE, Math.min(FIRST_PATIENCE, 3 * (Date.now() - heard)));
      },
      (milliseconds) => { retry = milliseconds; },
    );
    const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
    const reader = answer.body.getReader();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return { text: "the stream ended" };
      show("connected", "connected");
      failures = 0;
      parser.feed(decoder.decode(value, { stream: true }));
      heard = Date.now();
    }
  } catch {
    return { text: attempt.signal.reason === "silent" ? "no sign of life" : "connection lost" };
  } finally {
    clearInterval(watchdog);
    signal.removeEventListener("abort", stop);
    attempt.abort();
  }
}

async function refusal(answer) {
  if (answer.status === 204) return { over: true, state: "finished", text: "finished: nothing more will come" };
  const problem = await answer.json().catch(() => ({}));
  const detail = problem.detail ?? `status ${answer.status}`;
  if (answer.status === 503 || answer.status >= 500) {
    const seconds = Number(answer.headers.get("retry-after"));
    return { text: detail, atLeast: seconds > 0 ? seconds * 1000 : 0 };
  }
  return { over: true, state: "refused", text: `refused: ${detail}` };
}

/** Waits, until the time is over, the browser is online again or the watching ends. */
function pauseFor(milliseconds, signal) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      wakeUp = () => {};
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    signal.addEventListener("abort", done);
    wakeUp = done;
  });
}

// ---- what is shown ----------------------------------------------------------------------------

let count = 0;
let missed = 0;
/** The latest events and gaps that are not in the table yet, oldest first. */
let fresh = [];
/** Events in each of the last seconds; the last is the one that runs. */
const seconds = new Array(SECONDS + 1).fill(0);
let drawing = null;

function received(event) {
  if (event.type === "reset" && event.id === null) {
    // The server does not know our last id: what came behind it may be gone.
    missed += 1;
    fresh.push({ gap: true, after: lastId });
  } else {
    if (event.id !== null) lastId = event.id;
    count += 1;
    seconds[SECONDS] += 1;
    fresh.push(event);
  }
  if (fresh.length > ROWS) fresh = fresh.slice(-ROWS);
  // However many come, the page is drawn some times a second only.
  drawing ??= setTimeout(draw, 50);
}

function draw() {
  drawing = null;
  $("count").textContent = count.toLocaleString("en");
  $("missed").textContent = String(missed);
  $("last-id").textContent = lastId || "–";
  const body = $("events");
  body.prepend(...fresh.map(row).reverse());
  fresh = [];
  while (body.rows.length > ROWS) body.lastElementChild.remove();
  $("table").hidden = body.rows.length === 0;
  $("none").hidden = !$("table").hidden;
}

function row(event) {
  const line = document.createElement("tr");
  // Said in words, because the style of narrow screens takes the table apart.
  line.setAttribute("role", "row");
  if (event.gap) {
    line.className = "gap";
    const cell = line.insertCell();
    cell.setAttribute("role", "cell");
    cell.colSpan = 4;
    cell.textContent = event.after
      ? `Events were missed here: the server no longer has what came behind ${event.after}.`
      : "Events were missed here.";
    return line;
  }
  line.dataset.id = event.id ?? "";
  const long = event.data.length > LONGEST_SHOWN;
  const data = long ? `${event.data.slice(0, LONGEST_SHOWN)}… (${event.data.length} characters)` : event.data;
  const cells = { time: time(event.id), type: event.type, data, id: event.id ?? "" };
  for (const [name, text] of Object.entries(cells)) {
    const cell = line.insertCell();
    cell.setAttribute("role", "cell");
    cell.className = name;
    cell.textContent = text;
  }
  return line;
}

/** An id begins with the milliseconds at which the event was published. */
function time(id) {
  const at = new Date(Number.parseInt(id ?? "", 10));
  return Number.isNaN(at.getTime()) ? "" : at.toLocaleTimeString();
}

function tick() {
  const last = seconds[SECONDS];
  seconds.shift();
  seconds.push(0);
  const whole = seconds.slice(0, SECONDS);
  const peak = Math.max(...whole);
  $("rate").textContent = last.toLocaleString("en");
  $("peak").textContent = peak.toLocaleString("en");
  const points = whole.map((number, at) => {
    const height = peak > 0 ? 19 * (number / peak) : 0;
    return `${((60 * at) / (SECONDS - 1)).toFixed(2)},${(19.5 - height).toFixed(2)}`;
  });
  $("spark-line").setAttribute("points", points.join(" "));
  $("spark-area").setAttribute("d", `M0,20 L${points.join(" L")} L60,20 Z`);
}

function show(state, text) {
  const status = $("status");
  // The same text again would be read out again.
  if (status.dataset.state !== state) status.dataset.state = state;
  if (status.textContent !== text) status.textContent = text;
}

function label() {
  $("connect").textContent = watching ? "Disconnect" : "Connect";
}

// ---- who watches ------------------------------------------------------------------------------

function start() {
  const wanted = $("topic").value.trim();
  if (wanted !== topic) {
    // Another topic is another list; its events begin now.
    topic = wanted;
    lastId = "";
    fresh = [];
    $("events").replaceChildren();
    draw();
    const query = new URLSearchParams(location.search);
    if (topic) query.set("topic", topic);
    else query.delete("topic");
    history.replaceState(null, "", query.size > 0 ? `?${query}` : location.pathname);
  }
  watching = new AbortController();
  failures = 0;
  label();
  watch(watching.signal);
}

function stop(text) {
  watching?.abort();
  watching = null;
  label();
  show("stopped", text);
}

$("watch").addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  const other = $("topic").value.trim() !== topic;
  const ran = watching !== null;
  if (ran) stop("not connected");
  // With the topic changed, the button (or Enter) means: watch that one.
  if (!ran || other) start();
});
addEventListener("online", () => wakeUp());
addEventListener("pagehide", () => watching && stop("not connected"));
addEventListener("pageshow", (shown) => shown.persisted && !watching && start());

$("topic").value = topic;
setInterval(tick, 1000);
tick();
start();
