// The client of the chat: enters, shows what is said, and comes back after a break.
"use strict";

const at = (id) => document.getElementById(id);
const LONGEST_WAIT = 8000; // ms between two tries

let socket = null;
let tries = 0;
let wanted = sessionStorage.getItem("name"); // the name that was asked for
let name = null; // the one that was given
let room = sessionStorage.getItem("room");
let last = null; // who spoke last, and when
let typed = 0;
const typing = new Map(); // by name, until when

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function dot(who) {
  let hue = 0;
  for (const character of who) hue = (hue * 31 + character.codePointAt(0) * 137) % 360;
  const made = element("span", "dot", [...who][0].toUpperCase());
  made.style.setProperty("--hue", hue);
  made.ariaHidden = "true";
  return made;
}

// ---- What is shown ----

function showStatus(text, lost) {
  at("status").textContent = text;
  at("status").classList.toggle("lost", lost);
  at("text").disabled = lost;
  at("say").querySelector("button").disabled = lost;
}

function showRooms(names) {
  if (!names.includes(room)) room = names[0];
  at("rooms").replaceChildren(...names.map((each) => {
    const button = element("button", "", each);
    button.type = "button";
    button.onclick = () => {
      if (each !== room) join(each);
    };
    return button;
  }));
}

function showRoom() {
  for (const button of at("rooms").children) {
    if (button.textContent === room) button.ariaCurrent = "true";
    else button.ariaCurrent = null;
  }
  at("text").placeholder = `Write to ${room}`;
}

function showPeople(people) {
  at("people").replaceChildren(...people.map((who) => {
    const item = element("li");
    item.append(dot(who), element("span", "", who === name ? `${who} (you)` : who));
    return item;
  }));
}

function append(item, always) {
  const list = at("messages");
  const low = list.scrollHeight - list.scrollTop - list.clientHeight < 80;
  list.append(item);
  if (low || always) list.scrollTop = list.scrollHeight;
}

function showNote(text) {
  last = null;
  append(element("li", "note", text));
}

function showSaid(said) {
  const mine = said.name === name;
  const follows = last && last.name === said.name && said.time - last.time < 120;
  const item = element("li", `${mine ? "mine" : ""} ${follows ? "follows" : ""}`.trim());
  const when = new Date(said.time * 1000);
  if (!follows) {
    const by = element("div", "by");
    const time = element("time", "", when.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
    time.dateTime = when.toISOString();
    by.append(element("b", "", mine ? "You" : said.name), time);
    item.append(by);
    if (!mine) item.append(dot(said.name));
  }
  item.append(element("div", "text", said.text));
  last = said;
  append(item, mine);
}

function showTyping() {
  const now = Date.now();
  for (const [who, until] of typing) if (until <= now) typing.delete(who);
  const names = [...typing.keys()];
  const are = names.length === 1 ? `${names[0]} is` : names.length < 4 ? `${names.join(", ")} are` : "Several people are";
  at("typing").textContent = names.length ? `${are} typing…` : "";
  if (names.length) setTimeout(showTyping, 1000);
}

// ---- What the server says ----

const handlers = {
  rooms(message) {
    showRooms(message.rooms);
    join(room);
  },
  welcome(message) {
    ({ name, room } = message);
    sessionStorage.setItem("room", room);
    last = null;
    typing.clear();
    showTyping();
    at("messages").replaceChildren();
    message.history.forEach(showSaid);
    at("messages").scrollTop = at("messages").scrollHeight;
    showRoom();
    showStatus("Connected", false);
    at("text").focus();
  },
  people(message) {
    if (message.name !== name) showNote(`${message.name} ${message.came ? "joined" : "left"}`);
    showPeople(message.people);
    if (!message.came && typing.delete(message.name)) showTyping();
  },
  said(message) {
    showSaid(message);
    if (typing.delete(message.name)) showTyping();
  },
  typing(message) {
    typing.set(message.name, Date.now() + 3000);
    showTyping();
  },
};

// ---- The connection ----

function say(message) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

function join(where) {
  say({ type: "join", name: wanted, room: where });
}

function connect() {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  showStatus(tries ? "Connecting again…" : "Connecting…", true);
  socket = new WebSocket(`${scheme}//${location.host}/chat`);
  socket.onmessage = (event) => {
    tries = 0;
    const message = JSON.parse(event.data);
    handlers[message.type]?.(message);
  };
  socket.onclose = () => {
    showPeople([]);
    const wait = Math.min(LONGEST_WAIT, 250 * 2 ** tries++) * (0.75 + Math.random() / 2);
    showStatus("Connection lost", true);
    setTimeout(connect, wait);
  };
}

function enter() {
  at("door").hidden = true;
  at("chat").hidden = false;
  connect();
}

at("enter").onsubmit = (event) => {
  event.preventDefault();
  wanted = at("name").value.trim();
  if (!wanted) return;
  sessionStorage.setItem("name", wanted);
  enter();
};

at("say").onsubmit = (event) => {
  event.preventDefault();
  const text = at("text").value.trim();
  if (text) say({ type: "say", text });
  at("text").value = "";
  typed = 0;
};

at("text").oninput = () => {
  if (Date.now() - typed > 1500) {
    typed = Date.now();
    say({ type: "typing" });
  }
};

if (wanted) enter();
else at("name").focus();
