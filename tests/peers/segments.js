// Splits texts with Twilio's npm package: a JSON list of texts on stdin; out comes, for each, what
// every SMS brings: its text, and its septets.
const { SegmentedMessage } = require("sms-segments-calculator");

const ofText = (segment) => [...segment].filter((one) => !one.isUserDataHeader);
const split = (text) =>
  new SegmentedMessage(text, "GSM-7").segments.map((segment) => [
    ofText(segment).map((letter) => letter.raw).join(""),
    ofText(segment).flatMap((letter) => letter.codeUnits),
  ]);
const texts = JSON.parse(require("fs").readFileSync(0, "utf8"));
process.stdout.write(JSON.stringify(texts.map(split)));
