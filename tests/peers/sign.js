// Signs a webhook with Twilio's own npm package: {token, url, params} on stdin, the signature out.
const { getExpectedTwilioSignature } = require("twilio");

const { token, url, params } = JSON.parse(require("fs").readFileSync(0, "utf8"));
process.stdout.write(getExpectedTwilioSignature(token, url, params));
