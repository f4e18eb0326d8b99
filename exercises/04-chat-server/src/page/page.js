// The chat page: one room, over one WebSocket that is opened again whenever it is lost.
//
// What it relies on: `joined` answers our own join and carries the room's last number; after it come
// the messages above `since`, and then live ones. So the highest number seen is all it has to keep, and
// what is not above that was shown already. Answers come in the order in which they were asked for.

const $ = (id) => document.getElementById(id);

const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 15_000;
// A connection can die without a word, and a script cannot ping: so it asks who is there now and then.
const LOOK_EVERY = 20_000;
// How long to be quiet after too much was said.
const REST = 1_500;
const MOST_LINES = 2_000;

let session = null;

/** One stay in one room, over as many connections as it takes. */
class Session {
  constructor(name, room, token) {
    this.name = name;
    this.room = room;
    this.token = token;
    this.last = null; // the highest number seen; null before the first joined
    this.members = new Set();
    this.since = 0; // what the last join asked for
    this.asked = []; // what we sent and do not know the outcome of, in order: a line, or null for `who`
    this.adrift = false; // answers that come belong to something else than `asked`, until the next joined
    this.rest = 0; // the timer of the join that ends that
    this.failures = 0;
    this.over = false;
    this.timer = 0;
    this.heard = 0; // when something last came
    this.look = setInterval(() => this.isAlive(), LOOK_EVERY);
    this.connect();
  }

  isAlive() {
    if (!this.joined) return;
    if ((this.asked.length > 0 || this.adrift) && Date.now() - this.heard > LOOK_EVERY) {
      // Closing would wait for an answer as well.
      const silent = this.socket;
      silent.onclose({ code: 1006 });
      silent.close();
    } else if (!this.adrift) {
      this.who();
    }
  }

  address() {
    const url = new URL("ws", location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    url.search = "";
    url.hash = "";
    url.searchParams.set("name", this.name);
    if (this.token) url.searchParams.set("token", this.token);
    return url;
  }

  connect() {
    clearTimeout(this.timer);
    if (this.over || this.socket) return;
    state("connecting", this.last === null ? "Connecting …" : "Connecting again …");
    const socket = new WebSocket(this.address());
    this.socket = socket;
    this.joined = false;
    // 0 the first time: a room shows what was said before one came.
    socket.onopen = () => this.join(this.last ?? 0);
    socket.onmessage = ({ data }) => {
      this.heard = Date.now();
      if (socket === this.socket) this.receive(JSON.parse(data));
    };
    socket.onclose = ({ code }) => {
      if (socket !== this.socket || this.over) return;
      this.socket = null;
      this.joined = false;
      this.doubt();
      this.adrift = false;
      clearTimeout(this.rest);
      this.rest = 0;
      if (code === 1008) {
        this.end("gone", "Somebody else has this name by now.");
      } else if (this.last === null) {
        // A script is not told why a connection did not come about.
        this.end("refused", "Not let in: the server is away, somebody has this name, or the token is wrong.");
      } else {
        // Before we are let in again our name may seem taken: by our own connection that was lost.
        this.later(code === 1013 ? "too slow to keep up" : "connection lost");
      }
    };
  }

  /** Tries again after a pause that grows, and differs from everybody else's. */
  later(reason) {
    if (this.over) return;
    const pause = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** this.failures++);
    const wait = pause * (0.5 + Math.random() / 2);
    state("waiting", `Not connected (${reason}); trying again`);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.connect(), wait);
  }

  receive(frame) {
    const handler = {
      joined: () => this.onJoined(frame),
      left: () => this.onLeft(frame),
      message: () => this.onMessage(frame),
      members: () => this.onMembers(frame),
      error: () => this.onError(frame),
    }[frame.type];
    if (handler && (frame.room === undefined || frame.room === this.room)) handler();
  }

  onJoined({ name, seq }) {
    if (name !== this.name) {
      this.members.add(name);
      showMembers(this.members);
      note(`${name} joined`);
      return;
    }
    this.joined = true;
    this.failures = 0;
    this.last ??= 0;
    // Fewer messages than we have seen: the numbers began anew.
    if (seq < this.last) this.last = this.since > seq ? 0 : this.since;
    // Everything that was sent before this join is answered, unless there is yet another one to come.
    if (!this.rest) this.adrift = false;
    state("connected", "Connected");
    this.who();
  }

  onLeft({ name }) {
    if (name === this.name) return;
    this.members.delete(name);
    showMembers(this.members);
    note(`${name} left`);
  }

  onMessage({ from, text, seq, at }) {
    // What we said in this page is there already. It comes again when we join again, and then we know
    // that it arrived.
    if (from === this.name) {
      const line = shown(seq) ? null : arrived(text);
      if (line) {
        fate(line, "sent");
        line.dataset.seq = seq;
        this.last = Math.max(this.last, seq);
        return;
      }
    }
    if (seq <= this.last) return;
    this.last = seq;
    message(from, text, seq, at, from === this.name);
  }

  onMembers({ members }) {
    // What was said before this `who` was accepted.
    while (!this.adrift && this.asked.length > 0 && this.asked.shift() !== null);
    this.members = new Set(members);
    showMembers(this.members);
  }

  onError({ code, detail, oldest }) {
    if (code === "gap") {
      // Some are not kept any more: what follows begins with `oldest`. We may have seen them.
      if (oldest - 1 <= this.last) return;
      this.last = oldest - 1;
      note("Older messages are not kept any more.");
      return;
    }
    if (!this.joined) {
      if (code === "bad_room") return this.end("refused", detail);
      // The join was not done. Once more on a new connection.
      this.socket.close();
      return;
    }
    note(`Not done: ${detail}`);
    if (code === "rate_limited") {
      // It does not say what was dropped: a message, or the `who` after one that was accepted.
      this.doubt();
      this.adrift = true;
      clearTimeout(this.rest);
      this.rest = setTimeout(() => this.lookBack(), REST);
    } else if (!this.adrift) {
      const line = this.asked.shift();
      if (line) fate(line, code === "unavailable" ? "unsure" : "failed");
    }
  }

  /** Nobody knows what became of what we sent last. */
  doubt() {
    for (const line of this.asked.splice(0)) if (line) fate(line, "unsure");
  }

  /** Joins again for what was said since the first of our messages that may be lost. */
  lookBack() {
    this.rest = 0;
    this.doubt();
    const doubtful = [...$("log").querySelectorAll("li.mine[data-state=unsure]")];
    this.join(Math.min(this.last, ...doubtful.map((line) => Number(line.dataset.after))));
  }

  join(since) {
    this.since = since;
    this.send({ type: "join", room: this.room, since });
  }

  say(text) {
    const line = message(this.name, text, null, new Date().toISOString(), true);
    line.dataset.after = this.last ?? 0;
    if (this.joined && this.socket?.readyState === WebSocket.OPEN) {
      this.send({ type: "say", room: this.room, text });
      // The join that is to come looks for it.
      if (this.rest) return fate(line, "unsure");
      this.asked.push(line);
      // A message is answered only when it is refused; `who` is answered always, and after it.
      this.who();
    } else {
      fate(line, "failed");
    }
  }

  who() {
    this.send({ type: "who", room: this.room });
    this.asked.push(null);
  }

  send(frame) {
    this.socket.send(JSON.stringify(frame));
  }

  /** No more attempts. */
  end(kind, reason) {
    this.stop();
    state(kind, reason);
    $("problem").textContent = reason;
    show(false);
  }

  stop() {
    this.over = true;
    clearTimeout(this.timer);
    clearTimeout(this.rest);
    clearInterval(this.look);
    this.socket?.close(1000);
    session = null;
  }
}

// What is shown. Every text goes in as text, never as markup.

function state(kind, text) {
  document.body.dataset.state = kind;
  $("status").textContent = text;
}

function show(inside) {
  $("enter").hidden = inside;
  $("chat").hidden = !inside;
  $(inside ? "text" : "name").focus();
}

function element(kind, classes, text) {
  const made = document.createElement(kind);
  made.className = classes;
  made.textContent = text;
  return made;
}

function append(line) {
  const log = $("log");
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
  log.append(line);
  while (log.childElementCount > MOST_LINES) log.firstElementChild.remove();
  if (atEnd || line.classList.contains("mine")) log.scrollTop = log.scrollHeight;
  return line;
}

function message(from, text, seq, at, own) {
  const line = element("li", own ? "message mine" : "message", "");
  line.dataset.from = from;
  if (seq !== null) line.dataset.seq = seq;
  if (own) line.dataset.state = "sent";
  const time = element("time", "", new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
  time.dateTime = at;
  line.append(element("span", "who", from), element("span", "text", text), time);
  return append(line);
}

function note(text) {
  append(element("li", "note", text));
}

/** Marks what oneself said: sent, failed, or unsure (the connection was lost before we could know). */
function fate(line, kind) {
  line.dataset.state = kind;
  line.querySelector(".fate")?.remove();
  const told = { failed: "not sent", unsure: "may be lost" }[kind];
  if (told) line.append(element("span", "fate", told));
}

/** Whether a message with this number is there. */
function shown(seq) {
  return $("log").querySelector(`li.message[data-seq="${seq}"]`) !== null;
}

/** The line of ours with this text whose number we do not know yet; first one that may be lost. */
function arrived(text) {
  const lines = [...$("log").querySelectorAll("li.mine:not([data-seq]):not([data-state=failed])")];
  const same = lines.filter((line) => line.querySelector(".text").textContent === text);
  return same.find((line) => line.dataset.state === "unsure") ?? same[0];
}

function showMembers(members) {
  const names = [...members].sort();
  $("members").replaceChildren(...names.map((name) => element("li", "", name)));
  $("count").textContent = `(${names.length})`;
}

// What one can do.

$("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  $("problem").textContent = "";
  const [name, room, token] = ["name", "room", "token"].map((id) => $(id).value.trim());
  if (!name || !room) return;
  $("log").replaceChildren();
  showMembers([]);
  $("where").textContent = ` – ${room}`;
  show(true);
  session = new Session(name, room, token);
});

$("say").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value;
  if (!text.trim() || !session) return;
  session.say(text);
  $("text").value = "";
  $("text").focus();
});

$("leave").addEventListener("click", () => {
  session?.stop();
  state("out", "Not connected");
  $("where").textContent = "";
  show(false);
});

// Back from a tunnel or from sleep: no need to wait for the pause to end.
for (const event of ["online", "visibilitychange"]) {
  (event === "online" ? window : document).addEventListener(event, () => {
    if (document.visibilityState === "visible" && document.body.dataset.state === "waiting") {
      session?.connect();
    }
  });
}

const given = new URLSearchParams(location.search);
for (const id of ["name", "room", "token"]) {
  if (given.has(id)) $(id).value = given.get(id);
}
if (given.has("token")) $("more").open = true;
if (given.has("enter")) $("enter").requestSubmit();
else $("name").focus();
