// An SMSC on loopback, of npm smpp. What it does is one JSON object as argument (see smsc.py); what
// it sees comes out as one JSON object a line. A number's end says how its message is treated. What it
// takes is in the file `ledger`, if there is one, before it answers: it may be killed at any moment.
const fs = require("fs");
const smpp = require("smpp");

const how = JSON.parse(process.argv[2]);
const tell = (event, fields) => console.log(JSON.stringify({ event, ...fields }));
const options = how.key ? { key: fs.readFileSync(how.key), cert: fs.readFileSync(how.cert) } : {};
let given = how.ledger && fs.existsSync(how.ledger) ? lines(how.ledger) : 0;
let submitted = 0;
let refusedBinds = 0;

function lines(file) {
  return fs.readFileSync(file, "utf8").split("\n").length - 1;
}

const later = (work) => (how.slow_ms ? setTimeout(work, Math.random() * how.slow_ms) : work());
const hexadecimal = (n) => n.toString(16).padStart(8, "0");
const STATES = { DELIVRD: 2, UNDELIV: 5, ENROUTE: 1 };

function receipt(session, pdu, id) {
  const stat = pdu.destination_addr.endsWith("3333") ? "UNDELIV" : "DELIVRD";
  const said = how.receipt_ids === "decimal" ? parseInt(id, 16) : id;
  const options = how.tlv ? { receipted_message_id: id, message_state: STATES[stat] } : {};
  const text = how.tlv
    ? ""
    : `id:${said} sub:001 dlvrd:001 submit date:2601010000 done date:2601010001 stat:${stat}` +
      ` err:000 text:id:0 stat:ENROUTE ${pdu.short_message.message.slice(0, 20)}`;
  session.deliver_sm(
    { source_addr: pdu.destination_addr, esm_class: 4, short_message: text, ...options },
    (answer) => tell("receipt_answered", { id, status: answer.command_status }),
  );
}

function accept(session, pdu) {
  const id = hexadecimal(++given);
  if (how.ledger) {
    const taken = { to: `+${pdu.destination_addr}`, body: pdu.short_message.message };
    fs.appendFileSync(how.ledger, `${JSON.stringify(taken)}\n`);
  }
  later(() => session.send(pdu.response({ message_id: id })));
  if (pdu.registered_delivery & 1) setTimeout(receipt, how.receipt_ms, session, pdu, id);
}

// By the end of the number; any other is accepted.
const TREATMENTS = {
  "0000": (session, pdu) =>
    session.send(pdu.response({ command_status: smpp.ESME_RINVDSTADR })),
  9999: () => {},
  8888: (session, pdu) => setTimeout(accept, how.late_ms, session, pdu),
  5555: (session, pdu) => // the account is closed after one
    given ? session.send(pdu.response({ command_status: smpp.ESME_RINVPASWD })) : accept(session, pdu),
  7777: (session) => session.destroy(),
  6666: (session, pdu) => {
    accept(session, pdu);
    session.unbind();
  },
};

function submit(session, pdu) {
  const { udh, message } = pdu.short_message;
  tell("submit", {
    to: pdu.destination_addr,
    numbering: [pdu.dest_addr_ton, pdu.dest_addr_npi, pdu.source_addr_ton, pdu.source_addr_npi],
    from: pdu.source_addr,
    text: message,
    udh: udh ? udh.map((element) => [...element]) : null,
    esm_class: pdu.esm_class,
    data_coding: pdu.data_coding,
    validity: pdu.validity_period,
    receipt: pdu.registered_delivery,
  });
  submitted++;
  const number = pdu.destination_addr;
  const status = /40(\d{3})$/.exec(number); // …40088: the status 88
  if (how.throttle_every && submitted % how.throttle_every === 0)
    session.send(pdu.response({ command_status: smpp.ESME_RTHROTTLED }));
  else if (status) session.send(pdu.response({ command_status: +status[1] }));
  else later(() => (TREATMENTS[number.slice(-4)] || accept)(session, pdu));
}

// Brings what somebody wrote, again and again until we have it.
function bring(session, { udh, ...said }) {
  const message = udh
    ? { short_message: { udh: Buffer.from(udh, "hex"), message: said.short_message } }
    : {};
  session.deliver_sm({ source_addr_ton: 1, ...said, ...message }, (answer) => {
    tell("message_answered", { status: answer.command_status });
    if (answer.command_status) setTimeout(bring, how.receipt_ms, session, { udh, ...said });
  });
}

function bind(session, pdu) {
  const wrong = pdu.system_id !== "caf" || pdu.password !== "secret";
  const status = refusedBinds < how.refuse_binds ? how.bind_status : wrong ? how.wrong_status : 0;
  if (status === how.bind_status) refusedBinds++;
  tell("bind", { command: pdu.command, version: pdu.interface_version, status });
  session.send(pdu.response(status ? { command_status: status } : { system_id: "smsc" }));
  if (status) session.close();
  else {
    for (const raw of how.on_bind) session.socket.write(Buffer.from(raw, "hex"));
    for (const said of how.written) bring(session, said);
  }
}

const server = smpp.createServer(options, (session) => {
  session.on("error", () => {});
  session.on("close", () => tell("closed", {}));
  session.on("bind_transceiver", (pdu) => bind(session, pdu));
  session.on("submit_sm", (pdu) => submit(session, pdu));
  session.on("enquire_link", (pdu) => {
    tell("enquire", {});
    if (!how.mute) session.send(pdu.response());
  });
  session.on("generic_nack", (pdu) => tell("nack", { status: pdu.command_status }));
  session.on("deliver_sm_resp", (pdu) => tell("deliver_answered", { status: pdu.command_status }));
  session.on("unbind", (pdu) => {
    tell("unbind", {});
    session.send(pdu.response());
    session.close();
  });
});
server.listen(how.port, "127.0.0.1", () => tell("listening", { port: server.address().port }));
