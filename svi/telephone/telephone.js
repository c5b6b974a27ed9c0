// A telephone that calls this machine's Asterisk. Whatever is said, sent or named is shown as text.
import JsSIP from "/jssip.js";

const KEY_MS = 100;
const GAP_MS = 70;
const PRESSED_MS = 150;
const KEYS = /^[0-9*#]$/;
const HIDDEN = /[0-9a-f-]+\.local|(?<=^(?:c=|a=rtcp:9 )IN IP4 )0\.0\.0\.0/gm;
const ENDS = {
  abandoned: "l'appelant a raccroché",
  authenticated: "appelant identifié",
  closed: "fermé",
  failed: "panne",
  refused: "appelant non identifié",
  reset_requested: "nouveau mot de passe demandé",
  transferred: "passé à un conseiller",
};

const element = (id) => document.getElementById(id);
const status = (text) => {
  if (element("status").textContent !== text) element("status").replaceChildren(text); // said once
};
const page = [...crypto.getRandomValues(new Uint8Array(16))]
  .map((byte) => byte.toString(16).padStart(2, "0"))
  .join("");

let agent;
let call = null;
let lastLine;

// What happens in the call, and to telephones

function made(tag, kind, ...content) {
  const one = document.createElement(tag);
  one.className = kind;
  one.append(...content);
  return one;
}

function tell(kind, text) {
  const entry = made("li", kind, text);
  element("said").append(entry);
  entry.scrollIntoView({ block: "nearest" });
}

function listen() {
  let run;
  const events = new EventSource(`/events/${page}`);
  const on = (kind, act) =>
    events.addEventListener(kind, (event) => act(JSON.parse(event.data)));
  events.addEventListener("run", (event) => {
    if (run && run !== event.data) location.reload(); // another service, with another secret
    run = event.data;
  });
  on("said", ({ text }) => tell("said", text));
  on("keyed", ({ text }) => {
    element("typed").replaceChildren();
    tell("keyed", text);
  });
  on("ended", ({ text }) => tell("note", `Fin de l'appel : ${ENDS[text] ?? text}.`));
  on("sms", ({ to, from, text }) => {
    element("sms").prepend(made("li", "", made("p", "about", `De ${from} au ${spaced(to)}`), text));
  });
}

// Calling

function dial(line) {
  if (call || !agent.isConnected()) return;
  lastLine = line;
  const number = element("caller").value;
  const silence = quiet();
  call = agent.call(`sip:${line}@svi.invalid`, {
    // The caller's number, and as a name the page that what is said comes back to.
    extraHeaders: [`P-Asserted-Identity: "${page}" <sip:${number || "anonymous"}@svi.invalid>`],
    mediaStream: silence.stream, // no microphone is needed
    pcConfig: { iceServers: [] },
  });
  call.on("sdp", (event) => {
    // Browsers hide their address, by a name that Asterisk can't resolve or by zeros, which it takes
    // for a call on hold. With any other to begin with it finds them by the packets that they send.
    event.sdp = event.sdp.replaceAll(HIDDEN, "127.0.0.1");
  });
  call.on("confirmed", () => status(`En communication avec le ${spaced(line)}`));
  call.on("ended", () => end(silence, "Appel terminé"));
  call.on("failed", () => end(silence, "L'appel n'a pas abouti"));
  call.connection.addEventListener("track", ({ streams }) => {
    element("sound").srcObject = streams[0];
  });
  element("said").replaceChildren();
  status(`Appel du ${spaced(line)}…`);
  enable();
  element("keypad").focus();
}

// Silence to send: keys travel in its place.
function quiet() {
  const context = new AudioContext();
  const source = new ConstantSourceNode(context, { offset: 0 });
  const stream = context.createMediaStreamDestination();
  source.connect(stream);
  source.start();
  return stream;
}

function end(silence, text) {
  const focused = document.activeElement.closest(".telephone");
  call = null;
  silence.context.close();
  element("typed").replaceChildren();
  status(text);
  enable();
  if (focused) lineButton(lastLine).focus();
}

function hangUp() {
  if (call) call.terminate();
}

function press(key) {
  if (!call?.isEstablished()) return;
  call.sendDTMF(key, { duration: KEY_MS, interToneGap: GAP_MS, transportType: "RFC2833" });
  element("typed").append("•"); // it may be of a secret: only the voice server knows
  const button = [...element("keypad").children].find((one) => keyOf(one) === key);
  button.classList.add("pressed");
  setTimeout(() => button.classList.remove("pressed"), PRESSED_MS);
}

function enable() {
  const calling = Boolean(call);
  const ready = !calling && agent.isConnected();
  for (const button of element("lines").children) button.disabled = !ready;
  for (const button of element("keypad").children) button.disabled = !calling;
  element("hang-up").disabled = !calling;
  element("caller").disabled = calling;
}

// Keys of the telephone and of the computer

const keyOf = (button) => button.value || button.textContent;

function typedKey(event) {
  if (event.key === "*" || event.key === "#") return event.key;
  if (event.ctrlKey || event.altKey || event.metaKey) return "";
  // A French keyboard gives digits with shift only: the place of the key counts.
  const place = /^(?:Digit|Numpad)(\d)$/.exec(event.code);
  return place ? place[1] : KEYS.test(event.key) ? event.key : "";
}

function onKeydown(event) {
  if (!element("keyboard").checked || event.target.closest("select")) return;
  const key = typedKey(event);
  if (call && key && !event.repeat) press(key);
  else if (event.key === "Escape") hangUp();
  else if (event.key === "Enter" && !event.target.closest("button, input")) dial(lastLine);
  else return;
  event.preventDefault();
}

// The page

const lineButton = (line) =>
  [...element("lines").children].find((button) => button.value === line);

// 0612345678 or +33612345678 as people write it: 06 12 34 56 78.
const spaced = (number) =>
  number.replace(/^\+(33|262|590|594|596)/, "0").replace(/(?<=\d)(?=(\d\d)+$)/g, "\u00a0");

function show({ lines, dossiers }) {
  lastLine = lines[0].number;
  for (const { number, caisse } of lines) {
    const where = caisse && ` (caisse ${caisse})`;
    const button = made("button", "", `Appeler le ${spaced(number)}${where}`);
    button.type = "button";
    button.value = number;
    button.disabled = true;
    button.addEventListener("click", () => dial(number));
    element("lines").append(button);
  }
  for (const { department, number, password, name, mobile } of dossiers) {
    const facts = {
      Département: department,
      Numéro: number,
      "Mot de passe": password,
      Mobile: mobile ? spaced(mobile) : "aucun",
    };
    const terms = Object.entries(facts).flatMap(([term, fact]) => [
      made("dt", "", term),
      made("dd", "", fact),
    ]);
    element("people").append(made("li", "", made("h3", "", name), made("dl", "", ...terms)));
    if (mobile) element("caller").append(new Option(`le ${spaced(mobile)} (${name})`, mobile));
  }
}

function connect({ server, password }) {
  agent = new JsSIP.UA({
    sockets: [new JsSIP.WebSocketInterface(server)],
    uri: "sip:telephone@svi.invalid",
    password,
    register: false,
    user_agent: "svi",
    connection_recovery_max_interval: 5,
  });
  agent.on("connected", () => {
    status("Prêt à appeler");
    enable();
  });
  agent.on("disconnected", () => {
    hangUp();
    status("Le serveur vocal ne répond pas");
    enable();
  });
  agent.start();
}

for (const button of element("keypad").children) {
  button.addEventListener("click", () => press(keyOf(button)));
}
element("hang-up").addEventListener("click", hangUp);
document.addEventListener("keydown", onKeydown);
addEventListener("pagehide", hangUp);

const demonstration = await (await fetch("/demonstration.json")).json();
show(demonstration);
listen();
connect(demonstration.sip);
